"""Codes of real fine-tunes: bits for a weight, error, and accuracy after decoding.

    python scripts/table_codecs.py --data-root DIR [--seeds 0 1 2] [-o codecs.csv]

A CNN of 14 000 weights learns upright MNIST at 14 x 14 pixels and is fine-tuned on four rotations,
four quarters of the image in other orders, and four parts of the classes, as for the tables of
merging. Every fine-tune is coded against its base and decoded; accuracy is on its own task.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import functools
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from merging_tasks import TASKS, Data, Family, Parts, accuracy, tasks_of
from torch import nn

from wsl.params import Params
from wsl.zoo.codecs import Codec, ComPEFT, LowRankResidual, coded

COUNT = 4
ALPHAS = (0.5, 1.0, 2.0, 3.0, 4.0, 6.0)
DENSITIES, RATIOS = (0.05, 0.1, 0.2, 0.5), (0.05, 0.1, 0.2, 0.5)


@dataclasses.dataclass(frozen=True, eq=False)
class Tuned:
    """A fine-tune with its base, and how its weights are scored on two sets of images."""

    base: Params
    params: Params
    validation: Callable[[Params], float]
    test: Callable[[Params], float]

    def rows(self) -> Iterator[dict[str, Any]]:
        """Of the base, of the fine-tune as it is, and of every code."""
        yield {"code": "base", "bits": 0.0, "error": 1.0, "accuracy": self.test(self.base)}
        yield {"code": "fine-tuned", "bits": 32.0, "error": 0.0, "accuracy": self.test(self.params)}
        for density in DENSITIES:
            yield self._row(f"ComPEFT, {density:.0%}", ComPEFT(density))
            best = max(ALPHAS, key=lambda alpha, d=density: self._scored(ComPEFT(d, alpha)))
            yield self._row(f"ComPEFT, {density:.0%}, alpha tuned", ComPEFT(density, best))
        for ratio in RATIOS:
            yield self._row(f"low rank, {ratio:g} of the bytes", LowRankResidual(ratio))

    def _row(self, name: str, codec: Codec) -> dict[str, Any]:
        code = coded(self.params, self.base, codec)
        told = {"code": name, "bits": code.bits_per_weight, "error": code.error}
        return {**told, "accuracy": self.test(code.decode(self.base))}

    def _scored(self, codec: Codec) -> float:
        return self.validation(coded(self.params, self.base, codec).decode(self.base))


def rows(root: Path, seeds: list[int]) -> Iterator[dict[str, Any]]:
    """Those of every fine-tune."""
    parts = Parts.read(root)
    for seed in seeds:
        family = Family("cnn", parts.train, seed=seed)
        for kind in TASKS:
            tasks = tasks_of(kind, COUNT)
            for task, *images in zip(tasks, *parts.scored(tasks), strict=True):
                base = family.base
                scores = [functools.partial(_score, family.model, part) for part in images]
                for row in Tuned(base, family.tuned([task]), *scores).rows():
                    yield {"seed": seed, "task": f"{kind} {task.value}", **row}


def _score(model: nn.Module, images: Data, theta: Params) -> float:
    return accuracy(model, theta, [images])


def main() -> None:
    """Print means over fine-tunes; every figure goes to the CSV."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--data-root", required=True, type=Path, help="folder of MNIST's files")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("-o", "--output", type=Path, help="CSV of all fine-tunes")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = list(rows(options.data_root, options.seeds))
    if options.output:
        with options.output.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(found[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(found)
    kinds = {str(row["task"]).split()[0]: None for row in found}
    print(f"| code | bits | error | {' | '.join(kinds)} |\n|{'---|' * (3 + len(kinds))}")
    for name in dict.fromkeys(row["code"] for row in found):
        own = [row for row in found if row["code"] == name]
        bits, error = (statistics.mean(float(row[key]) for row in own) for key in ("bits", "error"))
        scores = [
            statistics.mean(float(row["accuracy"]) for row in own if row["task"].startswith(kind))
            for kind in kinds
        ]
        shown = " | ".join(f"{100 * score:.1f}" for score in scores)
        print(f"| {name} | {bits:.2f} | {error:.2f} | {shown} |")


if __name__ == "__main__":
    main()
