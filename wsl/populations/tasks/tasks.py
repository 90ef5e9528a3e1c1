"""Tasks: what the members of a population are trained on, and how well they do it.

    Classification:   loss = cross entropy              accuracy = share of argmax f(x) = y
    Fields:           loss = mean squared error         psnr = -10 log10(loss)

Losses are per member: of a classifier over the images of a split, of a field over the pixels of its
one image, whose peak is one. `digits` are the 1,797 8x8 images of the UCI optical recognition set
(Alpaydin and Kaynak, 1998) that come with scikit-learn, so nothing is downloaded; MNIST and
CIFAR-10 are read from a folder of the user's, ``data_root``. `task` rebuilds one from the
description that a zoo file keeps. Other data enter as arrays: `Classification.split` cuts any
images and labels.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from wsl.base import counter, did_you_mean
from wsl.params import Params, call
from wsl.populations.architectures import PerMember
from wsl.populations.describe import build
from wsl.populations.tasks import images
from wsl.zoo import ZooError

_IMAGES = 2000
"""Images that all members of a chunk see at once: what bounds the memory of an evaluation."""


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
    files: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """SHA-256 of each file that the images were read from."""

    @classmethod
    def split(
        cls, images: Tensor, labels: Tensor, *, sizes: tuple[int, int, int], seed: int = 0
    ) -> Classification:
        """Cut ``images`` and ``labels`` into train, val and test of ``sizes``.

        The cut is random and depends on ``seed`` alone.
        """
        if sum(sizes) != len(images) or len(images) != len(labels):
            raise ZooError(
                f"split: sizes {sizes} must add up to the {len(images)} images and {len(labels)} "
                "labels"
            )
        order = counter.uniform(seed, torch.arange(len(images))).argsort()
        train, val, test = (
            Examples(images[part], labels[part]) for part in order.split(list(sizes))
        )
        return cls(train, val, test)

    @property
    def input_shape(self) -> torch.Size:
        """(C, H, W)."""
        return self.train.images.shape[1:]

    def to(self, device: torch.device | str) -> Classification:
        """The same task with its images and labels on ``device``."""
        train, val, test = (
            Examples(*(part.to(device) for part in examples))
            for examples in (self.train, self.val, self.test)
        )
        return dataclasses.replace(self, train=train, val=val, test=test)

    def evaluate(
        self,
        model: nn.Module,
        params: Mapping[str, Tensor],
        split: str = "test",
        *,
        chunk: int = 32,
        limit: int | None = None,
    ) -> dict[str, Tensor]:
        """``{"loss": (N,), "accuracy": (N,)}`` of stacked members (N, ...) in eval mode.

        ``chunk`` members are run at once; ``limit`` takes that many images from the front of the
        split.
        """
        if split not in ("train", "val", "test"):
            hint = did_you_mean(split, ("train", "val", "test"))
            raise ZooError(f"split: {split!r} is not one of 'train', 'val', 'test'{hint}")
        examples = Examples(*(part[:limit] for part in getattr(self, split)))
        parts = [_scores(model, part, examples) for part in _chunks(params, chunk)]
        return {name: torch.cat([part[name] for part in parts]) for name in ("loss", "accuracy")}


@dataclasses.dataclass(frozen=True, eq=False)
class Fields:
    """Images as functions of coordinates.

    ``coordinates`` (P, 2), ``values`` (M, P, C), ``labels`` (M,). Values are floats, or bytes that
    stand for [0, 1] in 255ths.
    """

    coordinates: Tensor
    values: Tensor
    labels: Tensor
    files: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """SHA-256 of each file that the images were read from."""

    def to(self, device: torch.device | str) -> Fields:
        """The same task with images and coordinates on ``device``; labels stay where they are."""
        return dataclasses.replace(
            self, coordinates=self.coordinates.to(device), values=self.values.to(device)
        )

    def batch(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Coordinates (n, P, 2), in memory once, and values (n, P, C) of ``images`` (n,) int64."""
        return self.coordinates.expand(len(images), -1, -1), self.targets(images)

    def targets(self, images: Tensor) -> Tensor:
        """(n, P, C) float values of ``images``, (n,) int64."""
        values = self.values[images.to(self.values.device)]
        return values if values.is_floating_point() else values.float() / 255

    @property
    def input_shape(self) -> torch.Size:
        """(2,): one point."""
        return self.coordinates.shape[1:]

    def evaluate(
        self, model: nn.Module, params: Mapping[str, Tensor], images: Tensor, *, chunk: int = 128
    ) -> dict[str, Tensor]:
        """``{"loss": (N,), "psnr": (N,)}`` of stacked members, of which i represents images[i].

        ``images`` is (N,) int64; ``chunk`` members are run at once.
        """
        parts = []
        for part, which in zip(_chunks(params, chunk), images.split(chunk), strict=True):
            error = logits(model, part, self.coordinates) - self.targets(which)
            parts.append(error.square().flatten(1).mean(1))
        loss = torch.cat(parts)
        return {"loss": loss, "psnr": -10 * loss.log10()}


def digits() -> Classification:
    """8x8 grey digits in [0, 1], shape (1, 8, 8), always cut in the same way.

    1,097 are for train, 300 for val, 400 for test.
    """
    images, labels = _digits()
    return Classification.split(images[:, None], labels, sizes=(1097, 300, 400))


def digits_fields() -> Fields:
    """The same 1,797 images as functions of (row, column) in [-1, 1]^2, with P = 64, C = 1.

    They are in scikit-learn's order.
    """
    images, labels = _digits()
    axis = torch.linspace(-1, 1, 8)
    return Fields(torch.cartesian_prod(axis, axis), images.flatten(1)[..., None], labels)


def mnist(*, data_root: str | Path | None = None) -> Classification:
    """28x28 grey digits in [0, 1], shape (1, 28, 28).

    Of the 60,000 published for training 55,000 are train and 5,000 val; test are the published
    10,000.
    """
    return _published(images.mnist(data_root), val=5000)


def mnist_fields(*, data_root: str | Path | None = None) -> Fields:
    """All 70,000 MNIST images as functions of (row, column) in [-1, 1]^2, with P = 784, C = 1.

    The 60,000 training images come first.
    """
    source = images.mnist(data_root)
    values, labels = (np.concatenate([source.train[k], source.test[k]]) for k in (0, 1))
    axis = torch.linspace(-1, 1, 28)
    pixels = torch.tensor(values, dtype=torch.uint8).flatten(1)[..., None]
    return Fields(
        torch.cartesian_prod(axis, axis),
        pixels,
        torch.tensor(labels, dtype=torch.int64),
        source.files,
    )


def cifar10_gray(*, data_root: str | Path | None = None) -> Classification:
    """32x32 CIFAR-10 images in grey (luma of Rec. 601) in [0, 1].

    Of the 50,000 published for training 45,000 are train and 5,000 val; test are the published
    10,000.
    """
    source = images.cifar10(data_root)
    luma = np.array([0.299, 0.587, 0.114], dtype=np.float32)
    train, test = ((pixels @ luma, labels) for pixels, labels in (source.train, source.test))
    return _published(images.PublishedImages(train, test, source.files), val=5000)


TASKS: Mapping[str, Callable[..., Classification | Fields]] = {
    f"wsl.zoo.{function.__name__}": function
    for function in (digits, digits_fields, mnist, mnist_fields, cifar10_gray)
}


def task(description: Mapping[str, Any], data_root: str | Path | None = None) -> Any:
    """The task that ``description`` names, such as ``{"_target_": "wsl.zoo.digits"}``.

    ``data_root`` is the folder of the public files, for tasks that read some. Raises `ZooError` for
    another target.
    """
    if "data_root" in description:
        raise ZooError("task: a description does not say where data lie; pass data_root beside it")
    function = TASKS.get(description.get("_target_", ""))
    reads = function is not None and "data_root" in inspect.signature(function).parameters
    where = {"data_root": data_root} if reads else {}
    return build({**description, **where}, allowed=TASKS, what="task")


def _published(source: images.PublishedImages, *, val: int) -> Classification:
    """The published test part, and the last ``val`` training images for validation."""
    train, test = (
        Examples(
            torch.tensor(pixels, dtype=torch.float32)[:, None] / 255,
            torch.tensor(labels, dtype=torch.int64),
        )
        for pixels, labels in (source.train, source.test)
    )
    cut = len(train.images) - val
    kept, held = (
        Examples(train.images[part], train.labels[part]) for part in (slice(cut), slice(cut, None))
    )
    return Classification(kept, held, test, source.files)


def _digits() -> tuple[Tensor, Tensor]:
    from sklearn.datasets import load_digits  # a second to import, needed by no other function

    pixels, labels = load_digits(return_X_y=True)
    images = rearrange(torch.tensor(pixels / 16, dtype=torch.float32), "n (h w) -> n h w", h=8)
    return images, torch.tensor(labels, dtype=torch.int64)


def _chunks(params: Mapping[str, Tensor], size: int) -> Iterator[Params]:
    members = len(next(iter(params.values())))
    for start in range(0, members, size):
        yield {name: tensor[start : start + size] for name, tensor in params.items()}


def _scores(model: nn.Module, params: Params, examples: Examples) -> dict[str, Tensor]:
    """Mean loss and accuracy (N,) of stacked members on ``examples``."""
    losses, hits = [], []
    images, labels = (part.split(_IMAGES) for part in examples)
    for x, y in zip(images, labels, strict=True):
        found = logits(model, params, x)
        expected = y.expand(found.shape[:2])
        loss = F.cross_entropy(
            rearrange(found, "n b c -> (n b) c"), expected.flatten(), reduction="none"
        )
        losses.append(loss.view_as(expected))
        hits.append((found.argmax(-1) == expected).to(found))
    return {"loss": torch.cat(losses, 1).mean(1), "accuracy": torch.cat(hits, 1).mean(1)}


def logits(model: nn.Module, params: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """Outputs in eval mode and without gradients, of one member or of stacked ones (N, ...)."""
    training = model.training
    # writes recurrent layers out; its draws are those of dropout, of which eval mode has none
    per_member = PerMember(torch.tensor(0), torch.tensor(0), None)
    try:
        with torch.no_grad(), per_member:
            return call(model.eval(), params, x)
    finally:
        model.train(training)
