"""The last part of `bench_layers.py`: how the cost of a layer grows with the depth and with the
weights of what it reads.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from functools import partial
from pathlib import Path

import matplotlib as mpl
from bench_layers_cases import Case, bound, step
from matplotlib import pyplot as plt

from wsl.nn import EquivariantLinear
from wsl.populations.architectures import networks as architectures

BATCH, CHANNELS = 16, 16


def growth(folder: Path | None, *, rounds: int, clock: Callable[[], float]) -> None:
    """Print, and with a folder draw, milliseconds of an uncompiled layer against depth and against
    weights.
    """
    from bench_layers import measure

    depths = {n: case([2, *[32] * n, 1]) for n in (2, 4, 8, 16, 32)}
    widths = {n: case([2, n, n, 1]) for n in (32, 64, 128, 256)}
    rows = []
    for kind, cases in (("hidden layers", depths), ("width", widths)):
        for size, each in cases.items():
            layer = EquivariantLinear(each.spec, CHANNELS, CHANNELS, fixed="encoded")
            ways = {"layer": step(layer, each.weights(CHANNELS, grad=True)), "bound": bound(each)}
            _, medians = measure(ways, rounds, clock)
            count = sum(shape.numel() for shape in each.spec.shapes.values())
            rows.append([kind, size, count, f"{medians['layer']:.3f}", f"{medians['bound']:.3f}"])
            print(
                f"{kind} {size}: {count} weights, layer {rows[-1][3]} ms, bound {rows[-1][4]} ms",
                flush=True,
            )
    for kind in ("hidden layers", "width"):
        print(
            f"{kind}: time of the last against the one before, per weight: "
            f"{last_step(rows, kind):.2f}"
        )
    if folder is not None:
        save(folder, rows)


def case(sizes: list[int]) -> Case:
    return Case(
        "-".join(map(str, sizes)), partial(architectures.siren, sizes), (2, 2), BATCH, CHANNELS
    )


def last_step(rows: list[list], kind: str) -> float:
    """1 where the cost is proportional to the weights."""
    (_, _, n, a, _), (_, _, m, b, _) = [row for row in rows if row[0] == kind][-2:]
    return float(b) / float(a) / (m / n)


def save(folder: Path, rows: list[list]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "growth.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["varied", "size", "weights", "layer_ms", "bound_ms"], *rows])
    mpl.use("Agg")
    figure, axes = plt.subplots(1, 2, figsize=(8, 3.2), layout="constrained")
    for axis, kind in zip(axes, ("hidden layers", "width"), strict=True):
        found = [row for row in rows if row[0] == kind]
        x = [row[1] if kind == "hidden layers" else row[2] for row in found]
        y = [float(row[3]) for row in found]
        axis.plot(x, y, "o-", label="one layer, forward and backward")
        axis.plot(x, [float(row[4]) for row in found], "s-", color="0.5", label="bound")
        axis.plot(
            x, [y[-1] * value / x[-1] for value in x], "--", color="0.7", label="proportional"
        )
        axis.set(
            xlabel="hidden layers of 32 units"
            if kind == "hidden layers"
            else "weights of SIREN 2-n-n-1",
            ylabel="ms",
        )
        axis.set(xscale="log", yscale="log")
        axis.set_xticks(x, [f"{value:,}" for value in x], minor=False)
        axis.set_xticks([], minor=True)
        axis.grid(alpha=0.3, which="both")
    axes[0].legend(fontsize=8)
    figure.savefig(folder / "growth.png", dpi=90)
    plt.close(figure)
