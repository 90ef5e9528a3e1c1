"""The flags by which matchers and merge methods are chosen."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import yaml

from wsl.cli.targets import choose
from wsl.matching import MANY, MATCHERS, ManyMatcher, Matcher, WeightMatching


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
    return {flag: yaml.safe_load(Path(text).read_text() if is_file else text)}
