"""Tasks that base networks are trained on: images, fields, batches and augmentations."""

from wsl.populations.tasks.augmentations import Augment, build_augmentation
from wsl.populations.tasks.batches import SampledBatches
from wsl.populations.tasks.images import mnist as mnist_images
from wsl.populations.tasks.tasks import (
    Classification,
    Examples,
    Fields,
    cifar10_gray,
    digits,
    digits_fields,
    logits,
    mnist,
    mnist_fields,
    task,
)

__all__ = [
    "Augment",
    "Classification",
    "Examples",
    "Fields",
    "SampledBatches",
    "build_augmentation",
    "cifar10_gray",
    "digits",
    "digits_fields",
    "logits",
    "mnist",
    "mnist_fields",
    "mnist_images",
    "task",
]
