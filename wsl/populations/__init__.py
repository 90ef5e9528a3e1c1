"""Populations of base networks: recipes, tasks, and stacked training into zoo files.

>>> import pathlib, tempfile
>>> recipe = ClassifierPopulation(
...     architecture={"_target_": "wsl.zoo.architectures.mlp", "widths": [64, 8, 10]},
...     task={"_target_": "wsl.zoo.digits"},
...     members=4,
...     steps=20,
...     snapshots=(0, 20),
...     batch_size=16,
...     lr=(1e-3, 1e-2),
... )
>>> with tempfile.TemporaryDirectory() as folder:
...     zoo = recipe.build(pathlib.Path(folder) / "digits.h5")
...     len(zoo), sorted(zoo.columns)[:3]
(8, ['data_fraction', 'init_scale', 'lr'])
"""

from wsl.populations.architectures import PerMember, build_architecture
from wsl.populations.classifiers import ClassifierPopulation
from wsl.populations.executors import Executor, Processes, Ray, Serial
from wsl.populations.fields import FieldPopulation
from wsl.populations.recipes import Recipe, Rows
from wsl.populations.stacked import (
    SGD,
    Adam,
    AdamW,
    Constant,
    Cosine,
    MemberSettings,
    Optimizer,
    Schedule,
    SharedSettings,
    Steps,
    Trained,
    build_optimizer,
    build_schedule,
    finite_members,
    initial_population,
    train_population,
)
from wsl.populations.tasks import (
    Augment,
    Classification,
    Examples,
    Fields,
    SampledBatches,
    build_augmentation,
    cifar10_gray,
    digits,
    digits_fields,
    logits,
    mnist,
    mnist_fields,
    mnist_images,
    task,
)
from wsl.populations.variations import TaskPopulation, TaskVariants, rotated

__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "Augment",
    "Classification",
    "ClassifierPopulation",
    "Constant",
    "Cosine",
    "Examples",
    "Executor",
    "FieldPopulation",
    "Fields",
    "MemberSettings",
    "Optimizer",
    "PerMember",
    "Processes",
    "Ray",
    "Recipe",
    "Rows",
    "SampledBatches",
    "Schedule",
    "Serial",
    "SharedSettings",
    "Steps",
    "TaskPopulation",
    "TaskVariants",
    "Trained",
    "build_architecture",
    "build_augmentation",
    "build_optimizer",
    "build_schedule",
    "cifar10_gray",
    "digits",
    "digits_fields",
    "finite_members",
    "initial_population",
    "logits",
    "mnist",
    "mnist_fields",
    "mnist_images",
    "rotated",
    "task",
    "train_population",
]
