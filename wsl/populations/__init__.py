"""Populations of base networks: recipes, tasks, and stacked training into zoo files."""

from wsl.populations.architectures import build_architecture
from wsl.populations.classifiers import ClassifierPopulation
from wsl.populations.executors import Executor, Processes, Ray, Serial
from wsl.populations.fields import FieldPopulation
from wsl.populations.recipes import Recipe
from wsl.populations.stacked import (
    SGD,
    Adam,
    AdamW,
    Constant,
    Cosine,
    Optimizer,
    Schedule,
    Steps,
    Trained,
    build_schedule,
    initial_population,
    train_population,
)
from wsl.populations.tasks import (
    Augment,
    Classification,
    Fields,
    SampledBatches,
    cifar10_gray,
    digits,
    digits_fields,
    mnist,
    mnist_fields,
    mnist_images,
    task,
)
from wsl.populations.variations import TaskPopulation

__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "Augment",
    "Classification",
    "ClassifierPopulation",
    "Constant",
    "Cosine",
    "Executor",
    "FieldPopulation",
    "Fields",
    "Optimizer",
    "Processes",
    "Ray",
    "Recipe",
    "SampledBatches",
    "Schedule",
    "Serial",
    "Steps",
    "TaskPopulation",
    "Trained",
    "build_architecture",
    "build_schedule",
    "cifar10_gray",
    "digits",
    "digits_fields",
    "initial_population",
    "mnist",
    "mnist_fields",
    "mnist_images",
    "task",
    "train_population",
]
