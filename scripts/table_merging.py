"""Every merge method on fine-tunes of one network: the table of `docs/merging.md`.

    python scripts/table_merging.py --data-root DIR -o runs/merging [--tasks 2 4 8] [--seeds 0 1 2]
    python scripts/table_merging.py -o runs/merging --csv docs/merging/methods.csv

MNIST at 14 x 14 pixels. A network is trained on upright images, then fine-tuned on each of T
tasks: ``rotated`` (images turned by t 360 / T degrees), ``split`` (classes in T parts, one head of
ten) and ``permuted`` (the four quarters of an image in another order). A merged network is scored
on 4000 test images, 4000 / T of each task: the mean accuracy. Fields of methods are tuned alike, on
600 validation images, over products of grids. Beside them: the fine-tuned network of each task on
its own task, one network trained on all tasks, and the base. What is finished is read from its
file; without ``--data-root`` nothing is run.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import statistics
import time
from collections.abc import Mapping
from typing import Any

import torch
from merging_tables import main_of, path_of
from merging_tasks import EXAMPLES, NETWORKS, TASKS, Data, Family, Parts, accuracy, tasks_of
from torch import Tensor
from torch.nn import functional as F

from wsl import params
from wsl.base import replacing
from wsl.merging import METHODS, MergeMethod, Tuned, fisher, input_products, tune
from wsl.params import Params

SCALES = [0.15, 0.3, 0.5, 0.8, 1.2, 1.8]
DENSITIES = [0.1, 0.3, 0.9]
PLACES = [0.2, 0.35, 0.5, 0.65, 0.8]
LERP = "average, weights tuned"
"""The control for slerp and nuslerp of two members, whose place on the arc is tuned."""
SCALED = ("task_arithmetic", "gradient_matching", "tsvm", "iso_c")
GRIDS: Mapping[str, Mapping[str, list[Any]]] = {
    **{name: {"scale": SCALES} for name in SCALED},
    "ties": {"density": DENSITIES, "scale": SCALES},
    "dare": {"density": DENSITIES, "scale": SCALES},
    "della": {"density": [0.4, 0.8], "scale": SCALES},
    "breadcrumbs": {"density": [0.5, 0.9], "scale": SCALES},
    "sce": {"select": [0.1, 0.3, 1.0]},
    "pcb": {"density": [0.05, 0.2], "scale": SCALES},
    "iso_cts": {"common": [0.5, 0.8], "scale": SCALES},
    "regmean": {"alpha": [0.1, 0.6, 0.9, 1.0]},
    "slerp": {"t": PLACES},
    "nuslerp": {"weights": [(1 - t, t) for t in PLACES]},
    LERP: {"weights": [(1 - t, t) for t in PLACES]},
}
PAIRS = ("slerp", "nuslerp")
"""For two members only."""
SKIPPED = ("bcwi", "checkpoint_decay")
"""They take an old and a new network, and checkpoints in their order: no tasks."""
STATISTICS = {"fisher": fisher, "input_products": input_products}


class Setting:
    """One family of networks, and tasks of one kind: what was trained, and the scores of merges."""

    def __init__(self, family: Family, parts: Parts, kind: str, *, count: int) -> None:
        tasks = tasks_of(kind, count)
        self.family, self.model = family, family.model
        self.validation, self.test = parts.scored(tasks)
        self.train_sets = [task(parts.train) for task in tasks]
        self.base, self.together = family.base, family.tuned(tasks)
        self.members = [family.tuned([task]) for task in tasks]
        self.measured = functools.cache(self._measured)

    def score(self, theta: Params) -> float:
        """Mean accuracy on validation images."""
        return accuracy(self.model, theta, self.validation)

    def references(self) -> dict[str, float]:
        """Test accuracy of what stands beside the merges."""
        own = zip(self.members, self.test, strict=True)
        return {
            "base": accuracy(self.model, self.base, self.test),
            "each on its own task": statistics.mean(accuracy(self.model, m, [t]) for m, t in own),
            "trained on all tasks": accuracy(self.model, self.together, self.test),
        }

    def merged(self, name: str) -> Tuned:
        """The best of a method over the grids of its fields, by the validation images."""
        method, grid = self._method(name), dict(GRIDS.get(name, {}))
        last = dict([grid.popitem()]) if grid else {}
        given = {
            "base": self.base if "base" in method.needs else None,
            "statistics": self._statistics(method),
        }
        found = []
        for values in itertools.product(*grid.values()):
            fields = {f: [v] for f, v in zip(grid, values, strict=True)} | last
            found.append(tune(method, self.members, self.score, grid=fields, **given))
        return max(found, key=lambda tuned: tuned.score)

    def _method(self, name: str) -> MergeMethod:
        kind = METHODS["average" if name == LERP else name]
        if name == "greedy_soup":
            return kind(self.score)
        if name == "atlas":
            return kind(self._loss, self._mixed(), epochs=60 // len(self.members), lr=3e-2)
        return kind()

    def _loss(self, theta: Params, batch: Data) -> Tensor:
        return F.cross_entropy(params.call(self.model, theta, batch[0]), batch[1])

    def _mixed(self) -> list[Data]:
        """T batches, each with images of all tasks."""
        x, y = (torch.cat([data[part][:EXAMPLES] for data in self.train_sets]) for part in range(2))
        rows = torch.randperm(len(y), generator=torch.Generator().manual_seed(0))
        return [(x[r], y[r]) for r in rows.split(EXAMPLES)]

    def _statistics(self, method: MergeMethod) -> list[Mapping[str, Tensor]] | None:
        if "statistics" not in method.needs:
            return None
        found = self.measured(STATISTICS[method.measures])  # type: ignore[attr-defined]
        return found if "base statistics" in method.needs else found[:-1]

    def _measured(self, measure: Any) -> list[Mapping[str, Tensor]]:
        """Of each member on inputs of its own task, and of the base on upright ones."""
        pairs = list(zip(self.members, self.train_sets, strict=True))
        pairs.append((self.base, self.family.images))
        return [measure(self.model, theta, [x[:EXAMPLES]]) for theta, (x, _) in pairs]


def names_of(count: int) -> list[str]:
    """The rows of a setting that are merges of ``count`` members."""
    fitting = [name for name in METHODS if name not in SKIPPED]
    return [*fitting, LERP] if count == 2 else [n for n in fitting if n not in PAIRS]


def run(setting: Setting, known: Mapping[str, Any]) -> dict[str, Any]:
    """Test accuracy and chosen fields of every method, and what is beside them."""
    found = {part: dict(known.get(part, {})) for part in ("accuracy", "fields", "seconds")}
    found["accuracy"] = found["accuracy"] or setting.references()
    for name in names_of(len(setting.members)):
        if name in found["accuracy"]:
            continue
        start = time.time()
        best = setting.merged(name)
        found["accuracy"][name] = accuracy(setting.model, best.params, setting.test)
        found["fields"][name] = {f: getattr(best.method, f) for f in GRIDS.get(name, {})}
        found["seconds"][name] = round(time.time() - start, 2)
    return found


def run_all(options: argparse.Namespace) -> None:
    """Every setting that has no file; networks of one seed are trained once."""
    parts = Parts.of_digits() if options.digits else Parts.read(options.data_root)
    for network, seed in itertools.product(options.networks, options.seeds):
        family = Family(network, parts.train, seed=seed)
        for kind, count in itertools.product(options.kinds, options.tasks):
            path = path_of(options.out, (network, kind, count), seed)
            known = json.loads(path.read_text()) if path.exists() else {}
            if set(names_of(count)) <= set(known.get("accuracy", {})):
                continue
            start = time.time()
            found = run(Setting(family, parts, kind, count=count), known)
            with replacing(path) as temporary:
                temporary.write_text(json.dumps(found, indent=1))
            print(f"{path.stem}: {time.time() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main_of(__doc__, run_all, networks=NETWORKS, kinds=TASKS, tasks=[2, 4, 8])
