"""Populations of checkpoints: one HDF5 file each, read in batches and written crash-safe; trained as stacked members."""

from wsl.zoo import architectures, sources
from wsl.zoo.architectures import build_architecture
from wsl.zoo.atomic import replacing
from wsl.zoo.augmentations import Augment
from wsl.zoo.batches import SampledBatches
from wsl.zoo.checkpoints import Checkpoints, View
from wsl.zoo.classifiers import ClassifierPopulation
from wsl.zoo.convert import export, read_checkpoint, write_checkpoint
from wsl.zoo.dataset import Zoo
from wsl.zoo.engine import Engine, cost, warn_uncompiled
from wsl.zoo.error import ZooError
from wsl.zoo.executors import Executor, Processes, Ray, Serial
from wsl.zoo.fields import FieldPopulation
from wsl.zoo.importer import Imported, import_checkpoints
from wsl.zoo.loader import Loader
from wsl.zoo.optimizers import SGD, Adam, AdamW, Optimizer
from wsl.zoo.population import Trained, train_population
from wsl.zoo.recipes import Recipe
from wsl.zoo.save import save
from wsl.zoo.schedules import Constant, Cosine, Schedule, Steps, build_schedule
from wsl.zoo.several import Collection, Concatenation, Resident, concatenate, open
from wsl.zoo.start import initial_population
from wsl.zoo.tasks import Classification, Fields, cifar10_gray, digits, digits_fields, mnist, mnist_fields, task
from wsl.zoo.variations import TaskPopulation
from wsl.zoo.writer import ZooWriter

__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "Augment",
    "Checkpoints",
    "Classification",
    "ClassifierPopulation",
    "Collection",
    "Concatenation",
    "Constant",
    "Cosine",
    "Engine",
    "Executor",
    "FieldPopulation",
    "Fields",
    "Imported",
    "Loader",
    "Optimizer",
    "Processes",
    "Ray",
    "Recipe",
    "Resident",
    "SampledBatches",
    "Schedule",
    "Serial",
    "Steps",
    "TaskPopulation",
    "Trained",
    "View",
    "Zoo",
    "ZooError",
    "ZooWriter",
    "architectures",
    "build_architecture",
    "build_schedule",
    "cifar10_gray",
    "concatenate",
    "cost",
    "digits",
    "digits_fields",
    "export",
    "import_checkpoints",
    "initial_population",
    "mnist",
    "mnist_fields",
    "open",
    "read_checkpoint",
    "replacing",
    "save",
    "sources",
    "task",
    "train_population",
    "warn_uncompiled",
    "write_checkpoint",
]
