"""How the cost of `WeightDiffusion` grows with the weights of what it draws and with their number.

    python scripts/bench_generators.py [--output DIR]

Seconds of one evaluation of the denoiser for perceptrons of growing width, and seconds and peak
memory of drawing 250 and 1,000 networks of about 2,500 weights. An evaluation sees as many networks
as `sample` gives it at a time. Widths are measured in turn, round by round, so that what else the
machine does falls on all of them. Seconds are the processor's, of one thread.
"""

from __future__ import annotations

import argparse
import csv
import math
import resource
import statistics
import time
from pathlib import Path

import matplotlib as mpl
import torch

from wsl.generative import EquivariantDenoiser, WeightDiffusion
from wsl.symmetry import PermutationSpec

WIDTHS = (16, 32, 64, 128, 256)
CHANNELS, BLOCKS = 16, 2
NUMBERS = 2**17  # of all networks of one evaluation, as in `VectorModel.sample`


def perceptron(width: int) -> PermutationSpec:
    return PermutationSpec.parse(
        f"h1 = {width}\nh2 = {width}\n0.weight: h1 16\n0.bias: h1\n2.weight: h2 h1\n2.bias: h2\n"
        "4.weight: 10 h2\n4.bias: 10"
    )


def weights(spec: PermutationSpec) -> int:
    return sum(shape.numel() for shape in spec.shapes.values())


@torch.no_grad()
def growth(rounds: int) -> list[tuple[int, int, float]]:
    """Width, weights and milliseconds per network of one evaluation."""
    nets = {}
    for width in WIDTHS:
        spec = perceptron(width)
        nets[width] = (EquivariantDenoiser(spec, channels=CHANNELS, blocks=BLOCKS), weights(spec))
    seen: dict[int, list[float]] = {width: [] for width in WIDTHS}
    for _ in range(rounds + 1):
        for width, (net, count) in nets.items():
            n = max(1, NUMBERS // count)
            x, times, none = torch.randn(n, count), torch.full((n,), 500), torch.zeros(n, 0)
            began = time.process_time()
            net(x, times, none, known=torch.zeros(n))
            seen[width].append((time.process_time() - began) / n)
    return [
        (width, count, 1e3 * statistics.median(seen[width][1:]))
        for width, (_, count) in nets.items()
    ]


def exponent(rows: list[tuple[int, int, float]]) -> float:
    """The slope of cost over weights, both logarithmic, by least squares."""
    return statistics.linear_regression(
        [math.log(row[1]) for row in rows], [math.log(row[2]) for row in rows]
    ).slope


def drawing(n: int) -> tuple[int, int, float, float]:
    """Networks, weights of each, seconds of processor time, and peak memory in MiB so far."""
    spec = perceptron(36)
    model = WeightDiffusion(spec, channels=CHANNELS, blocks=BLOCKS)
    model.sample(1, steps=1)
    began = time.process_time()
    model.sample(n, steps=25, generator=torch.Generator().manual_seed(0))
    spent = time.process_time() - began
    return n, weights(spec), spent, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def save(folder: Path, rows: list[tuple[int, int, float]]) -> None:
    mpl.use("agg")
    from matplotlib import pyplot as plt

    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "generator_growth.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("width", "weights", "milliseconds"), *rows])
    figure, axes = plt.subplots(figsize=(5, 3.5), layout="constrained")
    axes.loglog([row[1] for row in rows], [row[2] for row in rows], "o-", label="denoiser")
    last = rows[-1]
    line = [last[2] * row[1] / last[1] for row in rows]
    axes.loglog([row[1] for row in rows], line, "--", label="proportional to the weights")
    axes.set(xlabel="weights of a network", ylabel="ms per network and evaluation")
    axes.legend()
    figure.savefig(folder / "generator_growth.png", dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("runs/bench_generators"))
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows = growth(given.rounds)
    for width, count, spent in rows:
        print(f"width {width}: {count} weights, {spent:.2f} ms per network", flush=True)
    print(
        f"cost ~ weights^{exponent(rows):.2f} over all, ^{exponent(rows[-3:]):.2f} over the last 3"
    )
    save(given.output, rows)
    for n in (250, 1000):
        count, size, spent, peak = drawing(n)
        print(f"{count} networks of {size} weights: {spent:.1f} s, peak memory {peak:.0f} MiB")


if __name__ == "__main__":
    main()
