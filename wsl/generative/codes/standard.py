"""Weights as standardised vectors, and back.

    x = (u(theta) - mu) / sigma,    u = log for running variances, identity otherwise

mu is a mean per entry, sigma one deviation per tensor, so that entries keep their relative size.
Both are fitted on training members only and stored with the generator; a normaliser fitted per
split would let the test set leak in. Integer tensors, the counters of batch norm, are no part of
the vector: they are copied from a reference.

``symmetric`` takes one mean for all entries that the group moves onto each other, so that the map
commutes with it: x(g.theta) = g.x(theta). That is for weights that are not aligned.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from wsl.nn import BlockLayout
from wsl.params import Params, is_running_variance, ravel, unravel
from wsl.symmetry import PermutationSpec

_TINY = 1e-12


class Standardizer(nn.Module):
    """Params (N, ...) -> (N, P) for the tensors of ``spec`` that are not listed in ``copied``."""

    def __init__(
        self, spec: PermutationSpec, *, copied: tuple[str, ...] = (), symmetric: bool = False
    ) -> None:
        super().__init__()
        self.shapes = {name: shape for name, shape in spec.shapes.items() if name not in copied}
        self.features = sum(shape.numel() for shape in self.shapes.values())
        self.layout = BlockLayout(spec.restrict(self.shapes)) if symmetric else None
        self.register_buffer("mean", torch.zeros(self.features))
        self.register_buffer("std", torch.ones(self.features))
        self.mean: Tensor
        self.std: Tensor

    def fit(self, params: Mapping[str, Tensor]) -> Standardizer:
        """Take mean and deviation from training members.

        A tensor that never varies keeps deviation 1.
        """
        raw = self._vector(params).double()
        mean = raw.mean(0)
        if self.layout is not None:
            mean = ravel(_over_orbits(self.layout, unravel(mean, self.shapes)))
        spread = {
            name: part.square().mean().sqrt().expand(part.shape[1:])
            for name, part in unravel(raw - mean, self.shapes).items()
        }
        std = ravel(spread)
        self.mean.copy_(mean)
        self.std.copy_(torch.where(std > _TINY, std, 1.0))
        return self

    def forward(self, params: Mapping[str, Tensor]) -> Tensor:
        """Standardised vectors (N, P)."""
        return (self._vector(params) - self.mean) / self.std

    def inverse(self, vectors: Tensor) -> Params:
        """Weights (N, ...) without the copied tensors; `forward` of them is ``vectors``."""
        params = unravel(vectors * self.std + self.mean, self.shapes)
        return {
            name: _positive(tensor) if is_running_variance(name) else tensor
            for name, tensor in params.items()
        }

    def _vector(self, params: Mapping[str, Tensor]) -> Tensor:
        parts = {name: params[name].to(self.mean) for name in self.shapes}
        return ravel(
            {
                name: t.clamp_min(_TINY).log() if is_running_variance(name) else t
                for name, t in parts.items()
            },
            batch_dims=1,
        )


def _over_orbits(layout: BlockLayout, params: Mapping[str, Tensor]) -> Params:
    """Each entry of one network's tensors becomes the mean along the axes that units move on."""
    pieces = layout.split_weights({name: tensor[None] for name, tensor in params.items()})
    means = [
        piece.mean(tuple(range(piece.dim() - 2)), keepdim=True).expand(piece.shape)
        if piece.dim() > 2
        else piece
        for piece in pieces
    ]
    return {name: tensor[0, ..., 0] for name, tensor in layout.join(means).items()}


def _positive(logarithm: Tensor) -> Tensor:
    """exp, where a far-off code would leave the type's range as positive and finite as it can."""
    limits = torch.finfo(logarithm.dtype)
    return logarithm.exp().clamp(limits.tiny, limits.max)
