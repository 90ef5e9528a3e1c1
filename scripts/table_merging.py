"""Every merge method on fine-tunes of one network: the tables of `docs/merging.md`.

    python scripts/table_merging.py --data-root DIR -o runs/merging [--tasks 2 4 8] [--seeds 0 1 2]

MNIST at 14 x 14 pixels. A network is trained on upright images, then fine-tuned on each of T
tasks: ``rotated`` (images turned by t 360 / T degrees), ``split`` (classes in T parts, one head of
ten) and ``permuted`` (the four quarters of an image in another order). A merged network is scored
on the test images of all tasks: the mean accuracy. Fields of methods are tuned alike, by coordinate
search on 500 validation images a task. Beside them: the fine-tuned network of each task on its own
task, one network trained on all tasks, and the base. A finished setting is read from its file.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wsl import params
from wsl.base import replacing
from wsl.merging import (
    METHODS,
    MergeMethod,
    tune,
)
from wsl.merging.statistics import fisher, input_products
from wsl.params import Params
from wsl.populations.tasks.images import Images, mnist

Task = tuple[Tensor, Tensor]
SCALES = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.3]
DENSITIES = [0.1, 0.2, 0.5, 0.9]
GRIDS: Mapping[str, Mapping[str, list[Any]]] = {
    "task_arithmetic": {"scale": SCALES},
    "ties": {"density": DENSITIES, "scale": SCALES},
    "dare": {"density": DENSITIES, "scale": SCALES},
    "della": {"density": [0.3, 0.5, 0.8], "scale": SCALES},
    "breadcrumbs": {"density": [0.5, 0.9], "scale": SCALES},
    "sce": {"select": DENSITIES},
    "pcb": {"density": [0.05, 0.1, 0.2], "scale": SCALES},
    "gradient_matching": {"scale": SCALES},
    "tsvm": {"scale": SCALES},
    "iso_c": {"scale": SCALES},
    "iso_cts": {"scale": SCALES, "common": [0.5, 0.8]},
    "regmean": {"alpha": [0.1, 0.6, 0.9, 1.0]},
}
SKIPPED = ("slerp", "nuslerp", "bcwi", "checkpoint_decay")
"""Two members only, or members in an order."""


class Tokens(nn.Module):
    """A transformer of two layers on 49 patches of 2 x 2 pixels."""

    def __init__(self, width: int = 32, heads: int = 4) -> None:
        super().__init__()
        self.embed = nn.Conv2d(1, width, 2, 2)
        self.position = nn.Parameter(torch.randn(49, width) * 0.02)
        layer = nn.TransformerEncoderLayer(
            width, heads, 2 * width, dropout=0.0, batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 1, 14, 14) to (N, 10)."""
        tokens = self.embed(x).flatten(2).mT + self.position
        return self.head(self.norm(self.layers(tokens)).mean(1))


def convolutional() -> nn.Module:
    """Three convolutions and a linear layer, 45 000 weights."""
    first = [nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    second = [nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    last = [nn.Conv2d(64, 32, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32, 10)]
    return nn.Sequential(*first, *second, *last)


NETWORKS: Mapping[str, Callable[[], nn.Module]] = {"cnn": convolutional, "transformer": Tokens}


def images(part: Images, count: int, start: int = 0) -> Task:
    """``count`` images at half their resolution, and labels."""
    pixels = torch.tensor(part[0][start : start + count]).float()[:, None] / 255
    return (F.avg_pool2d(pixels, 2) - 0.13) / 0.3, torch.tensor(
        part[1][start : start + count]
    ).long()


def rotated(data: Task, task: int, tasks: int) -> Task:
    """Turned by an angle; corners are cut off."""
    x, y = data
    angle = torch.tensor(2 * torch.pi * task / tasks)
    c, s = angle.cos(), angle.sin()
    matrix = torch.tensor([[c, -s, 0.0], [s, c, 0.0]]).expand(len(x), 2, 3)
    grid = F.affine_grid(matrix, list(x.shape), align_corners=False)
    return F.grid_sample(x + 0.43, grid, align_corners=False) - 0.43, y


def split(data: Task, task: int, tasks: int) -> Task:
    """The images of some classes."""
    x, y = data
    mine = torch.arange(10)[task::tasks]
    chosen = torch.isin(y, mine)
    return x[chosen], y[chosen]


def permuted(data: Task, task: int, tasks: int) -> Task:
    """Patches of 7 x 7 pixels in another order, as they were for task 0."""
    del tasks
    x, y = data
    order = list(itertools.permutations(range(4)))[task]
    rows = [r for half in x.split(7, 2) for r in half.split(7, 3)]
    moved = [rows[i] for i in order]
    return torch.cat([torch.cat(moved[:2], 3), torch.cat(moved[2:], 3)], 2), y


KINDS: Mapping[str, Callable[[Task, int, int], Task]] = {
    "rotated": rotated,
    "split": split,
    "permuted": permuted,
}


def train(model: nn.Module, data: Task, *, steps: int, lr: float, seed: int) -> Params:
    """Adam with a linear decay, batches of 64."""
    (x, y), rng = data, torch.Generator().manual_seed(seed)
    adam = torch.optim.Adam(model.parameters(), lr)
    for step in range(steps):
        adam.param_groups[0]["lr"] = lr * (1 - step / steps)
        rows = torch.randint(len(y), (64,), generator=rng)
        adam.zero_grad()
        F.cross_entropy(model(x[rows]), y[rows]).backward()
        adam.step()
    return params.from_module(model)


class Setting:
    """One network, one kind of tasks, their number, one seed: what was trained, and its scores."""

    def __init__(self, network: str, kind: str, tasks: int, *, seed: int) -> None:
        self.make, self.kind, self.tasks, self.seed = NETWORKS[network], KINDS[kind], tasks, seed

    def prepare(self, train_images: Task, validation: Task, test: Task) -> None:
        """Train the base, the members, and one network on all tasks."""
        torch.manual_seed(self.seed)
        self.model = self.make()
        self.base = train(self.model, train_images, steps=600, lr=2e-3, seed=self.seed)
        parts = (train_images, validation, test)
        self.train_sets, self.validation, self.test = map(self.cut, parts)
        self.members = [self.tuned(data, 400) for data in self.train_sets]
        every = tuple(torch.cat(parts) for parts in zip(*self.train_sets, strict=True))
        self.together = self.tuned(every, 400 * self.tasks)  # type: ignore[arg-type]

    def cut(self, images: Task) -> list[Task]:
        """The images of every task."""
        return [self.kind(images, task, self.tasks) for task in range(self.tasks)]

    def tuned(self, data: Task, steps: int) -> Params:
        """The base, trained on."""
        self.model.load_state_dict(self.base)
        return train(self.model, data, steps=steps, lr=1e-3, seed=self.seed + 1)

    @torch.no_grad()
    def accuracies(self, theta: Params, sets: list[Task]) -> list[float]:
        """Of each task."""
        hits = [params.call(self.model.eval(), theta, x).argmax(1) == y for x, y in sets]
        return [float(h.float().mean()) for h in hits]

    def score(self, theta: Params) -> float:
        """Mean accuracy on validation images."""
        return statistics.mean(self.accuracies(theta, self.validation))

    def method(self, name: str) -> MergeMethod:
        """With what it needs of data: 256 training images a task."""
        kind = METHODS[name]
        if name == "greedy_soup":
            return kind(self.score)
        if name == "atlas":
            rows = [(x[:256], y[:256]) for x, y in self.train_sets]
            return kind(self.loss, rows, epochs=30, lr=3e-2)
        return kind()

    def loss(self, theta: Params, batch: Task) -> Tensor:
        """Cross-entropy of one batch."""
        return F.cross_entropy(params.call(self.model, theta, batch[0]), batch[1])

    def measured(self, name: str) -> list[Mapping[str, Tensor]] | None:
        """Statistics of each member on inputs of its own task, and of the base on the first."""
        method = METHODS[name]
        if "statistics" not in method.needs:
            return None
        measure = {"fisher": fisher, "input_products": input_products}[method.measures]
        pairs = list(zip(self.members, self.train_sets, strict=True))
        if "base statistics" in method.needs:
            pairs.append((self.base, self.train_sets[0]))
        return [measure(self.model, theta, [x[:256]]) for theta, (x, _) in pairs]

    def rows(self) -> dict[str, float]:
        """Test accuracy, the mean over tasks, of every method and of what is beside them."""
        own = [self.accuracies(m, [s])[0] for m, s in zip(self.members, self.test, strict=True)]
        found = {
            "base": statistics.mean(self.accuracies(self.base, self.test)),
            "each on its own task": statistics.mean(own),
            "trained on all tasks": statistics.mean(self.accuracies(self.together, self.test)),
        }
        for name in METHODS:
            if name not in SKIPPED:
                found[name] = self.merged(name)
        return found

    def merged(self, name: str) -> float:
        """Test accuracy of one method, its fields tuned on validation images."""
        base = self.base if "base" in METHODS[name].needs else None
        best = tune(
            self.method(name),
            self.members,
            self.score,
            grid=GRIDS.get(name, {}),
            base=base,
            statistics=self.measured(name),
        )
        return statistics.mean(self.accuracies(best.params, self.test))


def table(folder: Path, networks: list[str], kinds: list[str], *, tasks: list[int]) -> str:
    """Mean and spread over seeds of every row, one column for each setting."""
    columns: dict[str, list[dict[str, float]]] = {}
    for network, kind, count in itertools.product(networks, kinds, tasks):
        files = sorted(folder.glob(f"{network}-{kind}-{count}-*.json"))
        if files:
            columns[f"{network}, {kind} {count}"] = [json.loads(f.read_text()) for f in files]
    lines = ["| method | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    names = dict.fromkeys(name for rows in columns.values() for row in rows for name in row)
    for name in names:
        cells = [_cell([row[name] for row in rows if name in row]) for rows in columns.values()]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(values: list[float]) -> str:
    if not values:
        return ""
    mean = f"{100 * statistics.mean(values):.1f}"
    return mean if len(values) == 1 else f"{mean} ± {100 * statistics.stdev(values):.1f}"


def main() -> None:
    """Run what is not done yet, then print the table."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=NETWORKS)
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS)
    parser.add_argument("--tasks", type=int, nargs="+", default=[2, 4, 8])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    torch.set_num_threads(2)
    data = mnist(options.data_root)
    parts = images(data.train, 12000), images(data.train, 500, 50000), images(data.test, 4000)
    for seed, network, kind, count in itertools.product(
        options.seeds, options.networks, options.kinds, options.tasks
    ):
        path = options.out / f"{network}-{kind}-{count}-{seed}.json"
        if path.exists():
            continue
        start, setting = time.time(), Setting(network, kind, count, seed=seed)
        setting.prepare(*parts)
        rows = setting.rows()
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(rows, indent=1))
        print(f"{path.stem}: {time.time() - start:.0f} s", flush=True)
    print(table(options.out, options.networks, options.kinds, tasks=options.tasks))


if __name__ == "__main__":
    main()
