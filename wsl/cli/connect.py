"""``wsl connect A B -o DIR``: loss on the straight line from A to B, before and after matching.

--repair, --least-squares     also with every network on the line mended on unlabelled inputs
--calibrated                  every loss after a temperature was fitted to the network's outputs
--plane C                     losses on the plane through A, B and C, both brought to A
--report out.html             one page with all diagnostics, every figure with its CSV beside it
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from wsl.cli import checkpoints
from wsl.cli.choices import add_matcher_arguments, chosen_matcher, described, with_inputs
from wsl.cli.evaluation import (
    LOSSES,
    add_evaluation_arguments,
    data_files,
    example_inputs,
    read_data,
    scorer,
    unlabelled,
)
from wsl.cli.outputs import check_writable
from wsl.cli.parsers import verb_parser
from wsl.cli.results import finished, result, write_figure, write_json, write_table
from wsl.cli.targets import ConfigError
from wsl.cli.terminal import answer, say
from wsl.connectivity import (
    PathLosses,
    PlaneLosses,
    accuracy_barrier,
    least_squares,
    lerp,
    loss_barrier,
    path_losses,
    plane,
    repair,
    report,
    reset_batch_norm,
)
from wsl.matching import Matcher, match
from wsl.params import Params, call

_NOTES = {
    "path": "Loss and accuracy on the line from a to b, and to b as it was aligned (matched). The "
    "barrier is the largest excess over the line between the losses of the ends.",
    "distances": "Distance and cosine of each tensor to that of a, before and after alignment.",
    "spectra": "Singular values of each matrix of both networks.",
    "alignment": "R: how far the singular vectors of two networks agree, from 0 (not) to 1 (the "
    "same), for singular values above a share of the layer's largest. b' is b as it was aligned.",
    "inputs": "Mean |v . x| / |x| of the inputs of each layer of a with its right singular vectors "
    "v; the grey line is what a random direction has.",
    "taylor": "The barrier half way as a second-order expansion of the loss at both ends has it, "
    "and as measured, on 256 samples.",
    "plane": "Loss on the plane through a, b and c, with b and c brought to a.",
}


def run(arguments: Sequence[str]) -> None:
    """Write ``path.csv``, ``path.png`` and ``result.json``."""
    options = _parser().parse_args(arguments)
    folder = Path(options.output)
    check_writable(folder)
    config, files = _config(options), {"a": options.a, "b": options.b, **data_files(options)}
    if options.plane:
        # read like the other two, under the same names
        options.more, files = [options.plane], {**files, "c": options.plane}
    if options.report:
        check_writable(Path(options.report).parent)
    head = result("connect", config, files)
    has_page = not options.report or Path(options.report).exists()
    done = finished(folder, head) if has_page else None
    done = done or _connect(options, chosen_matcher(options), head)
    answer(done)
    _tell(folder, done["paths"])


def _tell(folder: Path, paths: Mapping[str, Mapping[str, float]]) -> None:
    width = max(map(len, paths))
    for name, scores in paths.items():
        say(
            f"{folder}: {name:<{width}} loss barrier {scores['loss_barrier']:.4f}, midpoint loss "
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
    parser = verb_parser("connect", "Loss along the straight line between two checkpoints.")
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
        "--reset",
        action="store_true",
        help="recompute batch-norm statistics on training data at every point",
    )
    _add_repairs(parser)
    parser.add_argument(
        "--plane", metavar="C", help="a third checkpoint: losses on the plane through all three"
    )
    parser.add_argument(
        "--report", metavar="FILE.html", help="one page with every diagnostic of the pair"
    )
    return parser


def _add_repairs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--repair",
        action="store_true",
        help="also REPAIR every network between: the statistics of its units as in A and B",
    )
    parser.add_argument(
        "--least-squares",
        action="store_true",
        help="also fit each layer of every network between to what A and B compute",
    )
    parser.add_argument(
        "--calibrated",
        action="store_true",
        help="losses after one temperature is fitted to each network's outputs: what is left of a "
        "barrier when only the confidence is put right",
    )
    parser.add_argument(
        "--samples", type=int, default=1000, help="inputs, without labels, that both work on"
    )


def _config(options: argparse.Namespace) -> dict[str, Any]:
    """The flags that a result depends on."""
    names = ["points", "split", "reset_batch_norm", "seed"]
    if options.evaluate or options.data:
        names += ["evaluate", "data", "loss", "normalize", "inputs_data"]
    config = {name: getattr(options, name) for name in names}
    return config | described(options, "matcher") | _asked(options)


def _asked(options: argparse.Namespace) -> dict[str, Any]:
    """The flags that were given of those that add something; a result without them is as before."""
    names = ("repair", "least_squares", "plane", "report")
    given = {name: getattr(options, name) for name in names if getattr(options, name)}
    given |= {"samples": options.samples} if given else {}
    return given | ({"calibrated": True} if options.calibrated else {})


def _connect(options: argparse.Namespace, matcher: Matcher, head: dict) -> dict:
    folder, loaded = Path(options.output), checkpoints.load(options)
    matcher = with_inputs(matcher, options, loaded)
    line = _Line(options, loaded, match(loaded.spec, loaded.a, loaded.b, matcher)(loaded.b))
    paths = line.paths()
    done = {**head, "paths": {name: _scores(path) for name, path in paths.items()}}
    _draw_paths(folder, paths)
    if (found := line.plane(matcher)) is not None:
        _draw_plane(folder, found)
    if options.report:
        _write_page(line, paths, found)
    write_json(folder / "result.json", done)
    return done


def _draw_paths(folder: Path, paths: Mapping[str, PathLosses]) -> None:
    # Imported here: a finished run draws nothing, so matplotlib is not needed to say so.
    from wsl.plots import path_figure, path_table

    write_table(folder / "path.csv", path_table(paths))
    write_figure(folder / "path.png", path_figure(paths))


def _draw_plane(folder: Path, found: PlaneLosses) -> None:
    from wsl.plots import plane_figure, plane_table

    write_table(folder / "plane.csv", plane_table(found))
    write_figure(folder / "plane.png", plane_figure(found))


class _Line:
    """The line from A to B as it was aligned, with what is done to the networks on it."""

    def __init__(self, options: argparse.Namespace, loaded: checkpoints.Loaded, aligned: Params):
        self.options, self.loaded, self.aligned = options, loaded, aligned
        self.score = _scorer(options, loaded)
        resets = options.reset_batch_norm or options.inputs_data
        self.prepare = resetter(options, loaded) if resets else None

    def evaluate(self, theta: Params) -> tuple[float, float]:
        """Loss and accuracy."""
        return _pair(self.score(theta))

    def paths(self) -> dict[str, PathLosses]:
        """Losses as they are, matched, and mended as was asked."""
        a, points = self.loaded.a, self.options.points
        ends = {"naive": self.loaded.b, "matched": self.aligned}
        how: dict[str, Any] = {"points": points, "prepare": self.prepare}
        paths = {name: path_losses(self.evaluate, a, b, **how) for name, b in ends.items()}
        for name, mended in self._mended().items():
            paths[name] = path_losses(self.evaluate, mended, points=points)
        return paths

    def _mended(self) -> dict[str, Callable[[float], Params]]:
        """The networks between A and B after repair, by what was done."""
        chosen = [k for k in (repair, least_squares) if getattr(self.options, k.__name__)]
        steps = {each.__name__.replace("_", " "): [each] for each in chosen}
        if len(chosen) > 1:
            steps["both"] = chosen
        return {name: self._after(each) for name, each in steps.items()}

    def _after(self, steps: Sequence[Callable[..., Any]]) -> Callable[[float], Params]:
        model, (a, b) = self.loaded.network(), (self.loaded.a, self.aligned)
        batches = self.inputs(self.options.samples)

        def at(t: float) -> Params:
            theta = lerp(a, b, t)
            for step in steps:
                theta = step(model, theta, [a, b], batches=batches, weights=[1 - t, t]).params
            return theta

        return at

    def inputs(self, count: int) -> Sequence[Any]:
        """The first inputs without labels, in batches."""
        return unlabelled(self.options, self.loaded)[:count].split(250)

    def probe(self) -> tuple[nn.Module, Sequence[Any]] | None:
        """The network and some inputs without labels; None if one of them is not known."""
        known = self.options.data or self.options.inputs_data or self.loaded.named_task()
        if not known or not self.loaded.model:
            return None
        inputs = example_inputs(self.options, self.loaded)[:256]
        return self.loaded.network(), inputs.split(250)

    def plane(self, matcher: Matcher) -> PlaneLosses | None:
        """Losses on the plane through A and the other two, both brought to A, if asked for."""
        if not self.options.plane:
            return None
        a, c = self.loaded.a, self.loaded.members[2]
        third = match(self.loaded.spec, a, c, matcher)(c)
        corners = (a, self.aligned, third)
        return plane(self.evaluate, *corners, points=11, prepare=self.prepare)

    def loss(self) -> Callable[[Params], Any] | None:
        """A loss that can be differentiated, on some labelled data; None if there is none."""
        if not self.options.data:
            return None
        data, model = read_data(self.options.data, self.options.normalize), self.loaded.network()
        if data.labels is None:
            return None
        kind, x, y = LOSSES[self.options.loss], data.inputs[:256], data.labels[:256]
        y = y.float() if self.options.loss == "mse" else y
        return lambda theta: kind(call(model.eval(), theta, x), y)


def _write_page(line: _Line, paths: Mapping[str, PathLosses], found: PlaneLosses | None) -> None:
    from wsl.plots import report_figures, save_page

    a, b, options = line.loaded.a, line.loaded.b, line.options
    more = {"probe": line.probe(), "loss": line.loss(), "plane": found}
    figures = report_figures(report(a, b, line.aligned, paths=paths, **more))
    page = Path(options.report)
    page.parent.mkdir(parents=True, exist_ok=True)
    save_page(page, f"{Path(options.a).name} and {Path(options.b).name}", figures, notes=_NOTES)
    say(f"{page}: {', '.join(figures)}")


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
