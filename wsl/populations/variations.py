"""Many tasks from one: a subset of the classes in some order, rotation, inversion.

    member i sees    images of the classes (c_1, ..., c_k), turned by 90 r_i degrees, as x or 1 - x
    and learns       class c_j as label j - 1

The order of the classes permutes the labels. What a member's task is stands in its columns, so that
a generator can be conditioned on it. Each network has k outputs; chance is 1/k. Quarter turns move
pixels and change none; other angles are interpolated, and what comes from outside is black.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from wsl.params import Params, unstack
from wsl.populations.classifiers import METRICS, ClassifierPopulation, Hyper, Metrics
from wsl.populations.stacked import Trained
from wsl.populations.tasks import Examples, SampledBatches, logits
from wsl.zoo import ZooError

_CLASSES = 10
"""Of the image tasks that there are."""


@dataclasses.dataclass(frozen=True, eq=False)
class TaskVariants:
    """Tasks of N members: ordered ``classes`` (N, k), ``turns`` (N,), ``invert`` (N,).

    ``turns`` counts quarter turns against the clock; between whole ones images are interpolated.
    """

    classes: Tensor
    turns: Tensor
    invert: Tensor

    def of(self, members: Tensor) -> TaskVariants:
        """The tasks of the members at these positions."""
        return TaskVariants(self.classes[members], self.turns[members], self.invert[members])

    def to(self, device: torch.device) -> TaskVariants:
        """The same on ``device``."""
        return TaskVariants(self.classes.to(device), self.turns.to(device), self.invert.to(device))

    def labels(self, labels: Tensor) -> Tensor:
        """(N, M) int64: for the original ``labels`` (M,) or (N, M), those of each member's task.

        -1 where a member's task has no such class.
        """
        place = self._place_of_class
        known = labels.expand(len(place), labels.shape[-1])
        # classes beyond the largest that any member has are in no task
        found = place.gather(1, known.clamp(max=place.shape[1] - 1))
        return torch.where(known < place.shape[1], found, -1)

    @property
    def _place_of_class(self) -> Tensor:
        """(N, classes): at which place of its order each member has each class, or -1."""
        members, count = self.classes.shape
        device = self.classes.device
        place = torch.full((members, int(self.classes.max()) + 1), -1, device=device)
        order = torch.arange(count, device=device).expand_as(self.classes)
        return place.scatter_(1, self.classes, order)

    def images(self, images: Tensor) -> Tensor:
        """(N, B, C, H, W), square, as the members see them."""
        turned = rotated(images, 90.0 * self.turns)
        return torch.where(rearrange(self.invert, "n -> n 1 1 1 1"), 1 - turned, turned)


def rotated(images: Tensor, degrees: Tensor) -> Tensor:
    """Square ``images`` (N, B, C, H, W), those of row n turned by ``degrees[n]`` against the clock.

    Multiples of 90 move pixels exactly. Other angles are bilinear between the four nearest pixels
    of the image turned by the quarter below, with zeros outside.
    """
    quarters = (degrees / 90).floor().long()
    rest = (degrees - 90.0 * quarters).to(images.dtype)
    turned = _quarter_turned(images, quarters % 4)
    between = (rest > 0).nonzero()[:, 0]
    if len(between):
        turned[between] = _interpolated(turned[between], rest[between].deg2rad())
    return turned


def _quarter_turned(images: Tensor, quarters: Tensor) -> Tensor:
    rows = torch.arange(len(images), device=images.device)
    return torch.stack([images.rot90(k, (-2, -1)) for k in range(4)], 1)[rows, quarters]


def _back(angles: Tensor) -> Tensor:
    """Maps (N, 2, 3) from each pixel to where it comes from.

    Rows are counted downwards, so that against the clock is (cos, -sin).
    """
    cos, sin, zero = angles.cos(), angles.sin(), torch.zeros_like(angles)
    return torch.stack([torch.stack([cos, -sin, zero], 1), torch.stack([sin, cos, zero], 1)], 1)


def _interpolated(images: Tensor, angles: Tensor) -> Tensor:
    back = _back(angles)
    n, b, c, h, w = images.shape
    flat = images.reshape(n, b * c, h, w)
    grid = F.affine_grid(back, [n, b * c, h, w], align_corners=False)
    return F.grid_sample(flat, grid, align_corners=False).view(n, b, c, h, w)


@dataclasses.dataclass(frozen=True, eq=False)
class VariantBatches:
    """Batches from ``base``, which draws each member's own classes only, seen as its task says."""

    base: SampledBatches
    variants: TaskVariants

    def of(self, members: Tensor) -> VariantBatches:
        """The batches of the members at these positions."""
        return VariantBatches(self.base.of(members), self.variants.of(members))

    def __call__(self, step: int) -> tuple[Tensor, Tensor]:
        """Inputs (N, B, ...) and targets (N, B) of ``step``."""
        images, labels = self.base(step)
        return self.variants.images(images), self.variants.labels(labels)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaskPopulation(ClassifierPopulation):
    """Classifiers of one architecture, each of a task of its own.

    A member learns ``classes`` of the task's ten classes, turned and inverted; ``turns`` and
    ``invert`` False leave images as they are. ``angles``, in degrees, replace the quarter turns;
    ``digits`` are those of the task's classes that members choose from, by default all. The
    architecture has as many outputs as ``classes``.
    """

    classes: int
    turns: bool = True
    invert: bool = True
    angles: tuple[float, ...] = ()
    digits: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("angles", "digits"):
            object.__setattr__(self, name, tuple(getattr(self, name)))

    @property
    def description(self) -> dict[str, Any]:
        """The recipe as plain data; files made before there were angles keep their hash."""
        later = {name for name in ("angles", "digits") if not getattr(self, name)}
        return {name: value for name, value in super().description.items() if name not in later}

    @property
    def columns(self) -> Mapping[str, type]:
        """Also the task: ``classes`` as in ``7,1,0``, ``turn`` in degrees, ``inverted``."""
        turn = float if self.angles else int
        return {**super().columns, "classes": str, "turn": turn, "inverted": bool}

    def hyper_parameters(self, members: Tensor) -> Hyper:
        """Also the task of each of ``members``."""
        own = {
            "classes": [",".join(map(str, classes)) for classes in self._order(members).tolist()],
            "turn": self._turn(members),
            "inverted": (self.draw(members, 12) < 0.5) & self.invert,
        }
        return super().hyper_parameters(members) | own

    def _order(self, members: Tensor) -> Tensor:
        """The classes of each member, (N, classes)."""
        known = torch.tensor(self.digits or range(_CLASSES))
        ranks = torch.stack([self.draw(members, 100 + int(c)) for c in known], 1)
        return known[ranks.argsort(1)[:, : self.classes]]

    def _turn(self, members: Tensor) -> Tensor:
        """Degrees, (N,)."""
        if not self.turns:
            return torch.zeros_like(members)
        angles = torch.tensor(self.angles or (0, 90, 180, 270))
        return angles[(self.draw(members, 11) * len(angles)).long()]

    def _check(self, data: Any) -> None:
        count = len(self.digits) or _CLASSES
        if not 2 <= self.classes <= count:
            raise ZooError(
                f"classes: {self.classes} of the task's {count} classes asked for; at least 2 "
                "are needed"
            )
        super()._check(data)

    def _classes(self, data: Any) -> int:  # noqa: ARG002 - a variant has as many as it is asked for
        return self.classes

    def _batches(self, data: Any, hyper: Hyper) -> VariantBatches:
        variants = _variants_of(hyper, data.train.images.device)
        allowed = (variants.labels(data.train.labels) >= 0).cpu()
        drawn = dataclasses.replace(super()._batches(data, hyper), allowed=allowed)
        return VariantBatches(drawn, variants)

    def _evaluate(self, data: Any, model: nn.Module, trained: Trained, **own: Any) -> Metrics:
        """Each member on its own task, over the whole splits."""
        variants = _variants_of(own["hyper"], data.train.images.device)
        found: dict[str, list[Tensor]] = {name: [] for name in METRICS}
        for params in trained.snapshots:
            for split in ("train", "test"):
                loss, accuracy = _scores(model, params, getattr(data, split), variants=variants)
                found[f"{split}_loss"].append(loss)
                found[f"{split}_accuracy"].append(accuracy)
        return {name: torch.cat(values) for name, values in found.items()}


def _variants_of(hyper: Hyper, device: torch.device) -> TaskVariants:
    classes = torch.tensor([list(map(int, text.split(","))) for text in hyper["classes"]])
    return TaskVariants(classes, hyper["turn"] / 90, hyper["inverted"]).to(device)


def _scores(
    model: nn.Module, params: Params, examples: Examples, *, variants: TaskVariants
) -> tuple[Tensor, Tensor]:
    """Loss and accuracy (N,) of stacked members, each on the images of its own classes.

    One by one, since members have different numbers of such images.
    """
    losses, accuracies = [], []
    for i, theta in enumerate(unstack(params)):
        own = variants.of(torch.tensor([i]))
        labels = own.labels(examples.labels)[0]
        mine = labels >= 0
        found, labels = (
            logits(model, theta, own.images(examples.images[mine][None])[0]),
            labels[mine],
        )
        losses.append(F.cross_entropy(found, labels))
        accuracies.append((found.argmax(-1) == labels).to(found).mean())
    return torch.stack(losses), torch.stack(accuracies)
