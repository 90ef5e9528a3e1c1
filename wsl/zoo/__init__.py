"""Zoos: one HDF5 file for a population of checkpoints, read in batches and written crash-safe.

>>> import pathlib, tempfile, torch, wsl
>>> folder = tempfile.TemporaryDirectory()
>>> models = [torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Linear(3, 2)) for _ in range(5)]
>>> spec = wsl.permutation_spec(models[0], torch.zeros(1, 4))
>>> path = pathlib.Path(folder.name) / "zoo.h5"
>>> zoo = Zoo.from_models(path, models, spec=spec, metadata={"accuracy": [0.5, 0.6, 0.7, 0.8, 0.9]})
>>> weights, about = zoo[4]
>>> weights["0.weight"].shape, about["accuracy"]
(torch.Size([3, 4]), 0.9)
>>> len(zoo.where("accuracy > 0.65")), str(zoo.spec).splitlines()[0]
(3, 'h1 = 3')
>>> folder.cleanup()

How populations are trained is the room `wsl.populations`. Zoo files and recipes name its parts as
``wsl.zoo.digits`` or ``wsl.zoo.architectures.mlp``, and these names go on working: they are looked
up there on first use.
"""

from __future__ import annotations

import importlib
from typing import Any

from wsl.base import Engine, cost, replacing, warn_uncompiled
from wsl.zoo import codecs, sources
from wsl.zoo.exchange import export, save, write_checkpoint
from wsl.zoo.file import ZooError
from wsl.zoo.opening import (
    CodedZoo,
    Collection,
    Concatenation,
    Resident,
    Zoo,
    concatenate,
    is_coded,
    open,
    save_coded,
)
from wsl.zoo.reading import (
    Expected,
    FoundCheckpoint,
    fit,
    open_checkpoint,
    read_checkpoint,
    with_prefix,
)
from wsl.zoo.rows import Checkpoints, Loader, Split, View, split_last
from wsl.zoo.sources import (
    Imported,
    ImportOptions,
    import_architectures,
    import_checkpoints,
)
from wsl.zoo.write import FileOptions, ZooWriter

__all__ = [
    "Checkpoints",
    "CodedZoo",
    "Collection",
    "Concatenation",
    "Engine",
    "Expected",
    "FileOptions",
    "FoundCheckpoint",
    "ImportOptions",
    "Imported",
    "Loader",
    "Resident",
    "Split",
    "View",
    "Zoo",
    "ZooError",
    "ZooWriter",
    "codecs",
    "concatenate",
    "cost",
    "export",
    "fit",
    "import_architectures",
    "import_checkpoints",
    "is_coded",
    "open",
    "open_checkpoint",
    "read_checkpoint",
    "replacing",
    "save",
    "save_coded",
    "sources",
    "split_last",
    "warn_uncompiled",
    "with_prefix",
    "write_checkpoint",
]

_POPULATIONS = (
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
    "MemberSettings",
    "Optimizer",
    "Processes",
    "Ray",
    "Recipe",
    "SampledBatches",
    "Schedule",
    "Serial",
    "SharedSettings",
    "Steps",
    "TaskPopulation",
    "Trained",
    "architectures",
    "build_architecture",
    "build_schedule",
    "cifar10_gray",
    "digits",
    "digits_fields",
    "initial_population",
    "mnist",
    "mnist_fields",
    "task",
    "train_population",
)
"""Names that live in `wsl.populations`, a layer above this one."""


def __getattr__(name: str) -> Any:
    if name in _POPULATIONS:
        return getattr(importlib.import_module("wsl.populations"), name)
    raise AttributeError(f"module 'wsl.zoo' has no attribute {name!r}")
