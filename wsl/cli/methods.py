"""Merge methods on the command line: which one, from which base, and on what it measures.

--method ties                                       a name of the table
--method 'ties: {density: 0.5}'                     with arguments
--base BASE                                         what the members were fine-tuned from
--validation val.npz                                data for methods that look at some
--tune scale=0.1,0.3,1 --tune density=0.1,0.5       fields searched on the validation data
--statistics a.safetensors b.safetensors            measured by others; else on --validation
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import yaml

from wsl.cli.checkpoints import Loaded
from wsl.cli.evaluation import Labelled, evaluator, labelled_loss, read_data
from wsl.cli.targets import ConfigError, choose
from wsl.merging import (
    METHODS,
    STATISTICS,
    Measured,
    MergeMethod,
    Tuned,
    WithStatistics,
    load_statistics,
    tune,
)
from wsl.params import Params

_BATCH = 64


def add_method_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags that choose a method and give it what it needs."""
    parser.add_argument(
        "--method",
        metavar="TEXT",
        help=f"how to merge: {', '.join(METHODS)}, with arguments as in "
        "ties density=0.2, or {_target_: package.Class}, or a file .yaml",
    )
    parser.add_argument(
        "--base", metavar="FILE", help="the weights that all members were fine-tuned from"
    )
    parser.add_argument(
        "--validation",
        metavar="PATH",
        help="data that methods and --tune look at, in one of the forms of --data",
    )
    parser.add_argument(
        "--tune",
        metavar="FIELD=V,V,...",
        action="append",
        default=[],
        help="search a field of the method on the validation data",
    )
    parser.add_argument(
        "--statistics",
        metavar="FILE",
        nargs="+",
        default=[],
        help="statistics of each member, for fisher, regmean and gradient_matching",
    )


def check_method_arguments(options: argparse.Namespace) -> None:
    """Raise `ConfigError` for flags that do not go together."""
    if options.method is None:
        for flag in ("base", "validation", "tune", "statistics"):
            if getattr(options, flag):
                raise ConfigError(f"--{flag} serves a --method; name one, such as task_arithmetic")
    if options.tune and options.validation is None:
        raise ConfigError("--tune needs --validation: labelled data that are not the test data")
    if options.validation is not None and options.validation == options.data:
        raise ConfigError(
            "--validation and --data are the same; a score on what chose the result says nothing"
        )
    if options.statistics and not options.no_match:
        raise ConfigError(
            "--statistics are of the members as they are, and alignment moves them: add "
            "--no-match, or give --validation to measure after alignment"
        )
    for text in options.tune:
        tuned_field(text)


def chosen_method(options: argparse.Namespace, loaded: Loaded) -> MergeMethod:
    """The method of ``--method`` with what it needs, or raise `ConfigError` naming the flag."""

    def more(kind: Any) -> Mapping[str, Any]:
        return _looked_at(kind, options, loaded)

    trusted = options.trust_config
    method = choose(options.method, METHODS, what="method", trusted=trusted, more=more)
    if "base" in method.needs and options.base is None:
        raise ConfigError(
            f"{type(method).__name__} needs the weights that all members were fine-tuned from; "
            "give --base FILE"
        )
    return _with_statistics(method, options, loaded) if "statistics" in method.needs else method


def _looked_at(kind: Any, options: argparse.Namespace, loaded: Loaded) -> Mapping[str, Any]:
    """The arguments of a method that looks at data: a score, or a loss with batches."""
    fields = {field.name for field in dataclasses.fields(kind)}
    if "evaluate" in fields:
        return {"evaluate": validation_score(options, loaded, kind.__name__)}
    if {"loss", "batches"} <= fields:
        return _training(options, loaded, kind.__name__)
    return {}


def _with_statistics(method: Any, options: argparse.Namespace, loaded: Loaded) -> MergeMethod:
    """The method with the statistics of files, or with those that it measures itself."""
    name = type(method).__name__
    if options.statistics:
        return WithStatistics(method, [_read(path) for path in options.statistics])
    if options.validation is None:
        raise ConfigError(
            f"{name} needs statistics: give --validation PATH to measure them, or --statistics "
            "with a file for each member"
        )
    inputs = _data(options, name).inputs.split(_BATCH)
    measure, model = STATISTICS[method.measures], loaded.network()
    return Measured(method, lambda theta: measure(model, theta, inputs))


def tuned(
    options: argparse.Namespace,
    method: MergeMethod,
    members: Sequence[Mapping[str, Any]],
    *,
    base: Params | None,
    loaded: Loaded,
) -> Tuned:
    """The method with the best values of ``--tune``, for members that are aligned."""
    grid = dict(map(tuned_field, options.tune))
    score = validation_score(options, loaded, "--tune")
    try:
        return tune(method, members, score, grid=grid, base=base)
    except ValueError as error:
        raise ConfigError(f"--tune: {error}") from None


def validation_score(
    options: argparse.Namespace, loaded: Loaded, who: str
) -> Callable[[Params], float]:
    """Accuracy on the validation data, or the loss with its sign turned; more is better."""
    data = _data(options, who)
    evaluate = evaluator(loaded.network(), data, options.loss)

    def score(theta: Params) -> float:
        told = evaluate(theta)
        return told.get("accuracy", -told["loss"])

    return score


def without_base(loaded: Loaded) -> tuple[Loaded, Params]:
    """The members, and the base, which was read as the last of them."""
    members = dataclasses.replace(
        loaded,
        paths=loaded.paths[:-1],
        members=loaded.members[:-1],
        abouts=loaded.abouts[:-1],
    )
    return members, loaded.members[-1]


def _data(options: argparse.Namespace, who: str) -> Labelled:
    if options.validation is None:
        raise ConfigError(f"{who} looks at labelled data; give --validation PATH")
    return read_data(options.validation, options.normalize, split="train")


def _training(options: argparse.Namespace, loaded: Loaded, who: str) -> Mapping[str, Any]:
    """The loss of a batch, and batches, of the validation data."""
    data = _data(options, who)
    if data.labels is None:
        raise ConfigError("--validation has no labels; name them labels or targets")
    loss, batches = labelled_loss(loaded.network(), data, options.loss)
    return {"loss": loss, "batches": batches}


def _read(path: str) -> Params:
    try:
        return load_statistics(path)
    except ValueError as error:
        raise ConfigError(str(error)) from None


def tuned_field(text: str) -> tuple[str, list[Any]]:
    """The field of ``--tune`` and its values; raises `ConfigError` for text that is none."""
    name, equals, values = text.partition("=")
    if not equals or not values:
        raise ConfigError(f"--tune {text}: a field and its values are needed, as in scale=0.3,1")
    return name, [yaml.safe_load(value) for value in values.split(",")]
