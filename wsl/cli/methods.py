"""Merge methods on the command line: which one, from which base, and on what it measures.

--method ties                                       a name of the table
--method 'ties: {density: 0.5}'                     with arguments
--base BASE                                         what the members were fine-tuned from
--validation val.npz                                data for methods that look at some
--tune 'scale=0.1,0.3,1' --tune density=0.1,0.5     fields searched on the validation data
--statistics a.safetensors b.safetensors            measured by others; else on --validation
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import yaml
from torch import Tensor

from wsl.cli.checkpoints import Loaded
from wsl.cli.evaluation import LOSSES, Labelled, evaluator, read_data
from wsl.cli.targets import ConfigError, choose
from wsl.merging import METHODS, Measured, MergeMethod, Tuned, tune
from wsl.merging.statistics import fisher, input_products, load_statistics
from wsl.params import Params, call

_MEASURES = {"fisher": fisher, "input_products": input_products}
_BATCH = 64


def add_method_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags that choose a method and give it what it needs."""
    parser.add_argument(
        "--method",
        metavar="TEXT",
        help=f"how to merge: {', '.join(METHODS)}, with arguments as in "
        "'average: {weights: [1, 2]}', or {_target_: package.Class}, or a file .yaml",
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


class Prepared:
    """The method of the flags, with the base, and what a search found."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.tuned = options, None
        self.grid = dict(_field(text) for text in options.tune)

    def method(self, loaded: Loaded) -> MergeMethod:
        """Built with what it needs; raises `ConfigError` naming the flag that is missing."""

        def more(kind: Any) -> Mapping[str, Any]:
            fields = [f.name for f in dataclasses.fields(kind)] if isinstance(kind, type) else []
            if "evaluate" in fields:
                return {"evaluate": self.score(loaded, kind.__name__)}
            if {"loss", "batches"} <= set(fields):
                return self._training(loaded, kind.__name__)
            return {}

        options = self.options
        method = choose(
            options.method, METHODS, what="method", trusted=options.trust_config, more=more
        )
        self._check_base(method)
        if "statistics" not in method.needs:
            return method
        if options.statistics:
            return _Given(method, [_read(path) for path in options.statistics])
        return self._on(loaded, method)

    def search(
        self, method: MergeMethod, members: Sequence[Params], base: Params | None, loaded: Loaded
    ) -> Params:
        """The network of the best values of ``--tune``, on members that are aligned."""
        found = tune(method, members, self.score(loaded, "--tune"), grid=self.grid, base=base)
        self.tuned = found
        return found.params

    def score(self, loaded: Loaded, who: str) -> Callable[[Params], float]:
        """Accuracy on the validation data, or the loss with its sign turned."""
        evaluate = evaluator(loaded.network(), self._data(who), self.options.loss)

        def score(theta: Params) -> float:
            told = evaluate(theta)
            return told.get("accuracy", -told["loss"])

        return score

    def told(self) -> dict[str, Any]:
        """For the result file: what was searched and found."""
        if not isinstance(self.tuned, Tuned):
            return {}
        chosen = {name: getattr(self.tuned.method, name) for name in self.grid}
        return {"tuned": chosen, "validation_score": self.tuned.score}

    def _data(self, who: str) -> Labelled:
        if self.options.validation is None:
            raise ConfigError(f"{who} looks at labelled data; give --validation PATH")
        data = read_data(self.options.validation, self.options.normalize, split="train")
        if data.labels is None:
            raise ConfigError("--validation has no labels; name them labels or targets")
        return data

    def _training(self, loaded: Loaded, who: str) -> Mapping[str, Any]:
        data, model = self._data(who), loaded.network()
        labels = data.labels if data.labels is not None else data.inputs
        pairs = list(zip(data.inputs.split(_BATCH), labels.split(_BATCH), strict=True))
        kind = LOSSES[self.options.loss]
        return {"loss": lambda theta, b: kind(call(model, theta, b[0]), b[1]), "batches": pairs}

    def _on(self, loaded: Loaded, method: Any) -> MergeMethod:
        """With statistics of the inputs of the validation data."""
        if self.options.validation is None:
            raise ConfigError(
                f"{type(method).__name__} needs statistics: give --validation PATH to measure "
                "them, or --statistics FILE for each member"
            )
        inputs = read_data(self.options.validation, self.options.normalize, split="train").inputs
        measure, model = _MEASURES[method.measures], loaded.network()
        return Measured(method, lambda theta: measure(model, theta, inputs.split(_BATCH)))

    def _check_base(self, method: MergeMethod) -> None:
        if "base" in method.needs and self.options.base is None:
            raise ConfigError(
                f"{type(method).__name__} needs the weights that all members were fine-tuned "
                "from; give --base FILE"
            )


@dataclasses.dataclass(frozen=True)
class _Given:
    """A method with the statistics that files gave."""

    method: MergeMethod
    statistics: Sequence[Params]

    @property
    def needs(self) -> frozenset[str]:  # type: ignore[override]
        return self.method.needs - {"statistics", "base statistics"}

    def solve(
        self,
        members: Sequence[Mapping[str, Tensor]],
        *,
        base: Mapping[str, Tensor] | None = None,
        statistics: Any = None,  # noqa: ARG002 - one signature for all methods
    ) -> Params:
        return self.method.solve(members, base=base, statistics=self.statistics)


def split_base(loaded: Loaded) -> tuple[Loaded, Params]:
    """The members without the base, which was read as the last of them."""
    members = dataclasses.replace(
        loaded,
        paths=loaded.paths[:-1],
        members=loaded.members[:-1],
        abouts=loaded.abouts[:-1],
    )
    return members, loaded.members[-1]


def _read(path: str) -> Params:
    try:
        return load_statistics(path)
    except ValueError as error:
        raise ConfigError(str(error)) from None


def _field(text: str) -> tuple[str, list[Any]]:
    name, equals, values = text.partition("=")
    if not equals or not values:
        raise ConfigError(f"--tune {text}: a field and its values are needed, as in scale=0.3,1")
    return name, [yaml.safe_load(value) for value in values.split(",")]
