"""``wsl merge A B -o OUT``: align B to A, average, repair batch-norm statistics, write one
checkpoint with its provenance.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from wsl.cli import checkpoints
from wsl.cli.connect import resetter
from wsl.cli.results import result, write_json, write_with
from wsl.cli.targets import ConfigError
from wsl.cli.terminal import say
from wsl.connectivity import lerp
from wsl.matching import WeightMatching, match
from wsl.zoo import write_checkpoint


def run(arguments: Sequence[str]) -> None:
    """Write OUT and OUT.result.json."""
    parser = argparse.ArgumentParser(
        prog="wsl merge", description="Align and average two checkpoints."
    )
    checkpoints.add_arguments(parser)
    parser.add_argument("-o", "--output", required=True, help="merged checkpoint, .safetensors")
    parser.add_argument("-t", "--weight", type=float, default=0.5, help="weight of B in [0, 1]")
    parser.add_argument(
        "--no-match", action="store_true", help="average as they are, without alignment"
    )
    parser.add_argument(
        "--reset-batch-norm",
        action="store_true",
        help="recompute batch-norm statistics on training data",
    )
    options = parser.parse_args(arguments)
    if not 0 <= options.weight <= 1:
        raise ConfigError(f"--weight must lie in [0, 1], got {options.weight}")
    pair = checkpoints.load(options)
    b = (
        pair.b
        if options.no_match
        else match(pair.spec, pair.a, pair.b, WeightMatching(seed=options.seed)).permutation(pair.b)
    )
    merged = lerp(pair.a, b, options.weight)
    merged = resetter(pair)(merged) if options.reset_batch_norm else merged
    kept = {
        name: getattr(options, name) for name in ("weight", "no_match", "reset_batch_norm", "seed")
    }
    head = result("merge", kept, {"a": options.a, "b": options.b})
    scores = _scores(pair, merged) if pair.model is not None and "task" in pair.metadata else {}
    out = Path(options.output)
    write_with(
        out,
        lambda path: write_checkpoint(
            path, merged, {**pair.metadata, "wsl_merge": json.dumps(head)}
        ),
    )
    write_json(out.with_suffix(".result.json"), {**head, **scores})
    say(
        f"{out}: "
        + (
            f"test accuracy {scores['accuracy']:.4f} (A {scores['accuracy_a']:.4f}, B "
            f"{scores['accuracy_b']:.4f})"
            if scores
            else "written; the files name no task, so nothing was scored"
        )
    )


def _scores(pair: checkpoints.Pair, merged: dict) -> dict[str, float]:
    evaluate = checkpoints.evaluator(pair.network(), pair.task())
    (loss, accuracy), (_, a), (_, b) = evaluate(merged), evaluate(pair.a), evaluate(pair.b)
    return {"loss": loss, "accuracy": accuracy, "accuracy_a": a, "accuracy_b": b}
