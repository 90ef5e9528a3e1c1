"""Tasks on small MNIST images, two small networks, and their training, for tables of merging."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wsl import params
from wsl.params import Params
from wsl.populations import Examples, digits
from wsl.populations.tasks.images import Images, mnist

Data = tuple[Tensor, Tensor]
"""Images (N, 1, 14, 14) and labels (N,)."""
VALIDATION, TEST = 600, 4000
"""Images of all tasks together, so that a score costs the same whatever their number."""
EXAMPLES = 256
"""Training images of each task that statistics and learned coefficients see."""
BASE_STEPS = {"cnn": 400, "transformer": 800}
TASK_STEPS, MOST_STEPS = 300, 600
RATES = {"cnn": (7e-3, 4e-3), "transformer": (6e-3, 4e-3)}
"""Learning rates of bases and of fine-tuning; few steps ask for high ones."""


class Block(nn.Module):
    """Attention of four heads and two linear layers, each after a layer norm."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(N, L, D) to the same."""
        y = self.norm1(x)
        q, k, v = (f(y).unflatten(2, (self.heads, -1)).transpose(1, 2) for f in self.qkv())
        weights = (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1)
        x = x + self.out((weights @ v).transpose(1, 2).flatten(2))
        return x + self.down(self.up(self.norm2(x)).relu())

    def qkv(self) -> tuple[nn.Linear, nn.Linear, nn.Linear]:
        """The layers that write queries, keys and values."""
        return self.query, self.key, self.value


class Tokens(nn.Module):
    """A transformer of two blocks on 16 overlapping patches of 5 x 5 pixels, 19 000 weights."""

    def __init__(self, width: int = 32, heads: int = 4) -> None:
        super().__init__()
        self.embed = nn.Conv2d(1, width, 5, 3)
        self.position = nn.Parameter(torch.randn(16, width) * 0.02)
        self.blocks = nn.Sequential(Block(width, heads), Block(width, heads))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 1, 14, 14) to (N, 10)."""
        tokens = self.embed(x).flatten(2).mT + self.position
        return self.head(self.norm(self.blocks(tokens)).mean(1))


def convolutional() -> nn.Module:
    """Three convolutions and a linear layer, 14 000 weights."""
    first = [nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    second = [nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    last = [nn.Conv2d(32, 32, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32, 10)]
    return nn.Sequential(*first, *second, *last)


NETWORKS: Mapping[str, Callable[[], nn.Module]] = {"cnn": convolutional, "transformer": Tokens}


@dataclasses.dataclass(frozen=True)
class Task:
    """``value`` is an angle, the number of a permutation, or the part of the classes."""

    kind: str
    value: int
    parts: int = 1

    def __call__(self, data: Data) -> Data:
        return KINDS[self.kind](data, self)


def tasks_of(kind: str, count: int) -> list[Task]:
    """``count`` tasks; tasks of smaller counts are among them, but for ``split``."""
    values = [t * 360 // count for t in range(count)] if kind == "rotated" else range(count)
    return [Task(kind, value, count if kind == "split" else 1) for value in values]


def rotated(data: Data, task: Task) -> Data:
    """Turned by an angle in degrees; corners are cut off."""
    x, y = data
    if not task.value:
        return data
    angle = torch.tensor(torch.pi * task.value / 180)
    c, s = angle.cos(), angle.sin()
    matrix = torch.tensor([[c, -s, 0.0], [s, c, 0.0]]).expand(len(x), 2, 3)
    grid = F.affine_grid(matrix, list(x.shape), align_corners=False)
    return F.grid_sample(x + 0.43, grid, align_corners=False) - 0.43, y


def split(data: Data, task: Task) -> Data:
    """The images of some classes."""
    x, y = data
    chosen = torch.isin(y, torch.arange(10)[task.value :: task.parts])
    return x[chosen], y[chosen]


def permuted(data: Data, task: Task) -> Data:
    """The quarters of 7 x 7 pixels in another order, as they were for task 0."""
    x, y = data
    order = list(itertools.permutations(range(4)))[task.value]
    rows = [r for half in x.split(7, 2) for r in half.split(7, 3)]
    moved = [rows[i] for i in order]
    return torch.cat([torch.cat(moved[:2], 3), torch.cat(moved[2:], 3)], 2), y


def upright(data: Data, task: Task) -> Data:
    """As they are: no tasks at all."""
    del task
    return data


KINDS: Mapping[str, Callable[[Data, Task], Data]] = {
    "upright": upright,
    "rotated": rotated,
    "split": split,
    "permuted": permuted,
}
TASKS = ("rotated", "split", "permuted")


@dataclasses.dataclass(frozen=True)
class Parts:
    """The upright images: 12 000 to train, others to choose by, and those of the test set."""

    train: Data
    validation: Data
    test: Data

    @classmethod
    def read(cls, root: Path) -> Parts:
        """From the folder of the IDX files."""
        found = mnist(root)
        test, validation = _images(found.test, TEST), _images(found.train, VALIDATION, 50000)
        return cls(_images(found.train, 12000), validation, test)

    @classmethod
    def of_digits(cls) -> Parts:
        """The 8 x 8 digits drawn at 14 x 14: 1,097 images to train, 300 to choose by, 400."""
        found = digits()
        return cls(_drawn(found.train), _drawn(found.val), _drawn(found.test))

    def scored(self, tasks: Sequence[Task]) -> tuple[list[Data], list[Data]]:
        """Validation and test images of each task: its part of a fixed number."""
        parts = (self.validation, self.test)
        validation, test = ([_share(part, task, len(tasks)) for task in tasks] for part in parts)
        return validation, test


def _images(part: Images, count: int, start: int = 0) -> Data:
    """``count`` images at half their resolution, and labels."""
    pixels, labels = (torch.tensor(array[start : start + count]) for array in part)
    return (F.avg_pool2d(pixels.float()[:, None] / 255, 2) - 0.13) / 0.3, labels.long()


def _drawn(part: Examples) -> Data:
    """At the size and scale of the others."""
    x = F.interpolate(part.images, size=(14, 14), mode="bilinear", align_corners=False)
    return (x - 0.13) / 0.3, part.labels


def _share(data: Data, task: Task, count: int) -> Data:
    # a split is a share already
    size = len(data[1]) if task.kind == "split" else len(data[1]) // count
    return task((data[0][:size], data[1][:size]))


class Family:
    """A base trained on upright images from one seed, and what is fine-tuned from it, each once."""

    def __init__(self, network: str, images: Data, *, seed: int) -> None:
        self.images, self.seed, self.found = images, seed, {}
        self.rates, self.base_steps = RATES[network], BASE_STEPS[network]
        torch.manual_seed(seed)
        self.model = NETWORKS[network]()

    @functools.cached_property
    def base(self) -> Params:
        """Trained first, from its random start."""
        return self._trained(self.images, self.base_steps, lr=self.rates[0], seed=self.seed)

    def tuned(self, tasks: Sequence[Task]) -> Params:
        """The base trained on, on the images of one task or of several."""
        key = tuple(tasks)
        if key not in self.found:
            data = [torch.cat(part) for part in zip(*(t(self.images) for t in key), strict=True)]
            self.model.load_state_dict(self.base)
            steps = min(TASK_STEPS * len(key), MOST_STEPS)
            told = (data[0], data[1])
            self.found[key] = self._trained(told, steps, lr=self.rates[1], seed=self.seed + 1)
        return self.found[key]

    def _trained(self, data: Data, steps: int, *, lr: float, seed: int) -> Params:
        """Adam with a linear decay, batches of 64."""
        (x, y), rng = data, torch.Generator().manual_seed(seed)
        adam = torch.optim.Adam(self.model.parameters(), lr)
        self.model.train()
        for step in range(steps):
            adam.param_groups[0]["lr"] = lr * (1 - step / steps)
            rows = torch.randint(len(y), (64,), generator=rng)
            adam.zero_grad()
            F.cross_entropy(self.model(x[rows]), y[rows]).backward()
            adam.step()
        self.model.eval()
        return params.from_module(self.model)


@torch.no_grad()
def accuracy(model: nn.Module, theta: Params, sets: Sequence[Data]) -> float:
    """The mean over tasks."""
    hits = [predicted(model, theta, x).argmax(1) == y for x, y in sets]
    return sum(float(h.float().mean()) for h in hits) / len(hits)


@torch.no_grad()
def predicted(model: nn.Module, theta: Params, x: Tensor) -> Tensor:
    """Logits (N, 10), in parts that stay in the cache: half the time of one call."""
    return torch.cat([params.call(model, theta, part) for part in x.split(500)])
