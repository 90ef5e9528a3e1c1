"""Pairs of networks from different seeds, half way: matched by weights or activations, repaired.

    python scripts/table_pairs.py runs/ mlp mnist --data-root DIR [--width 1] [--points 11]

The networks are those of `train_pairs.py`. For every pair of seeds the line between them is scored
on the test set, with and without matching and mending; inputs are training images without labels.
Printed: loss barrier (over the line between the losses of the ends), accuracy half way and its drop
below the mean of the ends, mean and spread over pairs.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
from collections.abc import Callable
from pathlib import Path

import torch
from pair_networks import network
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
    reset_batch_norm,
)
from wsl.matching import ActivationMatching, WeightMatching, match
from wsl.params import Params
from wsl.symmetry import permutation_spec

Mend = Callable[[Params, list[Params], float], Params]


def load(folder: Path, stem: str) -> list[Params]:
    """The weights of every seed that is trained."""
    files = sorted(folder.glob(f"{stem}-*.pt"))
    return [torch.load(file, weights_only=True)["state_dict"] for file in files]


class Table:
    """One architecture on one data set."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.model = network(options.network, data=options.data, width=options.width).eval()
        (x, _), (self.test_x, self.test_y) = splits(options.data, options.data_root)
        self.inputs = x[: options.samples]
        self.batches = list(self.inputs.split(250))
        self.spec = permutation_spec(self.model, self.inputs[:4])
        activation = ActivationMatching(self.inputs, self.model)
        self.matchers = {"weights": WeightMatching(), "activations": activation}

    @torch.no_grad()
    def evaluate(self, theta: Params) -> tuple[float, float]:
        """Loss and accuracy on the test set."""
        parts = [params.call(self.model, theta, x) for x in self.test_x.split(500)]
        logits: Tensor = torch.cat(parts)
        hits = (logits.argmax(1) == self.test_y).double().mean()
        return float(F.cross_entropy(logits, self.test_y)), float(hits)

    def mends(self) -> dict[str, Mend]:
        """What is done to a network on the line."""
        model, batches = self.model, self.batches

        def reset(theta: Params, *_: object) -> Params:
            return reset_batch_norm(model, theta, batches)

        def repaired(theta: Params, ends: list[Params], t: float) -> Params:
            return repair(model, theta, ends, batches=batches, weights=[1 - t, t]).params

        def fitted(theta: Params, ends: list[Params], t: float) -> Params:
            theta = repaired(theta, ends, t)
            return least_squares(model, theta, ends, batches=batches, weights=[1 - t, t]).params

        found: dict[str, Mend] = {"": lambda theta, *_: theta}
        if any("running_mean" in name for name in self.model.state_dict()):
            found["reset"] = reset
        return found | {"repair": repaired, "repair, least squares": fitted}

    def pair(self, a: Params, b: Params) -> dict[str, tuple[float, float, float]]:
        """Barrier, accuracy half way and its drop, by what was done."""
        ends = {"none": b} | {n: match(self.spec, a, b, m)(b) for n, m in self.matchers.items()}
        rows = {}
        for (name, end), (step, mend) in itertools.product(ends.items(), self.mends().items()):

            def at(t: float, end: Params = end, mend: Mend = mend) -> Params:
                return mend(lerp(a, end, t), [a, end], t) if 0 < t < 1 else lerp(a, end, t)

            path = path_losses(self.evaluate, at, points=self.options.points)
            middle = float(path.accuracy[len(path.t) // 2])
            drop = float(path.accuracy[[0, -1]].mean()) - middle
            rows[f"{name} | {step}"] = (loss_barrier(path), middle, drop)
        return rows


def spread(values: list[float]) -> str:
    """Mean and standard deviation."""
    mean = f"{statistics.mean(values):.4f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.4f}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("network")
    parser.add_argument("data", choices=["mnist", "cifar10"])
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--width", type=float, default=1)
    parser.add_argument("--points", type=int, default=11)
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--pairs", type=int, default=3, help="of the first seeds")
    options = parser.parse_args()
    torch.set_num_threads(2)
    table = Table(options)
    thetas = load(options.folder, f"{options.network}-{options.data}-x{options.width:g}")
    own = [table.evaluate(theta)[1] for theta in thetas]
    print("parents:", ", ".join(f"{score:.4f}" for score in own), flush=True)
    pairs = list(itertools.combinations(thetas, 2))[: options.pairs]
    found = [table.pair(a, b) for a, b in pairs]
    print(f"{len(found)} pairs")
    print("| matching | then | barrier | half way | drop |\n|---|---|---|---|---|")
    for name in found[0]:
        columns = zip(*(rows[name] for rows in found), strict=True)
        print(f"| {name} | " + " | ".join(spread(list(values)) for values in columns) + " |")


if __name__ == "__main__":
    main()
