"""Averages of networks that were fine-tuned from different seeds: a table of `docs/merging.md`.

    python scripts/table_merging_seeds.py --data-root DIR -o runs/merging_seeds
    python scripts/table_merging_seeds.py -o runs/merging_seeds --csv docs/merging/seeds.csv

Tasks and networks are those of `table_merging.py`, but every task has a base of its own seed, so
there are no task vectors: members are averaged as they are or after alignment (to the first of
them), mended on 512 inputs without labels of all tasks, or merged into a wider network. Nothing is
tuned. ``upright`` has no tasks: members differ in their seeds alone.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import time
from collections.abc import Callable, Sequence

import torch
from merging_tables import main_of, path_of
from merging_tasks import (
    EXAMPLES,
    KINDS,
    NETWORKS,
    Family,
    Parts,
    Task,
    accuracy,
    predicted,
    tasks_of,
)
from torch import Tensor

from wsl import permutation_spec
from wsl.base import replacing
from wsl.matching import ActivationMatching, Matcher, WeightMatching, free_groups, widen
from wsl.merging import Mend, RegMean, align, average, input_products
from wsl.params import Params

INPUTS = 512
"""Of all tasks together, without labels."""


class Setting:
    """Members of different seeds, one for each task."""

    def __init__(self, families: Sequence[Family], parts: Parts, tasks: Sequence[Task]) -> None:
        self.model, self.families, self.tasks = families[0].model, families, tasks
        self.test = parts.scored(tasks)[1]
        self.train_sets = [task(parts.train) for task in tasks]
        pairs = zip(families, tasks, strict=True)
        self.members = [family.tuned([task]) for family, task in pairs]
        self.inputs = torch.cat([x[: INPUTS // len(tasks)] for x, _ in self.train_sets])
        self.spec = permutation_spec(self.model, self.inputs[:1])

    def score(self, theta: Params) -> float:
        """Mean test accuracy over the tasks."""
        return accuracy(self.model, theta, self.test)

    def rows(self) -> dict[str, float]:
        """Every way of putting the members together."""
        own = zip(self.members, self.test, strict=True)
        alone = [accuracy(self.model, m, [t]) for m, t in own]
        beside = [self.families[0].tuned([task]) for task in self.tasks]
        found = {
            "each on its own task": statistics.mean(alone),
            "average, one seed for all": self.score(average(beside)),
            "mean of the outputs": self._together(),
        }
        for how, matcher in self._matchers().items():
            members = self.members
            if matcher is not None:
                members = align(self.spec, members, matcher=matcher)
            found |= {f"{how}: {name}": value for name, value in self._merged(members).items()}
        return found

    def _matchers(self) -> dict[str, Matcher | None]:
        activation = ActivationMatching(self.inputs, self.model)
        return {"as they are": None, "weights": WeightMatching(), "activations": activation}

    def _merged(self, members: Sequence[Params]) -> dict[str, float]:
        mean = average(members)
        ways: dict[str, Callable[[], Params]] = {
            "average": lambda: mean,
            "average, REPAIR": lambda: self._mended(mean, members, ["repair"]),
            "average, least squares": lambda: self._mended(mean, members, ["least_squares"]),
            "average, both": lambda: self._mended(mean, members, ["repair", "least_squares"]),
            "RegMean": lambda: RegMean().solve(members, statistics=self._products(members)),
            "half again as wide": lambda: widen(self.spec, members, self._extra()).params,
        }
        return {name: self.score(way()) for name, way in ways.items()}

    def _extra(self) -> dict[str, float]:
        """Half as many units again, but for what a layer norm sees: it would no longer be exact."""
        free = free_groups(self.spec)
        normed = [g for g in free if any("norm" in o.tensor for o in self.spec.occurrences(g))]
        return {group: 0.5 for group in free if group not in normed}

    def _mended(self, mean: Params, members: Sequence[Params], steps: list[str]) -> Params:
        return Mend(self.model, steps).apply(mean, members, [self.inputs])

    def _products(self, members: Sequence[Params]) -> list[Params]:
        """Of each member on inputs of its own task."""
        pairs = zip(members, self.train_sets, strict=True)
        return [input_products(self.model, theta, [x[:EXAMPLES]]) for theta, (x, _) in pairs]

    @torch.no_grad()
    def _together(self) -> float:
        """All networks are run, and the logarithms of their probabilities are averaged."""
        hits = []
        for x, y in self.test:
            outputs = [predicted(self.model, m, x).log_softmax(1) for m in self.members]
            hits.append(float((_mean(outputs).argmax(1) == y).float().mean()))
        return statistics.mean(hits)


def _mean(outputs: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(outputs)).mean(0)


def run_all(options: argparse.Namespace) -> None:
    """Every setting that has no file; a family is trained once."""
    parts = Parts.of_digits() if options.digits else Parts.read(options.data_root)
    for network, seed in itertools.product(options.networks, options.seeds):
        most = max(options.tasks)
        # seeds of members are apart from those of other runs
        families = [Family(network, parts.train, seed=seed + 100 * t) for t in range(most)]
        for count, kind in itertools.product(options.tasks, options.kinds):
            path = path_of(options.out, (network, kind, count), seed)
            if path.exists():
                continue
            start, tasks = time.time(), tasks_of(kind, count)
            found = Setting(families[:count], parts, tasks).rows()
            with replacing(path) as temporary:
                temporary.write_text(json.dumps({"accuracy": found}, indent=1))
            print(f"{path.stem}: {time.time() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main_of(__doc__, run_all, networks=NETWORKS, kinds=KINDS, tasks=[2, 4])
