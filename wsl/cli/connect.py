"""``wsl connect A B -o DIR``: loss on the straight line from A to B, before and after matching."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from wsl.cli import checkpoints
from wsl.cli.choices import add_matcher_arguments, chosen_matcher, described, with_inputs
from wsl.cli.evaluation import add_evaluation_arguments, scorer, unlabelled
from wsl.cli.outputs import check_writable
from wsl.cli.results import finished, result, write_figure, write_json, write_table
from wsl.cli.targets import ConfigError
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
    options = _parser().parse_args(arguments)
    folder = Path(options.output)
    check_writable(folder)
    names = ("points", "split", "reset_batch_norm", "seed")
    kept = {name: getattr(options, name) for name in names}
    asked = ("evaluate", "data", "loss", "normalize", "inputs_data")
    if options.evaluate or options.data:
        kept |= {name: getattr(options, name) for name in asked}
    kept |= described(options, "matcher")
    head = result("connect", kept, {"a": options.a, "b": options.b})
    done = finished(folder, head) or _connect(options, chosen_matcher(options), head)
    for name, scores in done["paths"].items():
        say(
            f"{folder}: {name:<8} loss barrier {scores['loss_barrier']:.4f}, midpoint loss "
            f"{scores['midpoint_loss']:.4f}, "
            f"midpoint accuracy {scores['midpoint_accuracy']:.4f}"
        )


def resetter(options: argparse.Namespace, loaded: checkpoints.Loaded) -> Callable[[Params], Params]:
    """``params -> params`` with batch-norm statistics recomputed on inputs of the task, or on those
    that the user gives.
    """
    model, inputs = loaded.network(), unlabelled(options, loaded)
    return lambda theta: reset_batch_norm(model, theta, inputs.split(256))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="wsl connect", description="Loss along the straight line between two checkpoints."
    )
    checkpoints.add_arguments(parser)
    add_matcher_arguments(parser)
    add_evaluation_arguments(parser)
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
    return parser


def _connect(options: argparse.Namespace, matcher: Matcher, head: dict) -> dict:
    # A finished run draws nothing, so matplotlib is not needed to say so.
    from wsl.plots import path_figure, path_table

    folder, loaded = Path(options.output), checkpoints.load(options)
    score = _scorer(options, loaded)
    resets = options.reset_batch_norm or options.inputs_data
    prepare = resetter(options, loaded) if resets else None
    matcher = with_inputs(matcher, options, loaded)
    aligned = match(loaded.spec, loaded.a, loaded.b, matcher)(loaded.b)
    how = {"points": options.points, "prepare": prepare}
    paths = {
        name: path_losses(lambda theta: _pair(score(theta)), loaded.a, b, **how)
        for name, b in {"naive": loaded.b, "matched": aligned}.items()
    }
    done = {**head, "paths": {name: _scores(path) for name, path in paths.items()}}
    write_table(folder / "path.csv", path_table(paths))
    write_figure(folder / "path.png", path_figure(paths))
    write_json(folder / "result.json", done)
    return done


def _scorer(
    options: argparse.Namespace, loaded: checkpoints.Loaded
) -> Callable[[Params], Mapping[str, float]]:
    score = scorer(options, loaded, options.split)
    if score is None:
        loaded.task()  # says what is missing
        raise ConfigError("nothing says what the networks are worth; give --data or --evaluate")
    return score


def _pair(told: Mapping[str, float]) -> tuple[float, float]:
    """Loss and accuracy of a network; a score without an accuracy has none on the whole path."""
    if "loss" not in told:
        raise ConfigError(f"--evaluate: returned {', '.join(told)}, but a loss is needed")
    return told["loss"], told.get("accuracy", float("nan"))


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
