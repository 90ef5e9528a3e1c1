"""``wsl match A B -o OUT``: permute the units of B so that it comes as close to A as weight
matching finds.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from wsl.cli import checkpoints
from wsl.cli.results import result, write_json, write_with
from wsl.cli.terminal import say
from wsl.matching import WeightMatching, match
from wsl.params import Params
from wsl.zoo import write_checkpoint


def run(arguments: Sequence[str]) -> None:
    """Match, write the aligned checkpoint, the permutation and the evidence."""
    parser = argparse.ArgumentParser(
        prog="wsl match", description="Bring checkpoint B to checkpoint A by permuting its units."
    )
    checkpoints.add_arguments(parser)
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        help="aligned B as .safetensors; OUT.permutation.json and OUT.result.json beside it",
    )
    options = parser.parse_args(arguments)
    pair = checkpoints.load(options)
    found = match(pair.spec, pair.a, pair.b, WeightMatching(seed=options.seed))
    aligned = found.permutation(pair.b)
    out = Path(options.output)
    before, after = distance(pair.a, pair.b), distance(pair.a, aligned)
    head = result("match", {"seed": options.seed}, {"a": options.a, "b": options.b})
    write_with(out, lambda path: write_checkpoint(path, aligned, pair.metadata))
    write_with(out.with_suffix(".permutation.json"), found.permutation.save)
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
