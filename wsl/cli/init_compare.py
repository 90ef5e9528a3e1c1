"""``wsl init-compare``: starting weights side by side at equal budget.

    wsl init-compare datasets=NAME starts=[default_init,lsuv,soup]            a population's task
    wsl init-compare --model MODULE:CALLABLE --data FILE.npz --starts default,lsuv -o DIR

The same steps, batches and learning rates for every start; the rate is chosen on the validation
images and accuracies are read on the test images: `wsl.generative.compare_starts`. Writes
``starts.csv`` (a row for each start), ``curves.csv`` (a row for each measurement), ``index.html``
and ``result.json``.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wsl.cli.config import defaults
from wsl.cli.init_compare_asked import Asked, asked_by_flags, asked_by_recipe
from wsl.cli.outputs import check_writable
from wsl.cli.parsers import verb_parser
from wsl.cli.results import finished, result, write_json, write_table
from wsl.cli.targets import ConfigError
from wsl.cli.terminal import answer, progress, say
from wsl.generative import INITIALIZERS, Curve, Start, compare_starts, starting_weights
from wsl.params import Params

_WHAT = (
    "Starting weights side by side at equal budget: of a population, datasets=NAME with KEY=VALUE "
    "for starts, seeds, steps, lrs, batch_size, points, target, zoo and output; or of your own "
    f"network on your data, by the flags below. Starts: {', '.join(INITIALIZERS)}."
)

_SHARE = 0.95
"""Of the accuracy that the first start ends at: the target unless one is told."""

_NOTES = {
    "curves": "Test accuracy over the steps of training at each start's own best rate, mean over "
    "its networks; the bands are one standard deviation.",
    "area": "Area under the early learning curve (AULC): the mean accuracy over the budget. Bars "
    "are means over networks, whiskers one standard deviation.",
    "as_drawn": "Test accuracy before any step.",
    "steps_to_target": "Steps until the target is reached: the median over networks, as fine as "
    "curves are measured. A start of which half the networks do not reach it has no bar.",
}


_BARS = {"area": "aulc", "as_drawn": "as_drawn", "steps_to_target": "steps_to_target"}
"""Figures of bars, and the column of the table that each shows."""


def run(arguments: Sequence[str]) -> None:
    """Draw, train, score, write."""
    if not arguments or set(arguments) & {"-h", "--help"}:
        _parser().print_help()
        return
    flags = any(word.startswith("--model") for word in arguments)
    asked = asked_by_flags(_parser().parse_args(arguments)) if flags else asked_by_recipe(arguments)
    check_writable(asked.output)
    head = result("init-compare", asked.config, asked.files)
    done = finished(asked.output, head) or _compare(asked, head)
    answer(done)
    tell(done)


def _parser() -> argparse.ArgumentParser:
    usual = defaults("init_compare")
    parser = verb_parser("init-compare", _WHAT)
    parser.add_argument("--model", required=True, help="an address, or module:callable")
    parser.add_argument("--kwargs", metavar="JSON", help="arguments of the callable")
    parser.add_argument("--data", required=True, help="a file .npz with inputs and labels")
    parser.add_argument("--normalize", metavar="MEAN,STD", help="of inputs")
    parser.add_argument(
        "--starts",
        required=True,
        help="names with commas, with arguments as in 'default,{ridge_head: {start: lsuv}}'",
    )
    parser.add_argument("--larger", help="a larger network of the kind, an address as for --model")
    parser.add_argument("--larger-kwargs", metavar="JSON")
    parser.add_argument("--larger-weights", metavar="FILE", help="its trained weights")
    parser.add_argument("--lrs", default=",".join(f"{rate:g}" for rate in usual["lrs"]))
    for name in ("seeds", "steps", "batch_size", "points", "seed"):
        flag = f"--{name.replace('_', '-')}"
        parser.add_argument(flag, type=int, default=usual[name])
    parser.add_argument("--target", type=float, help="a test accuracy, for steps to it")
    parser.add_argument("-o", "--output", required=True, help="folder of the results")
    return parser


def _compare(asked: Asked, head: Mapping[str, Any]) -> dict[str, Any]:
    drawn, left_out = _drawn(asked)
    curves = compare_starts(
        asked.start.model,
        drawn,
        asked.data,
        budget=asked.budget,
        seed=asked.start.seed,
        progress=progress("start"),
    )
    first = next(iter(curves.values()))
    target = asked.target or _SHARE * float(first.accuracy[:, -1].mean())
    table = {name: scores(curve, target) for name, curve in curves.items()}
    done = {**head, "target": target, "starts": table, "left_out": left_out}
    _write(asked.output, curves, table)
    write_json(asked.output / "result.json", done)
    return done


def _hint(start: Start) -> str:
    return "" if start.members else "; a population is given by datasets=NAME or zoo=FILE"


def _drawn(asked: Asked) -> tuple[dict[str, Params], dict[str, str]]:
    """The weights of each start, from one generator in their order; those that lack something.

    Raises `ConfigError` where nothing is left to compare.
    """
    rng, drawn, left_out = torch.Generator().manual_seed(asked.start.seed), {}, {}
    for name, method in asked.starts.items():
        try:
            drawn[name] = starting_weights(method, asked.start, asked.seeds, generator=rng)
        except ValueError as error:
            left_out[name] = str(error)
            say(f"start left out: {name}: {error}{_hint(asked.start)}", error=True)
    if not drawn:
        raise ConfigError(f"no start can be drawn; {next(iter(left_out.values()))}")
    return drawn, left_out


def scores(curve: Curve, target: float) -> dict[str, float | int | None]:
    """One row of the table; spreads are standard deviations over networks."""
    reached = curve.steps_to(target)
    median = float(reached.median())
    row: dict[str, float | int | None] = {"networks": len(reached), "lr": curve.lr}
    for name, values in (
        ("as_drawn", curve.accuracy[:, 0]),
        ("aulc", curve.aulc),
        ("final", curve.accuracy[:, -1]),
    ):
        row[name] = float(values.mean())
        row[f"{name}_spread"] = _spread(values)
    row["steps_to_target"] = median if math.isfinite(median) else None
    row["reached_target"] = float(reached.isfinite().double().mean())
    return row


def tell(done: Mapping[str, Any]) -> None:
    """One line for each start, the best area first."""
    rows = sorted(done["starts"].items(), key=lambda item: -item[1]["aulc"])
    width = max(len(name) for name, _ in rows)
    for name, row in rows:
        steps = row["steps_to_target"]
        reached = "never" if steps is None else f"{steps:.0f} steps"
        say(
            f"{name:<{width}}  AULC {row['aulc']:.4f} +- {row['aulc_spread']:.4f}, as drawn "
            f"{row['as_drawn']:.4f}, at the end {row['final']:.4f}, {done['target']:.3f} after "
            f"{reached}, rate {row['lr']:g}"
        )


def _write(
    folder: Path, curves: Mapping[str, Curve], table: Mapping[str, Mapping[str, Any]]
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    columns = list(next(iter(table.values())))
    rows = {column: [row[column] for row in table.values()] for column in columns}
    write_table(folder / "starts.csv", {"start": list(table), **rows})
    write_table(folder / "curves.csv", _measurements(curves))
    _write_page(folder / "index.html", curves, table)


def _write_page(
    page: Path, curves: Mapping[str, Curve], table: Mapping[str, Mapping[str, Any]]
) -> None:
    from wsl.plots import bar_figure, bar_table, lines_figure, lines_table, save_page

    lines = {
        name: (curve.steps, curve.accuracy.mean(0).tolist(), _spreads(curve.accuracy))
        for name, curve in curves.items()
    }
    figures = {"curves": (lines_figure(lines, x="step", y="test accuracy"), lines_table(lines))}
    for title, column in _BARS.items():
        values = {name: row[column] for name, row in table.items() if row[column] is not None}
        errors = {name: table[name].get(f"{column}_spread", 0.0) for name in values}
        if values:
            figure = bar_figure(values, label=title.replace("_", " "), errors=errors)
            figures[title] = (figure, bar_table(values, errors=errors))
    save_page(page, "Starting weights at equal budget", figures, notes=_NOTES)


def _measurements(curves: Mapping[str, Curve]) -> dict[str, list[Any]]:
    rows = [
        (name, network, step, accuracy)
        for name, curve in curves.items()
        for network, row in enumerate(curve.accuracy.tolist())
        for step, accuracy in zip(curve.steps, row, strict=True)
    ]
    names = ("start", "network", "step", "accuracy")
    return {name: [row[i] for row in rows] for i, name in enumerate(names)}


def _spread(values: Tensor) -> float:
    """Standard deviation; 0 of a single network."""
    return float(values.std()) if len(values) > 1 else 0.0


def _spreads(accuracy: Tensor) -> list[float]:
    return [_spread(column) for column in accuracy.T]
