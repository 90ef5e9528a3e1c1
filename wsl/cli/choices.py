"""The flags by which matchers and merge methods are chosen."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any, TypeVar

import yaml

from wsl.cli.checkpoints import Loaded
from wsl.cli.evaluation import unlabelled
from wsl.cli.targets import choose
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
        help=f"how to align: {', '.join(MATCHERS)}, with arguments as in 'weight: {{seed: 1}}', "
        "or {_target_: package.Class}, or a file .yaml; --seed is then not used for it",
    )
    parser.add_argument(
        "--trust-config",
        action="store_true",
        help="run classes that are named by _target_, from any package",
    )


def chosen_matcher(options: argparse.Namespace) -> Matcher:
    """The matcher of ``--matcher``, weight matching unless told."""
    if options.matcher is None:
        return WeightMatching(seed=options.seed)
    return choose(options.matcher, MATCHERS, what="matcher", trusted=options.trust_config)


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
    """The matcher, with inputs and a network where it needs them and has none.

    The inputs are those of ``--inputs-data``, else of ``--data``, else those of the task that the
    files name; of a data set with training images, those. Raises `ConfigError` if there are none.
    """
    if not isinstance(matcher, ActivationMatching) or matcher.inputs is not None:
        return matcher
    model = matcher.model or loaded.network()
    return dataclasses.replace(matcher, inputs=unlabelled(options, loaded), model=model)


def chosen_many(options: argparse.Namespace) -> ManyMatcher | None:
    """The method of ``--match-all``; None where it was not given."""
    if options.match_all is None:
        return None
    return choose(options.match_all, MANY, what="match-all", trusted=options.trust_config)


def described(options: argparse.Namespace, flag: str) -> dict[str, Any]:
    """The description that a flag gave, for the result file; nothing where it was not given."""
    text = getattr(options, flag)
    if text is None:
        return {}
    is_file = text.endswith((".yaml", ".yml"))
    content = yaml.safe_load(Path(text).read_text() if is_file else text)
    if flag == "matcher" and "activation" in str(content).lower():
        return {flag: content, "matcher_inputs": options.inputs_data or options.data}
    return {flag: content}
