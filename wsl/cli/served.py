"""How the networks of a zoo are built, and on which data they are scored.

    zoo=FILE                                          a zoo that a recipe built says both
    zoo=FILE model=my_code:Network data=train.npz     one of imported checkpoints says neither

The user's data are cut in three: what trains, what chooses, what scores.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from wsl.cli.evaluation import classes_of, read_data
from wsl.cli.networks import addressed
from wsl.cli.targets import ConfigError
from wsl.generative import TrainingMembers
from wsl.params import Params
from wsl.populations import Classification, build_architecture, task
from wsl.symmetry import SpecError
from wsl.zoo import Zoo

SEVERAL = 16
"""Good members that a zoo has at least, if it has so many."""

PARTS = (0.6, 0.2, 0.2)
"""Of the user's data: what trains, what chooses, what scores."""


@dataclasses.dataclass(frozen=True, eq=False)
class Served:
    """The networks of a zoo as something that can be run.

    make: builds one, freshly initialised. data: what scores it. about: the architecture and task
    that result files name; None for what the zoo does not say.
    """

    make: Callable[[], nn.Module]
    data: Classification
    about: Mapping[str, Any]


def served(config: Mapping[str, Any], zoo: Zoo) -> Served:
    """By the keys ``model``, ``kwargs``, ``data`` and ``normalize``, else by what the zoo says.

    Raises `ConfigError` that names what is missing, and for networks that are not the zoo's.
    """
    about = {"architecture": zoo.architecture, "task": zoo.provenance.get("task")}
    if config.get("data"):
        about["task"] = None
        data: Any = cut(config["data"], config.get("normalize"), flag="data=")
    elif about["task"] is None:
        raise ConfigError(
            f"{zoo.path} does not say its task; give labelled data to score networks on: "
            "data=train.npz"
        )
    else:
        data = task(about["task"], config["data_root"])
    if not isinstance(data, Classification):
        raise ConfigError(f"{zoo.path} holds no classifiers; networks are scored by accuracy")
    make = _maker(config, zoo)
    if config.get("data"):  # where networks have tasks of their own, a zoo's data have more classes
        check_outputs(make(), data, f"data={config['data']}")
    return Served(make, data, about)


def files_of(config: Mapping[str, Any], zoo: Zoo) -> dict[str, str | Path]:
    """The files that a result depends on: the zoo, and the user's data if there are any."""
    return {"zoo": zoo.path, **({"data": config["data"]} if config["data"] else {})}


def training_members(zoo: Zoo, known: Served) -> TrainingMembers:
    """Training members, their accuracy on the validation images as condition.

    The test images only score.
    """
    model, data = known.make(), known.data
    params, metadata = zoo.__getitems__(zoo.indices("train"))
    accuracy = data.evaluate(model, params, "val")["accuracy"]
    return TrainingMembers(
        params,
        accuracy[:, None],
        metadata["member"],
        reference=int(accuracy.argmax()),
        model=model,
        inputs=data.train.images,
        labels=data.train.labels,
    )


def good_members(members: TrainingMembers, quantile: float) -> Params:
    """The weights of those that reach a quantile of the members' quality, of `SEVERAL` at least.

    Arms average and mix them: of a small zoo's best one alone, all would be that one.
    """
    quality = members.quality
    several = quality.topk(min(SEVERAL, len(quality))).values[-1]
    return members.rows(quality >= torch.minimum(quality.quantile(quantile), several))


@torch.no_grad()
def check_outputs(model: nn.Module, data: Classification, where: str) -> None:
    """Raise `ConfigError` where a network cannot be run on ``data``, or has too few outputs."""
    images = data.train.images[:2]
    try:
        shape = model.eval()(images).shape
    except (RuntimeError, ValueError, IndexError, AttributeError, TypeError) as error:
        told = " ".join(str(error).split())[:200]
        raise ConfigError(
            f"{where}: inputs of shape {tuple(images.shape[1:])} cannot be read by the network "
            f"({told}); bring them to the shape that it takes"
        ) from None
    largest = max(int(part.labels.max()) for part in (data.train, data.val, data.test))
    if len(shape) != 2 or largest >= shape[1]:
        raise ConfigError(
            f"{where}: labels run to {largest}, but the network gives outputs of shape "
            f"{tuple(shape)}; a classifier of this task is needed, with labels that count from 0"
        )


def cut(path: str, normalize: str | None, *, flag: str = "--data ") -> Classification:
    """The user's data in three parts; which rows are in which depends on their number alone."""
    found = read_data(path, normalize, split="train")
    labels = classes_of(found.labels, f"{flag}{path}")
    total = len(labels)
    train, val = (int(share * total) for share in PARTS[:2])
    if not train or not val or total == train + val:
        raise ConfigError(f"{flag}{path}: {total} examples are too few to be cut in three")
    if int(labels.min()) == int(labels.max()):
        raise ConfigError(
            f"{flag}{path}: all labels are {int(labels[0])}; at least two classes are needed"
        )
    sizes = (train, val, total - train - val)
    return Classification.split(found.inputs, labels, sizes=sizes)


def _maker(config: Mapping[str, Any], zoo: Zoo) -> Callable[[], nn.Module]:
    if not config.get("model"):
        if zoo.architecture is None:
            raise ConfigError(f"{zoo.path} does not say how its networks are built; {_hint(zoo)}")
        architecture = zoo.architecture
        return lambda: build_architecture(architecture)
    text = str(config["model"])
    kwargs = None if config.get("kwargs") is None else json.dumps(config["kwargs"])

    def make() -> nn.Module:
        return addressed(text, kwargs).model

    try:
        zoo.spec.validate(make().state_dict())
    except SpecError as error:
        raise ConfigError(f"model={text} is not the network of {zoo.path}: {error}") from None
    return make


def _hint(zoo: Zoo) -> str:
    """What to type; the address that the checkpoints were imported with, if it is known."""
    known = zoo.provenance.get("import", {}).get("model") or "my_code:Network"
    return f"add model={known}, and kwargs='{{...}}' if it takes any"
