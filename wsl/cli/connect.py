"""``wsl connect A B -o DIR``: loss on the straight line from A to B, before and after matching."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from wsl.cli import checkpoints
from wsl.cli.match import add_matcher_arguments, chosen_matcher, described
from wsl.cli.results import finished, result, write_figure, write_json, write_table
from wsl.cli.terminal import say
from wsl.connectivity import (
    PathLosses,
    accuracy_barrier,
    loss_barrier,
    path_losses,
    reset_batch_norm,
)
from wsl.matching import Matcher, match
from wsl.params import Params


def run(arguments: Sequence[str]) -> None:
    """Write ``path.csv``, ``path.png`` and ``result.json``."""
    parser = argparse.ArgumentParser(
        prog="wsl connect", description="Loss along the straight line between two checkpoints."
    )
    checkpoints.add_arguments(parser)
    add_matcher_arguments(parser)
    parser.add_argument(
        "-o", "--output", required=True, help="folder for path.csv, path.png and result.json"
    )
    parser.add_argument("--points", type=int, default=25, help="points on the line, ends included")
    parser.add_argument("--split", default="test", choices=["train", "val", "test"])
    parser.add_argument(
        "--reset-batch-norm",
        action="store_true",
        help="recompute batch-norm statistics on training data at every point",
    )
    options = parser.parse_args(arguments)
    folder = Path(options.output)
    kept = {
        name: getattr(options, name) for name in ("points", "split", "reset_batch_norm", "seed")
    }
    kept |= described(options, "matcher")
    head = result("connect", kept, {"a": options.a, "b": options.b})
    done = finished(folder, head) or _connect(options, chosen_matcher(options), head)
    for name, scores in done["paths"].items():
        say(
            f"{folder}: {name:<8} loss barrier {scores['loss_barrier']:.4f}, midpoint loss "
            f"{scores['midpoint_loss']:.4f}, "
            f"midpoint accuracy {scores['midpoint_accuracy']:.4f}"
        )


def resetter(pair: checkpoints.Pair) -> Callable[[Params], Params]:
    """``params -> params`` with batch-norm statistics recomputed on the task's training inputs."""
    model, inputs = pair.network(), pair.task().train.images
    return lambda theta: reset_batch_norm(model, theta, inputs.split(256))


def _connect(options: argparse.Namespace, matcher: Matcher, head: dict) -> dict:
    # A finished run draws nothing, so matplotlib is not needed to say so.
    from wsl.plots import path_figure, path_table

    folder, pair = Path(options.output), checkpoints.load(options)
    evaluate = checkpoints.evaluator(pair.network(), pair.task(), options.split)
    prepare = resetter(pair) if options.reset_batch_norm else None
    aligned = match(pair.spec, pair.a, pair.b, matcher)(pair.b)
    paths = {
        name: path_losses(evaluate, pair.a, b, points=options.points, prepare=prepare)
        for name, b in {"naive": pair.b, "matched": aligned}.items()
    }
    done = {**head, "paths": {name: _scores(path) for name, path in paths.items()}}
    write_table(folder / "path.csv", path_table(paths))
    write_figure(folder / "path.png", path_figure(paths))
    write_json(folder / "result.json", done)
    return done


def _scores(path: PathLosses) -> dict[str, Any]:
    loss, accuracy, middle = path.loss.tolist(), path.accuracy.tolist(), len(path.t) // 2
    return {
        "loss_barrier": loss_barrier(path),
        "accuracy_barrier": accuracy_barrier(path),
        "midpoint_loss": loss[middle],
        "midpoint_accuracy": accuracy[middle],
        "end_losses": [loss[0], loss[-1]],
        "end_accuracies": [accuracy[0], accuracy[-1]],
    }
