"""Populations of checkpoints: one HDF5 file each, read in batches and written crash-safe; trained as stacked members."""

from wsl.zoo import architectures, sources
from wsl.zoo.architectures import build_architecture
from wsl.zoo.atomic import replacing
from wsl.zoo.checkpoints import Checkpoints, View
from wsl.zoo.classifiers import ClassifierPopulation
from wsl.zoo.convert import export, read_checkpoint, write_checkpoint
from wsl.zoo.dataset import Zoo
from wsl.zoo.error import ZooError
from wsl.zoo.fields import FieldPopulation
from wsl.zoo.importer import Imported, import_checkpoints
from wsl.zoo.loader import Loader
from wsl.zoo.optimizers import SGD, AdamW, Optimizer
from wsl.zoo.population import SampledBatches, Trained, initial_population, train_population
from wsl.zoo.recipes import Recipe
from wsl.zoo.save import save
from wsl.zoo.several import Collection, Concatenation, Resident, concatenate, open
from wsl.zoo.tasks import Classification, Fields, digits, digits_fields, task
from wsl.zoo.writer import ZooWriter

__all__ = [
    "SGD",
    "AdamW",
    "Checkpoints",
    "Classification",
    "ClassifierPopulation",
    "Collection",
    "Concatenation",
    "FieldPopulation",
    "Fields",
    "Imported",
    "Loader",
    "Optimizer",
    "Recipe",
    "Resident",
    "SampledBatches",
    "Trained",
    "View",
    "Zoo",
    "ZooError",
    "ZooWriter",
    "architectures",
    "build_architecture",
    "concatenate",
    "digits",
    "digits_fields",
    "export",
    "import_checkpoints",
    "initial_population",
    "open",
    "read_checkpoint",
    "replacing",
    "save",
    "sources",
    "task",
    "train_population",
    "write_checkpoint",
]
