"""What ``wsl init-compare`` is asked: by a recipe with its population, or by flags with the user's
own network and data.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from torch import nn

from wsl.cli.config import compose
from wsl.cli.kinds import check_arguments
from wsl.cli.networks import addressed, discover
from wsl.cli.population import open_or_build, population_name
from wsl.cli.served import check_outputs, cut, files_of, good_members, served, training_members
from wsl.cli.targets import ConfigError, choose
from wsl.generative import INITIALIZERS, Budget, Initializer, Larger, Start
from wsl.populations import Classification
from wsl.symmetry import SpecError
from wsl.zoo import Zoo, open_checkpoint

_KEPT = ("starts", "seeds", "steps", "lrs", "batch_size", "points", "target", "seed")


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Asked:
    """A comparison: what is known of the network, the starts by their label, and the budget.

    config, files: what the result depends on. target: an accuracy, or None.
    """

    start: Start
    data: Classification
    starts: Mapping[str, Initializer]
    budget: Budget
    seeds: int
    target: float | None
    output: Path
    config: Mapping[str, Any]
    files: Mapping[str, str | Path]


def asked_by_recipe(words: Sequence[str]) -> Asked:
    """``datasets=NAME ...``: the task and the members of a population."""
    config = compose("init_compare", words)
    starts = _starts(config["starts"])
    _check_ranges(config)
    zoo = open_or_build(config)
    start = _of_zoo(config, zoo)
    name = population_name(config)
    folder = config["output"] or f"runs/init-compare/{name}-{config['seed']}"
    kept = {"datasets": name, **{key: config[key] for key in ("quantile", *_KEPT)}}
    files = files_of(config, zoo)
    return _asked(config, start, starts, output=folder, kept=kept, files=files)


def asked_by_flags(options: argparse.Namespace) -> Asked:
    """``--model ... --data ...``: the user's own network and data."""
    config = {**vars(options), "lrs": _rates(options.lrs), "starts": _listed(options.starts)}
    starts = _starts(config["starts"])
    _check_ranges(config)
    start = _of_flags(options, starts)
    kept = {
        key: config[key]
        for key in ("model", "kwargs", "normalize", "larger", "larger_kwargs", *_KEPT)
    }
    files = _files(options)
    return _asked(config, start, starts, output=options.output, kept=kept, files=files)


def _rates(text: str) -> list[float]:
    try:
        return [float(rate) for rate in text.split(",")]
    except ValueError:
        raise ConfigError(f"--lrs {text!r}: numbers are needed, such as 0.001,0.01") from None


def _listed(text: str) -> Any:
    """What ``--starts`` describes."""
    try:
        return yaml.safe_load(f"[{text}]")
    except yaml.YAMLError:
        raise ConfigError(
            f"--starts {text!r}: cannot be read; write names with commas, with arguments as in "
            "'default,{ridge_head: {start: lsuv}}'"
        ) from None


def _files(options: argparse.Namespace) -> dict[str, str]:
    """The user's files that the result depends on."""
    larger = {"larger": options.larger_weights} if options.larger_weights else {}
    return {"data": options.data, **larger}


def _asked(
    config: Mapping[str, Any],
    start: Start,
    starts: Mapping[str, Initializer],
    *,
    output: str,
    kept: Mapping[str, Any],
    files: Mapping[str, str | Path],
) -> Asked:
    data = start.data
    if data is None:
        raise ConfigError("wsl init-compare scores networks by their accuracy; labels are needed")
    budget = Budget(**{key: config[key] for key in ("steps", "lrs", "batch_size", "points")})
    return Asked(
        start=start,
        data=data,
        starts=starts,
        budget=budget,
        seeds=config["seeds"],
        target=config["target"],
        output=Path(output),
        config=kept,
        files=files,
    )


def _starts(described: Any) -> dict[str, Initializer]:
    """The starts that a list describes, by their label; raises `ConfigError` for what is none."""
    found = {}
    for each in described or ():
        _check_arguments(each)
        text = each if isinstance(each, str) else yaml.safe_dump(each, default_flow_style=True)
        found[_label(each)] = _start(text.strip())
    if not found:
        raise ConfigError("starts is empty, but at least one is needed, such as default_init")
    return found


def _start(text: str) -> Initializer:
    table = {**INITIALIZERS, "default": INITIALIZERS["default_init"]}
    return choose(text, table, what="start", inside={"start": _start})


def _check_arguments(described: Any) -> None:
    """Raise `ConfigError` for an argument of the wrong kind, of a start or of one inside it."""
    for name, arguments in described.items() if isinstance(described, Mapping) else ():
        if name in INITIALIZERS and isinstance(arguments, Mapping):
            check_arguments(INITIALIZERS[name], arguments, str(name))
            _check_arguments(arguments.get("start"))


def _label(described: Any) -> str:
    """``ridge_head(start=retrieval)`` for ``{ridge_head: {start: retrieval}}``."""
    if isinstance(described, list):
        return f"[{len(described)}]"
    if not isinstance(described, Mapping):
        return str(described)
    ((name, arguments),) = [*described.items()][:1]
    if not isinstance(arguments, Mapping):
        return str(name)
    inside = ", ".join(f"{key}={_label(value)}" for key, value in arguments.items())
    return f"{name}({inside})" if inside else str(name)


def _check_ranges(config: Mapping[str, Any]) -> None:
    for key in ("seeds", "steps", "batch_size", "points"):
        if config[key] < 1:
            raise ConfigError(f"{key} is {config[key]}, but it must be at least 1")
    if not config["lrs"]:
        raise ConfigError("lrs is empty, but at least one learning rate is needed")
    for rate in config["lrs"]:
        if not 0 < rate < math.inf:
            raise ConfigError(f"lrs holds {rate:g}, but learning rates above 0 are needed")


def _of_zoo(config: Mapping[str, Any], zoo: Zoo) -> Start:
    known = served(config, zoo)
    data, model = known.data, known.make()
    check_outputs(model, data, str(zoo.path))
    members = training_members(zoo, known)
    return Start(
        model,
        spec=zoo.spec,
        seed=config["seed"],
        make=known.make,
        members=members,
        good=good_members(members, config["quantile"]),
        data=data,
    )


def _of_flags(options: argparse.Namespace, starts: Mapping[str, Initializer]) -> Start:
    def make() -> nn.Module:
        return addressed(options.model, options.kwargs).model

    data, model = cut(options.data, options.normalize), make()
    check_outputs(model, data, f"--data {options.data}")
    reads = any("spec" in each.needs for each in starts.values())
    spec = discover(model, ((data.train.images[:2],), {})) if reads else None
    larger = _larger(options, data) if options.larger else None
    return Start(model, spec=spec, seed=options.seed, make=make, data=data, larger=larger)


def _larger(options: argparse.Namespace, data: Classification) -> Larger:
    """The larger network with its weights; raises `ConfigError` for weights that are not its own.

    Its inputs are taken to be of the shape of the data, unless its address knows them.
    """
    if not options.larger_weights:
        raise ConfigError(
            "--larger names a network; its trained weights are given by --larger-weights FILE"
        )
    network = addressed(options.larger, options.larger_kwargs)
    spec = discover(network.model, network.inputs or ((data.train.images[:2],), {}))
    theta = spec.align_keys(open_checkpoint(options.larger_weights).choose()[0])
    try:
        spec.validate(theta)
    except SpecError as error:
        raise ConfigError(f"{options.larger_weights}: {error}") from None
    return Larger(theta, spec)
