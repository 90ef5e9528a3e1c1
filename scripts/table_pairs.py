"""Pairs of networks from different seeds, half way: matched by weights or activations, repaired.

    python scripts/table_pairs.py runs/ mlp mnist --data-root DIR [--width 1] [--points 3]

The networks are those of `train_pairs.py`. For every pair of seeds the line between them is scored
on the test set, with and without matching and mending; all of that sees the
first training images without labels, never the test set, or nothing but the weights. Printed, mean
and spread over pairs: loss barrier (over the line between the losses of the ends), loss and
accuracy half way, and how many points of accuracy that is below the mean of the ends. ``--only``
keeps rows that contain a word.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
from collections.abc import Callable
from pathlib import Path

import torch
from pair_networks import SHAPES, network
from torch import Tensor
from torch.nn import functional as F
from train_pairs import splits

from wsl import params
from wsl.connectivity import (
    least_squares,
    lerp,
    loss_barrier,
    path_losses,
    repair,
    repair_closed_form,
    repair_on_noise,
    reset_batch_norm,
)
from wsl.matching import ActivationMatching, WeightMatching, align_scales, match
from wsl.params import Params
from wsl.symmetry import permutation_spec, symmetry_spec

SCALES: dict[str, dict[str, bool]] = {
    "scales": {"one_sided": False},
    "all scales": {},
    "norms": {"norms": True},
}
"""Which scales are brought to those of the other network; all: also before batch norm."""
Mend = Callable[[Params, list[Params], float], Params]
Row = tuple[float, float, float, float]


def load(folder: Path, stem: str) -> list[Params]:
    """The weights of every seed that is trained."""
    files = sorted(folder.glob(f"{stem}-*.pt"))
    return [torch.load(file, weights_only=True)["state_dict"] for file in files]


class Table:
    """One architecture on one data set."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.model = network(options.network, data=options.data, width=options.width).eval()
        (x, _), (test_x, test_y) = splits(options.data, options.data_root)
        self.test_x, self.test_y = test_x[:: options.every], test_y[:: options.every]
        self.inputs = x[: options.samples]
        self.batches = list(self.inputs.split(250))
        find = symmetry_spec if options.scales else permutation_spec
        self.spec = find(self.model, self.inputs[:4])
        self.scores: dict[int, tuple[float, float]] = {}

    @torch.no_grad()
    def evaluate(self, theta: Params) -> tuple[float, float]:
        """Loss and accuracy on the test set."""
        parts = [params.call(self.model, theta, x) for x in self.test_x.split(500)]
        logits: Tensor = torch.cat(parts)
        hits = (logits.argmax(1) == self.test_y).double().mean()
        return float(F.cross_entropy(logits, self.test_y)), float(hits)

    def scored(self, theta: Params) -> tuple[float, float]:
        """Of one of the ends: measured once."""
        if id(theta) not in self.scores:
            self.scores[id(theta)] = self.evaluate(theta)
        return self.scores[id(theta)]

    def ends(self, a: Params, b: Params) -> dict[str, Params]:
        """The network b as it is, and moved towards a, by what was done."""
        activation = ActivationMatching(self.inputs, self.model)
        ends = {}
        for name, matcher in {"activations": activation, "weights": WeightMatching()}.items():
            moved = match(self.spec.without_units(), a, b, matcher)(b)
            ends[name] = moved
            if self.options.scales:
                for how, flags in SCALES.items():
                    ends[f"{name}, {how}"] = align_scales(self.spec, a, moved, **flags)(moved)
        ends["none"] = b
        return ends

    def mends(self) -> dict[str, Mend]:
        """What is done to a network on the line."""
        model, batches = self.model, self.batches

        def reset(theta: Params, *_: object) -> Params:
            return reset_batch_norm(model, theta, batches)

        def repaired(theta: Params, ends: list[Params], t: float) -> Params:
            return repair(model, theta, ends, batches=batches, weights=[1 - t, t]).params

        def fitted(theta: Params, ends: list[Params], t: float) -> Params:
            return least_squares(model, theta, ends, batches=batches, weights=[1 - t, t]).params

        def both(theta: Params, ends: list[Params], t: float) -> Params:
            return fitted(repaired(theta, ends, t), ends, t)

        def turned(theta: Params, ends: list[Params], t: float) -> Params:
            return repaired(fitted(theta, ends, t), ends, t)

        found: dict[str, Mend] = {"": lambda theta, *_: theta}
        if any("running_mean" in name for name in self.model.state_dict()):
            found["reset"] = reset
        mended = {"repair": repaired, "least squares": fitted, "repair, least squares": both}
        found |= mended | {"least squares, repair": turned}
        return found | self.without_data()

    def without_data(self) -> dict[str, Mend]:
        """What is done to a network on the line from weights alone; the inputs give a shape."""
        model, example = self.model, self.inputs[:2]

        def closed(theta: Params, ends: list[Params], t: float) -> Params:
            return repair_closed_form(
                model, theta, ends, example=example, weights=[1 - t, t]
            ).params

        def noise(theta: Params, ends: list[Params], t: float) -> Params:
            return repair_on_noise(model, theta, ends, example=example, weights=[1 - t, t]).params

        return {"closed form, without data": closed, "noise, without data": noise}

    def pair(self, a: Params, b: Params) -> dict[str, Row]:
        """Barrier, loss and accuracy half way and its drop in points, by what was done."""
        first, last = self.scored(a), self.scored(b)
        rows = {}
        tried = itertools.product(self.ends(a, b).items(), self.mends().items())
        for (name, end), (step, mend) in tried:
            row = f"{name} | {step}"
            if self.options.only in row:
                rows[row] = self.row([a, end], mend, (first, last))
                print(f"| {row} | " + " | ".join(f"{v:.4f}" for v in rows[row]), flush=True)
        return rows

    def row(self, ends: list[Params], mend: Mend, known: tuple[tuple[float, float], ...]) -> Row:
        """What is told of one line; the scores of its ends are ``known``."""

        def at(t: float) -> Params:
            return mend(lerp(ends[0], ends[1], t), ends, t) if 0 < t < 1 else ends[round(t)]

        def evaluate(theta: Params) -> tuple[float, float]:
            end = next((i for i in (0, 1) if theta is ends[i]), None)
            return self.evaluate(theta) if end is None else known[end]

        path = path_losses(evaluate, at, points=self.options.points)
        half = len(path.t) // 2
        middle = float(path.accuracy[half])
        drop = 100 * (float(path.accuracy[[0, -1]].mean()) - middle)
        return loss_barrier(path), float(path.loss[half]), middle, drop


def spread(values: list[float]) -> str:
    """Mean and standard deviation."""
    mean = f"{statistics.mean(values):.4f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.4f}"


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("network")
    parser.add_argument("data", choices=sorted(SHAPES))
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--width", type=float, default=1)
    parser.add_argument("--points", type=int, default=11)
    parser.add_argument("--samples", type=int, default=2000, help="training images without labels")
    parser.add_argument("--every", type=int, default=1, help="score every so many-th test image")
    parser.add_argument(
        "--scales",
        action="store_true",
        help="also with scales brought closest, and with equal norms",
    )
    parser.add_argument("--only", default="", help="rows whose name contains this")
    parser.add_argument("--pairs", type=int, default=3, help="of the first seeds")
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def main() -> None:
    """Print the table."""
    options = arguments()
    torch.set_num_threads(options.threads)
    table = Table(options)
    thetas = load(options.folder, f"{options.network}-{options.data}-x{options.width:g}")
    own = [table.scored(theta)[1] for theta in thetas]
    print("parents:", ", ".join(f"{score:.4f}" for score in own), flush=True)
    pairs = list(itertools.combinations(thetas, 2))[: options.pairs]
    found = [table.pair(a, b) for a, b in pairs]
    print(f"{len(found)} pairs")
    print("| matching | then | barrier | loss | half way | drop |\n|---|---|---|---|---|---|")
    for name in found[0]:
        columns = zip(*(rows[name] for rows in found), strict=True)
        print(f"| {name} | " + " | ".join(spread(list(values)) for values in columns) + " |")


if __name__ == "__main__":
    main()
