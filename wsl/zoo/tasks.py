"""Tasks: what the members of a population are trained on, and how well they do it.

    Classification:  loss = cross entropy, accuracy = share of argmax f(x) = y, per member and split
    Fields:          loss = mean squared error over the pixels of one image, psnr = -10 log10(loss) for a peak of one

`digits` are the 1,797 8x8 images of the UCI optical recognition set (Alpaydin and Kaynak, 1998) that come with
scikit-learn, so nothing is downloaded. `task` rebuilds one from the description that a zoo file keeps. Other data enter as
arrays: `Classification.split` cuts any images and labels.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wsl.params import Params, call
from wsl.zoo import counter
from wsl.zoo.describe import build
from wsl.zoo.error import ZooError


class Examples(NamedTuple):
    """Images (M, C, H, W) float32 and labels (M,) int64."""

    images: Tensor
    labels: Tensor


@dataclasses.dataclass(frozen=True, eq=False)
class Classification:
    """Images with labels, cut into three disjoint parts."""

    train: Examples
    val: Examples
    test: Examples

    @classmethod
    def split(cls, images: Tensor, labels: Tensor, *, sizes: tuple[int, int, int], seed: int = 0) -> Classification:
        """Cut ``images`` and ``labels`` at random into train, val and test of ``sizes``; the cut depends on ``seed`` alone."""
        if sum(sizes) != len(images) or len(images) != len(labels):
            raise ZooError(f"split: sizes {sizes} must add up to the {len(images)} images and {len(labels)} labels")
        order = counter.uniform(seed, torch.arange(len(images))).argsort()
        return cls(*(Examples(images[part], labels[part]) for part in order.split(list(sizes))))

    @property
    def input_shape(self) -> torch.Size:
        """(C, H, W)."""
        return self.train.images.shape[1:]

    def evaluate(self, model: nn.Module, params: Mapping[str, Tensor], split: str = "test", *,
                 chunk: int = 32) -> dict[str, Tensor]:  # fmt: skip
        """``{"loss": (N,), "accuracy": (N,)}`` of stacked members (N, ...) in eval mode, ``chunk`` of them at once."""
        if split not in ("train", "val", "test"):
            raise ZooError(f"split: {split!r} is not one of 'train', 'val', 'test'")
        images, labels = getattr(self, split)
        losses, hits = [], []
        for part in _chunks(params, chunk):
            with torch.no_grad():
                logits = _in_eval_mode(model, part, images)
            expected = labels.expand(logits.shape[:2])
            losses.append(F.cross_entropy(logits.flatten(0, 1), expected.flatten(), reduction="none").view_as(expected).mean(1))
            hits.append((logits.argmax(-1) == expected).to(logits).mean(1))
        return {"loss": torch.cat(losses), "accuracy": torch.cat(hits)}


@dataclasses.dataclass(frozen=True, eq=False)
class Fields:
    """Images as functions of coordinates: ``coordinates`` (P, 2), ``values`` (M, P, C), ``labels`` (M,)."""

    coordinates: Tensor
    values: Tensor
    labels: Tensor

    @property
    def input_shape(self) -> torch.Size:
        """(2,): one point."""
        return self.coordinates.shape[1:]

    def evaluate(
        self, model: nn.Module, params: Mapping[str, Tensor], images: Tensor, *, chunk: int = 128
    ) -> dict[str, Tensor]:
        """``{"loss": (N,), "psnr": (N,)}`` of stacked members against the images they represent, ``images`` (N,) int64."""
        parts = []
        for part, which in zip(_chunks(params, chunk), images.split(chunk), strict=True):
            with torch.no_grad():
                predicted = _in_eval_mode(model, part, self.coordinates)
            parts.append((predicted - self.values[which]).square().flatten(1).mean(1))
        loss = torch.cat(parts)
        return {"loss": loss, "psnr": -10 * loss.log10()}


def digits() -> Classification:
    """8x8 grey digits in [0, 1], shape (1, 8, 8): 1,097 train, 300 val, 400 test, always the same cut."""
    images, labels = _digits()
    return Classification.split(images[:, None], labels, sizes=(1097, 300, 400))


def digits_fields() -> Fields:
    """The same 1,797 images in scikit-learn's order, as functions of (row, column) in [-1, 1]^2: P = 64, C = 1."""
    images, labels = _digits()
    axis = torch.linspace(-1, 1, 8)
    return Fields(torch.cartesian_prod(axis, axis), images.flatten(1)[..., None], labels)


TASKS: Mapping[str, Callable[..., Classification | Fields]] = {"wsl.zoo.digits": digits, "wsl.zoo.digits_fields": digits_fields}


def task(description: Mapping[str, Any]) -> Any:
    """The task that ``description`` names, such as ``{"_target_": "wsl.zoo.digits"}``; raises `ZooError` for another target."""
    return build(description, allowed=TASKS, what="task")


def _digits() -> tuple[Tensor, Tensor]:
    from sklearn.datasets import load_digits  # a second to import, needed by no other function

    pixels, labels = load_digits(return_X_y=True)
    return torch.tensor(pixels / 16, dtype=torch.float32).view(-1, 8, 8), torch.tensor(labels, dtype=torch.int64)


def _chunks(params: Mapping[str, Tensor], size: int) -> Iterator[Params]:
    members = len(next(iter(params.values())))
    for start in range(0, members, size):
        yield {name: tensor[start : start + size] for name, tensor in params.items()}


def _in_eval_mode(model: nn.Module, params: Params, x: Tensor) -> Tensor:
    training = model.training
    try:
        return call(model.eval(), params, x)
    finally:
        model.train(training)
