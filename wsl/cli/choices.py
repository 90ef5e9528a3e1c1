"""The flags by which matchers and merge methods are chosen."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any, TypeVar, cast

import yaml

from wsl.cli.checkpoints import Loaded
from wsl.cli.evaluation import labelled_loss, matching_data, unlabelled
from wsl.cli.targets import ConfigError, choose
from wsl.matching import (
    MANY,
    MATCHERS,
    ActivationMatching,
    CircuitMatching,
    ManyMatcher,
    Matcher,
    WeightMatching,
    large,
)
from wsl.symmetry import PermutationSpec

M = TypeVar("M")


def add_matcher_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags that say how checkpoints are aligned."""
    parser.add_argument(
        "--matcher",
        metavar="TEXT",
        help=f"how to align: {', '.join(MATCHERS)}, with arguments as in weight seed=1, "
        "or {_target_: package.Class}, or a file .yaml; --seed is then not used for it",
    )
    parser.add_argument(
        "--match-data",
        metavar="PATH",
        help="labelled data that a matcher with a loss (ste, sinkhorn) trains on, in one of the "
        "forms of --data; the loss is that of --loss",
    )
    parser.add_argument(
        "--trust-config",
        action="store_true",
        help="run classes that are named by _target_, from any package",
    )


def chosen_matcher(options: argparse.Namespace) -> Matcher:
    """The matcher of ``--matcher``, weight matching unless told.

    A loss that a matcher needs is put in its place by `with_inputs`.
    """
    matcher = WeightMatching(seed=options.seed)
    if options.matcher is not None:
        matcher = _matcher(options, options.matcher)
    if options.match_data:
        _check_match_data(matcher)
    return matcher


def _matcher(options: argparse.Namespace, text: str) -> Matcher:
    def more(kind: Any) -> dict[str, Any]:
        known = dataclasses.fields(kind) if dataclasses.is_dataclass(kind) else ()
        fields = {field.name: field for field in known}
        if not {"loss", "batches"} <= fields.keys():
            return {}
        needed = fields["loss"].default is dataclasses.MISSING
        return {"loss": _later, "batches": (None,)} if needed or options.match_data else {}

    return choose(text, MATCHERS, what="matcher", trusted=options.trust_config, more=more)


def _later(*_: Any) -> Any:
    """Stands for a loss until the network and the data are known."""
    raise ConfigError("the matcher needs a loss; give --match-data PATH")


def _check_match_data(matcher: Any) -> None:
    if "loss" not in matcher.needs:
        raise ConfigError(
            "--match-data serves a matcher that knows a loss, such as ste, but "
            f"{type(matcher).__name__} knows none"
        )


def suited(matcher: Matcher, options: argparse.Namespace, spec: PermutationSpec) -> Matcher:
    """The matcher; unless one was named, circuits for a specification with rotary phases."""
    if (
        options.matcher is None
        and large.has_rotations(spec)
        and isinstance(matcher, WeightMatching)
    ):
        return CircuitMatching(weights=matcher)
    return matcher


def with_inputs(matcher: M, options: argparse.Namespace, loaded: Loaded) -> M:
    """The matcher, with inputs, a network and a loss where it needs them and has none.

    The inputs are those of ``--inputs-data``, else of ``--data``, else those of the task that the
    files name; of a data set with training images, those. A loss is that of `matching_data`.
    Matchers inside others get theirs too. Raises `ConfigError` if there is none.
    """
    made = cast("Any", matcher)
    if (inner := getattr(matcher, "matcher", None)) is not None:
        return dataclasses.replace(made, matcher=with_inputs(inner, options, loaded))
    if getattr(matcher, "loss", None) is _later:
        return _with_loss(made, options, loaded)
    if not isinstance(matcher, ActivationMatching) or matcher.inputs is not None:
        return matcher
    model = matcher.model or loaded.network()
    return dataclasses.replace(matcher, inputs=unlabelled(options, loaded), model=model)


def _with_loss(matcher: Any, options: argparse.Namespace, loaded: Loaded) -> Any:
    data = matching_data(options, loaded, type(matcher).__name__)
    loss, batches = labelled_loss(loaded.network(), data, options.loss)
    return dataclasses.replace(matcher, loss=loss, batches=batches)


def chosen_many(options: argparse.Namespace) -> ManyMatcher | None:
    """The method of ``--match-all``; None where it was not given."""
    if options.match_all is None:
        return None
    inside = {"matcher": lambda text: _matcher(options, text)}
    trusted = options.trust_config
    many = choose(options.match_all, MANY, what="match-all", trusted=trusted, inside=inside)
    if options.match_data:
        _check_match_data(many)
    return many


def described(options: argparse.Namespace, flag: str) -> dict[str, Any]:
    """The description that a flag gave, for the result file; nothing where it was not given."""
    text = getattr(options, flag)
    if text is None:
        return {}
    is_file = text.endswith((".yaml", ".yml"))
    content = yaml.safe_load(Path(text).read_text() if is_file else text)
    told = {flag: content}
    if flag in ("matcher", "match_all"):
        if "activation" in str(content).lower():
            told["matcher_inputs"] = options.inputs_data or options.data
        if options.match_data:
            told["matcher_data"] = options.match_data
    return told
