"""`ImageEdit`: train networks from weights to weights to edit the image that a network represents.

    loss_i = mean_p |F_{f(theta_i)}(x_p) - e(image_i)(x_p)|^2

x_p are the points of the pixel grid of the zoo's task, and pixels lie in [0, 1].
The task of Zhou et al. (2023), Permutation Equivariant Neural Functionals, arXiv 2302.14040:
targets are edits e of the images themselves, not of what the representations render, so that part
of a network's error is the fit it was given. Their code scales pixels to [-1, 1], which multiplies
the error by four, and means CLAHE by contrast, on CIFAR-10. What leaving the weights as they are
would score is ``evaluate(nn.Identity(), zoo, objective)``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from wsl.params import Params, call
from wsl.populations import Fields, build_architecture, task
from wsl.training.objectives.scores import column
from wsl.zoo import Checkpoints

_ROWS = 128
"""Members rendered at once outside of training: what bounds the memory of an evaluation."""


def dilate(images: Tensor) -> Tensor:
    """The largest of the 3x3 pixels around each, of images (n, C, H, W)."""
    return F.max_pool2d(images, 3, stride=1, padding=1)


def contrast(images: Tensor, factor: float = 2.0) -> Tensor:
    """Twice as far from the image's mean, cut to [0, 1]: torchvision's for a grey image."""
    mean = images.mean((-3, -2, -1), keepdim=True)
    return torch.lerp(mean, images, factor).clamp(0, 1)


EDITS: Mapping[str, Callable[[Tensor], Tensor]] = {"dilate": dilate, "contrast": contrast}


class ImageEdit:
    """Mean squared error, over the pixels, of the edited representations of a zoo's images.

    ``edit``: "dilate", "contrast", or a function of images (n, C, H, W) in [0, 1]. ``data_root``:
    of the task's files. Raises ValueError for a zoo that is not one of implicit representations of
    images on a grid.
    """

    reads_zoo: ClassVar[bool] = True
    column: ClassVar[str] = "image"
    monitor: ClassVar[str] = "psnr"
    out_features: ClassVar[None] = None

    def __init__(
        self,
        zoo: Checkpoints,
        edit: str | Callable[[Tensor], Tensor] = "dilate",
        *,
        data_root: str | Path | None = None,
    ):
        if isinstance(edit, str) and edit not in EDITS:
            raise ValueError(
                f"edit='{edit}': choose {' or '.join(EDITS)}, or give a function of images (n, C, "
                "H, W)"
            )
        self.name, self.edit = (
            (edit, EDITS[edit])
            if isinstance(edit, str)
            else (getattr(edit, "__name__", repr(edit)), edit)
        )
        self.fields = _fields(zoo, data_root)
        self.grid = _grid(self.fields.coordinates)
        self.base = build_architecture(zoo.architecture or {}).eval().requires_grad_(False)

    def __repr__(self) -> str:
        return f"ImageEdit(edit={self.name!r})"

    def render(self, params: Params) -> Tensor:
        """Images (B, C, H, W) that weights (B, *shape) show, differentiable in the weights."""
        like = next(iter(params.values()))
        values = call(self.base.to(like), params, self.fields.coordinates.to(like))
        return values.transpose(1, 2).unflatten(2, self.grid)

    def targets(self, metadata: Mapping[str, Tensor]) -> Tensor:
        """Edited images (B, C, H, W) of the members that the metadata are of."""
        values = self.fields.targets(column(metadata, self.column).cpu())
        return self.edit(values.transpose(1, 2).unflatten(2, self.grid))

    def losses(self, outputs: Params, metadata: Mapping[str, Tensor]) -> Tensor:
        """Error (B,) of each member, with gradients."""
        shown = self.render(outputs)
        return (shown - self.targets(metadata).to(shown)).square().flatten(1).mean(1)

    def rows(self, outputs: Params, metadata: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Number of the image and error."""
        return {"image": column(metadata, self.column), "mse": self._errors(outputs, metadata)}

    def metrics(self, outputs: Params, metadata: Mapping[str, Tensor]) -> dict[str, float]:
        """Mean error, and -10 log10 of it in decibels."""
        mse = self._errors(outputs, metadata).double().mean()
        return {"psnr": float(-10 * mse.log10()), "mse": float(mse)}

    def _errors(self, outputs: Params, metadata: Mapping[str, Tensor]) -> Tensor:
        count, parts = len(next(iter(outputs.values()))), []
        with torch.no_grad():
            for part in (slice(start, start + _ROWS) for start in range(0, count, _ROWS)):
                weights, about = (
                    {name: t[part] for name, t in given.items()} for given in (outputs, metadata)
                )
                parts.append(self.losses(weights, about))
        return torch.cat(parts)


def _fields(zoo: Checkpoints, data_root: str | Path | None) -> Fields:
    """The images that the members represent."""
    data = (
        task(zoo.provenance["task"], data_root)
        if zoo.architecture and "task" in zoo.provenance
        else None
    )
    if not isinstance(data, Fields) or ImageEdit.column not in zoo.columns:
        raise ValueError(
            f"{zoo.path}: its networks do not show one image each, so there is nothing to edit; "
            "an edit needs a "
            "zoo of implicit representations that names its task and architecture, such as "
            "mnist_inr"
        )
    return data


def _grid(coordinates: Tensor) -> tuple[int, int]:
    """(H, W) of points (P, 2) that are a grid in row-major order."""
    height, width = (len(axis.unique()) for axis in coordinates.T)
    if height * width != len(coordinates):
        raise ValueError(
            f"the {len(coordinates)} points of the zoo's task are no grid of {height} by {width} "
            "pixels, which an "
            "edit needs"
        )
    return height, width
