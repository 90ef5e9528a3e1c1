"""Low-rank residuals: every matrix by its leading singular triples, ranks by energy per byte.

    tau = sum_i s_i u_i v_i^T;   triple i saves s_i^2 of the squared error for (m + n) numbers
    take triples by s_i^2 / (m + n), the best of all matrices first, while they fit into ``ratio``
    error^2 = sum of s_i^2 that were not taken                               (Eckart and Young)

Ryu, Seo, Yoo (2023), "Efficient storage of fine-tuned models via low-rank approximation of weight
residuals", arXiv 2305.18425. Theirs leaves the choice of ranks open here; greedy is optimal up to
the last triple, since within a matrix all cost the same. Convolutions are matrices of their units;
vectors and scalars are kept whole. Factors carry the root of s each, in float32 or float16.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from wsl.params import Params, Shapes

_BYTES = 4
"""Of a number of the residual as it is."""
_Matrix = tuple[Tensor, Tensor, Tensor]


@dataclasses.dataclass(frozen=True)
class LowRankResidual:
    """Residuals in at most this ``ratio`` of their float32 bytes, if vectors alone need no more.

    Raises ValueError unless the ratio is positive.
    """

    name: ClassVar[str] = "lowrank"

    ratio: float = 0.1
    dtype: Literal["float32", "float16"] = "float16"

    def __post_init__(self) -> None:
        if not self.ratio > 0 or self.dtype not in ("float32", "float16"):
            raise ValueError(
                f"LowRankResidual: ratio is {self.ratio} and dtype {self.dtype}; a positive ratio "
                "and float32 or float16 are needed"
            )

    def encode(self, residual: Mapping[str, Tensor]) -> bytes:
        """The code of floating tensors: ranks of all matrices, then factors and vectors."""
        matrices = {n: _svd(t) for n, t in residual.items() if t.dim() > 1}
        whole = {n: t.detach().float().cpu() for n, t in residual.items() if n not in matrices}
        ranks = self._ranks(residual, matrices)
        head = np.array([*ranks.values()], dtype="<u4").tobytes()
        parts = [_factors(matrices[n], rank) for n, rank in ranks.items()]
        parts += [tensor.flatten() for tensor in whole.values()]
        values = (
            torch.cat([each.reshape(-1).float() for each in parts]) if parts else torch.zeros(0)
        )
        return head + values.numpy().astype(self._numpy).tobytes()

    def decode(self, data: bytes, shapes: Shapes) -> Params:
        """The residual of these shapes, float32.

        Raises ValueError for a code that is damaged or of other shapes.
        """
        matrices = [name for name, shape in shapes.items() if len(shape) > 1]
        head = 4 * len(matrices)
        ranks = np.frombuffer(data[:head], "<u4").tolist()
        sizes = [self._size(shapes[n], r) for n, r in zip(matrices, ranks, strict=False)]
        vectors = {n: math.prod(s) for n, s in shapes.items() if len(s) <= 1}
        wanted = head + self._numpy.itemsize * (sum(sizes) + sum(vectors.values()))
        if len(ranks) < len(matrices) or len(data) != wanted:
            raise ValueError(f"the code has {len(data)} bytes, not {wanted}: it is damaged")
        values = torch.from_numpy(np.frombuffer(data, self._numpy, offset=head).astype(np.float32))
        parts = values.split([*sizes, *vectors.values()])
        found = {
            name: _product(part, shapes[name], rank)
            for name, part, rank in zip(matrices, parts, ranks, strict=False)
        }
        rest = parts[len(matrices) :]
        found |= {n: part.view(shapes[n]) for n, part in zip(vectors, rest, strict=True)}
        return {name: found[name] for name in shapes}

    @property
    def _numpy(self) -> np.dtype:
        return np.dtype(self.dtype).newbyteorder("<")

    def _ranks(
        self, residual: Mapping[str, Tensor], matrices: Mapping[str, _Matrix]
    ) -> dict[str, int]:
        """The rank of every matrix, greedily by energy per byte."""
        itemsize = self._numpy.itemsize
        whole = sum(t.numel() for n, t in residual.items() if n not in matrices)
        budget = self.ratio * _BYTES * sum(t.numel() for t in residual.values())
        budget -= itemsize * whole + 4 * len(matrices)
        ranks = dict.fromkeys(matrices, 0)
        triples = [
            (float(s * s) / self._size(residual[n].shape, 1), n)
            for n, (_, values, _) in matrices.items()
            for s in values.tolist()
            if s > 0
        ]
        for _, name in sorted(triples, key=lambda each: -each[0]):
            cost = itemsize * self._size(residual[name].shape, 1)
            if cost <= budget:
                ranks[name] += 1
                budget -= cost
        return ranks

    @staticmethod
    def _size(shape: tuple[int, ...], rank: int) -> int:
        """Numbers in the factors of a tensor."""
        return rank * (shape[0] + math.prod(shape[1:]))


def _svd(tensor: Tensor) -> _Matrix:
    matrix = tensor.detach().cpu().double().flatten(1)
    u, s, vh = torch.linalg.svd(matrix, full_matrices=False)
    return u, s, vh


def _factors(matrix: _Matrix, rank: int) -> Tensor:
    """Both factors of the leading triples, one after the other."""
    u, s, vh = matrix
    root = s[:rank].sqrt()
    return torch.cat([(u[:, :rank] * root).flatten(), (root[:, None] * vh[:rank]).flatten()])


def _product(values: Tensor, shape: tuple[int, ...], rank: int) -> Tensor:
    left, right = values.split([shape[0] * rank, len(values) - shape[0] * rank])
    columns = math.prod(shape[1:])
    return (left.view(shape[0], rank) @ right.view(rank, columns)).view(shape)
