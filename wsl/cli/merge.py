"""``wsl merge A B -o OUT``: align B to A, merge, repair batch-norm statistics, write a checkpoint.

The file carries its provenance. Without ``--method`` the two are averaged on the line between them.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from wsl import merging
from wsl.cli import checkpoints
from wsl.cli.connect import resetter
from wsl.cli.match import add_matcher_arguments, chosen_matcher, described
from wsl.cli.results import result, write_json, write_with
from wsl.cli.targets import ConfigError, choose
from wsl.cli.terminal import say
from wsl.matching import match
from wsl.params import Params
from wsl.zoo import write_checkpoint

HALF = 0.5


def run(arguments: Sequence[str]) -> None:
    """Write OUT and OUT.result.json."""
    options = _parser().parse_args(arguments)
    _check(options)
    pair, merged = _merged(options)
    kept = {
        name: getattr(options, name) for name in ("weight", "no_match", "reset_batch_norm", "seed")
    }
    kept |= {**described(options, "matcher"), **described(options, "method")}
    head = result("merge", kept, {"a": options.a, "b": options.b})
    scores = _scores(pair, merged) if pair.model is not None and "task" in pair.metadata else {}
    out = Path(options.output)
    about = {**pair.metadata, "wsl_merge": json.dumps(head)}
    write_with(out, lambda path: write_checkpoint(path, merged, about))
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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="wsl merge", description="Align and average two checkpoints."
    )
    checkpoints.add_arguments(parser)
    add_matcher_arguments(parser)
    parser.add_argument("-o", "--output", required=True, help="merged checkpoint, .safetensors")
    parser.add_argument("-t", "--weight", type=float, default=HALF, help="weight of B in [0, 1]")
    parser.add_argument(
        "--method",
        metavar="TEXT",
        help=f"how to merge: {', '.join(merging.METHODS)}, with arguments as in "
        "'average: {weights: [1, 2]}', or {_target_: package.Class}, or a file .yaml",
    )
    parser.add_argument(
        "--no-match", action="store_true", help="average as they are, without alignment"
    )
    parser.add_argument(
        "--reset-batch-norm",
        action="store_true",
        help="recompute batch-norm statistics on training data",
    )
    return parser


def _check(options: argparse.Namespace) -> None:
    if not 0 <= options.weight <= 1:
        raise ConfigError(f"--weight must lie in [0, 1], got {options.weight}")
    if options.method is not None and options.weight != HALF:
        raise ConfigError("--weight is of the plain average; give weights to the --method instead")
    if options.matcher is not None and options.no_match:
        raise ConfigError("--matcher says how to align, and --no-match not to; leave out one")


def _merged(options: argparse.Namespace) -> tuple[checkpoints.Pair, Params]:
    matcher, method = chosen_matcher(options), None
    if options.method is not None:
        method = choose(
            options.method, merging.METHODS, what="method", trusted=options.trust_config
        )
    pair = checkpoints.load(options)
    b = pair.b if options.no_match else match(pair.spec, pair.a, pair.b, matcher)(pair.b)
    if method is None:
        merged = merging.lerp(pair.a, b, options.weight)
    else:
        merged = merging.merge([pair.a, b], method).params
    return pair, resetter(pair)(merged) if options.reset_batch_norm else merged


def _scores(pair: checkpoints.Pair, merged: dict) -> dict[str, float]:
    evaluate = checkpoints.evaluator(pair.network(), pair.task())
    (loss, accuracy), (_, a), (_, b) = evaluate(merged), evaluate(pair.a), evaluate(pair.b)
    return {"loss": loss, "accuracy": accuracy, "accuracy_a": a, "accuracy_b": b}
