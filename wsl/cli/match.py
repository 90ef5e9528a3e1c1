"""``wsl match A B -o OUT``: permute the units of B so that it comes as close to A as it can."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import yaml

from wsl.cli import checkpoints
from wsl.cli.results import result, write_json, write_with
from wsl.cli.targets import choose
from wsl.cli.terminal import say
from wsl.matching import MATCHERS, Matcher, WeightMatching, match
from wsl.params import Params
from wsl.symmetry import Permutation
from wsl.zoo import write_checkpoint


def run(arguments: Sequence[str]) -> None:
    """Match, write the aligned checkpoint, the permutation and the evidence."""
    parser = argparse.ArgumentParser(
        prog="wsl match", description="Bring checkpoint B to checkpoint A by permuting its units."
    )
    checkpoints.add_arguments(parser)
    add_matcher_arguments(parser)
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        help="aligned B as .safetensors; OUT.permutation.json and OUT.result.json beside it",
    )
    options = parser.parse_args(arguments)
    matcher = chosen_matcher(options)
    pair = checkpoints.load(options)
    found = match(pair.spec, pair.a, pair.b, matcher)
    aligned = found(pair.b)
    out = Path(options.output)
    before, after = distance(pair.a, pair.b), distance(pair.a, aligned)
    config = {"seed": options.seed, **described(options, "matcher")}
    head = result("match", config, {"a": options.a, "b": options.b})
    write_with(out, lambda path: write_checkpoint(path, aligned, pair.metadata))
    permutation = cast("Permutation", found.permutation)
    write_with(out.with_suffix(".permutation.json"), permutation.save)
    write_json(
        out.with_suffix(".result.json"),
        {
            **head,
            "objective": found.objective,
            "sweeps": found.sweeps,
            "converged": found.converged,
            "distance_before": before,
            "distance_after": after,
        },
    )
    say(
        f"{out}: distance {before:.4f} -> {after:.4f} in {found.sweeps} sweeps"
        + ("" if found.converged else ", NOT converged")
    )


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


def described(options: argparse.Namespace, flag: str) -> dict[str, Any]:
    """The description that a flag gave, for the result file; nothing where it was not given."""
    text = getattr(options, flag)
    if text is None:
        return {}
    is_file = text.endswith((".yaml", ".yml"))
    return {flag: yaml.safe_load(Path(text).read_text() if is_file else text)}


def distance(a: Params, b: Params) -> float:
    """L2 distance over the floating-point tensors."""
    return (
        sum(
            float((a[name].double() - b[name].double()).square().sum())
            for name in a
            if a[name].is_floating_point()
        )
        ** 0.5
    )
