"""``wsl connect A B -o DIR``: loss and accuracy along the straight line from A to B, before and after weight matching."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from wsl.cli import checkpoints
from wsl.cli.results import finished, result, write_csv, write_json, write_with
from wsl.cli.terminal import say
from wsl.matching import WeightMatching, match
from wsl.merging import PathLosses, loss_barrier, path_losses, reset_batch_norm
from wsl.params import Params
from wsl.plots import path_figure


def run(arguments: Sequence[str]) -> None:
    """Write ``path.csv``, ``path.png`` and ``result.json``."""
    parser = argparse.ArgumentParser(prog="wsl connect", description="Loss along the straight line between two checkpoints.")
    checkpoints.add_arguments(parser)
    parser.add_argument("-o", "--output", required=True, help="folder for path.csv, path.png and result.json")
    parser.add_argument("--points", type=int, default=25, help="points on the line, ends included")
    parser.add_argument("--split", default="test", choices=["train", "val", "test"])
    parser.add_argument(
        "--reset-batch-norm", action="store_true", help="recompute batch-norm statistics on training data at every point"
    )
    options = parser.parse_args(arguments)
    folder = Path(options.output)
    kept = {name: getattr(options, name) for name in ("points", "split", "reset_batch_norm", "seed")}
    head = result("connect", kept, {"a": options.a, "b": options.b})
    done = finished(folder, head) or _connect(options, folder, head)
    for name, scores in done["paths"].items():
        say(
            f"{folder}: {name:<8} loss barrier {scores['loss_barrier']:.4f}, midpoint loss {scores['midpoint_loss']:.4f}, "
            f"midpoint accuracy {scores['midpoint_accuracy']:.4f}"
        )


def resetter(pair: checkpoints.Pair) -> Callable[[Params], Params]:
    """``params -> params`` with batch-norm statistics recomputed on the task's training inputs."""
    model, inputs = pair.network(), pair.task().inputs("train")
    return lambda theta: reset_batch_norm(model, theta, inputs.split(256))


def _connect(options: argparse.Namespace, folder: Path, head: dict) -> dict:
    pair = checkpoints.load(options)
    evaluate = checkpoints.evaluator(pair.network(), pair.task(), options.split)
    prepare = resetter(pair) if options.reset_batch_norm else None
    aligned = match(pair.spec, pair.a, pair.b, WeightMatching(seed=options.seed)).permutation(pair.b)
    paths = {
        name: path_losses(evaluate, pair.a, b, points=options.points, prepare=prepare)
        for name, b in {"naive": pair.b, "matched": aligned}.items()
    }
    done = {**head, "paths": {name: _scores(path) for name, path in paths.items()}}
    columns = {f"{name}_{kind}": getattr(path, kind) for name, path in paths.items() for kind in ("loss", "accuracy")}
    write_csv(folder / "path.csv", {"t": paths["naive"].t, **columns})
    figure = path_figure(paths)
    write_with(folder / "path.png", lambda path: figure.savefig(path, metadata={"Software": None}))
    write_json(folder / "result.json", done)
    return done


def _scores(path: PathLosses) -> dict[str, float]:
    middle = len(path.t) // 2
    return {
        "loss_barrier": loss_barrier(path.loss),
        "midpoint_loss": path.loss[middle],
        "midpoint_accuracy": path.accuracy[middle],
        "end_accuracy_a": path.accuracy[0],
        "end_accuracy_b": path.accuracy[-1],
        "end_loss_a": path.loss[0],
        "end_loss_b": path.loss[-1],
    }
