"""A checkpoint as its base and the code of what it has learned since.

    theta = theta_0 + decode(encode(theta - theta_0))         of all learned tensors
    error = |theta - theta^| / |theta - theta_0|              bits: of everything but the base

What is not learned (running statistics, counters, masks) is kept as it is, and counted.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from wsl.params import Params, Shapes, check_alike, is_learned, shapes
from wsl.zoo.codecs.compeft import ComPEFT
from wsl.zoo.codecs.lowrank import LowRankResidual


class Codec(Protocol):
    """A frozen dataclass of settings; decoding needs none of them but the kind of numbers."""

    name: ClassVar[str]

    def encode(self, residual: Mapping[str, Tensor]) -> bytes:
        """The code of floating tensors."""
        ...

    def decode(self, data: bytes, shapes: Shapes) -> Params:
        """The tensors of these shapes that a code stands for, float32."""
        ...


CODECS: Mapping[str, type[Codec]] = {"compeft": ComPEFT, "lowrank": LowRankResidual}
"""Every codec by its name."""


@dataclasses.dataclass(frozen=True, eq=False)
class CodedWeights:
    """The code of one checkpoint: ``data`` of what was learned, ``exact`` of all else.

    error: relative, of the residual. weights: how many numbers were learned.
    """

    codec: Codec
    data: bytes
    exact: Params
    error: float
    weights: int

    @property
    def bits_per_weight(self) -> float:
        """Bits of the code for each learned number, without the base and without ``exact``."""
        return 8 * len(self.data) / self.weights

    def decode(self, base: Mapping[str, Tensor]) -> Params:
        """The checkpoint, in the types of the base."""
        residual = self.codec.decode(self.data, shapes(_learned(base)))
        found = {name: _sum(t, residual[name]) for name, t in _learned(base).items()}
        return {name: found[name] if name in found else self.exact[name].clone() for name in base}


@torch.no_grad()
def coded(params: Mapping[str, Tensor], base: Mapping[str, Tensor], codec: Codec) -> CodedWeights:
    """The code of a checkpoint against its base.

    Raises ValueError for names or shapes that differ, complex weights, and nothing that is learned.
    """
    check_alike(base, params)
    learned = _learned(base)
    if not learned:
        raise ValueError("coded: the checkpoint has no learned tensor")
    for name, tensor in learned.items():
        if tensor.is_complex():
            raise ValueError(f"{name}: is complex, which no codec takes")
    residual = {name: params[name].float() - t.float() for name, t in learned.items()}
    data = codec.encode(residual)
    found = codec.decode(data, shapes(residual))
    size = _norm(residual)
    error = _norm({name: t.cpu() - found[name] for name, t in residual.items()})
    exact = {name: t.clone() for name, t in params.items() if name not in learned}
    count = sum(t.numel() for t in residual.values())
    return CodedWeights(codec, data, exact, error / size if size else 0.0, count)


def _learned(params: Mapping[str, Tensor]) -> Params:
    return {name: t for name, t in params.items() if is_learned(name, t)}


def _sum(base: Tensor, residual: Tensor) -> Tensor:
    return (base.float() + residual.to(base.device)).to(base.dtype)


def _norm(tensors: Mapping[str, Tensor]) -> float:
    return sum(float(t.double().square().sum()) for t in tensors.values()) ** 0.5
