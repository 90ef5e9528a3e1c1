"""Mimetic starts: the products of attention's matrices look like those of trained transformers.

    W_q^T W_k  =  a Z + b I    of every head, cut to its rank
    W_o  W_v   =  c Z - d I    of all heads together,          Z_ij ~ N(0, 1/width)

Trockman and Kolter (2023), arXiv 2305.09828, section 3: a = b = 0.7, c = d = 0.4; both factors
share the singular values. Trockman and Kolter (2026), arXiv 2602.07156, give the first matrix of
the blocks' perceptrons a mean that is not zero; ``mlp_mean`` is that mean in units of the matrix's
own deviation, and zero unless it is asked for, since we do not know their value.

Which matrices are queries, keys, values and outputs is read off the specification: keys and queries
are written along one family of units per head, values are written and outputs read along another.

Guarantees: the product of values and outputs exactly where the heads together are as wide as the
stream, that of queries and keys to the best approximation of its rank. Not for heads that share
keys, nor under rotary embeddings, where no such family exists; biases, positional embeddings (which
the paper makes sinusoidal) and all other weights stay the network's own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import ClassVar

import torch
from torch import Tensor

from wsl.generative.problem import Start
from wsl.generative.starts.layers import own_weights
from wsl.params import Params, stack, unstack
from wsl.symmetry import PermutationSpec, Piece, pieces


@dataclasses.dataclass(frozen=True)
class MimeticStart:
    """Attention that begins near the identity; the defaults are those of the paper."""

    queries: tuple[float, float] = (0.7, 0.7)
    values: tuple[float, float] = (0.4, 0.4)
    mlp_mean: float = 0.0

    needs: ClassVar[frozenset[str]] = frozenset({"spec"})

    def draw(self, start: Start, n: int, *, generator: torch.Generator) -> Params:
        """Raises ValueError for a network without attention that the specification shows."""
        if start.spec is None:
            raise ValueError("MimeticStart needs spec, but Start has none")
        circuits = list(_circuits(start.spec))
        if not circuits:
            raise ValueError(
                "MimeticStart: the specification shows no attention, that is no units of heads "
                "that two matrices share; use another start"
            )
        drawn = unstack(own_weights(start, n))
        for theta in drawn:
            for pair in circuits:
                self._fill(theta, pair, generator)
            for name in _first_of_blocks(start.spec) if self.mlp_mean else ():
                theta[name] += self.mlp_mean * theta[name].std()
        return stack(drawn)

    def _fill(self, theta: Params, pair: tuple[Piece, Piece], rng: torch.Generator) -> None:
        """Draw both matrices of a pair, in place."""
        first, second = pair
        heads, size, width = first.shape
        if _reads(second):  # queries and keys, each head for itself
            products = [_product(width, self.queries, rng) for _ in range(heads)]
            both = zip(*(_factors(product, size) for product in products), strict=True)
            left, right = (torch.stack(each) for each in both)
            _put(theta, first, left)
            _put(theta, second, right)
        else:  # values, and the output of all heads
            scale, identity = self.values
            left, right = _factors(_product(width, (scale, -identity), rng), heads * size)
            _put(theta, first, right)
            _put(theta, second, left.T)


def _product(width: int, sizes: tuple[float, float], rng: torch.Generator) -> Tensor:
    """Noise and the identity in these sizes."""
    scale, identity = sizes
    z = torch.randn(width, width, generator=rng, dtype=torch.float64) / width**0.5
    return scale * z + identity * torch.eye(width, dtype=torch.float64)


def _factors(product: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Matrices (rank, width) with left^T right = product, as near as the rank allows."""
    u, s, v = torch.linalg.svd(product)
    root = s[:rank].sqrt()[:, None]
    left, right = root * u.T[:rank], root * v[:rank]
    missing = (0, 0, 0, max(0, rank - len(root)))
    return torch.nn.functional.pad(left, missing), torch.nn.functional.pad(right, missing)


def _put(theta: Params, piece: Piece, value: Tensor) -> None:
    """Write a piece into its tensor, in place."""
    tensor = theta[piece.tensor]
    for axis, (start, length) in enumerate(piece.window):
        tensor = tensor.narrow(axis, start, length)
    tensor.copy_(value.reshape(tensor.shape))


def _circuits(spec: PermutationSpec) -> Iterator[tuple[Piece, Piece]]:
    """Pairs of matrices that share a family of units per head; the first one is written along it.

    Of values and outputs the second is the output. Tied keys of several heads are left out.
    """
    families = {group.name for group in spec.declared if group.per}
    matrices = [piece for piece in pieces(spec) if len(piece.atoms) == 3]
    for family in sorted(families):
        pair = [piece for piece in matrices if family in piece.atoms]
        if len(pair) == 2 and any(map(_reads, pair)):
            one, other = sorted(pair, key=_reads, reverse=True)
            if _stream(one) == _stream(other):
                yield one, other


def _reads(piece: Piece) -> bool:
    """Whether a matrix reads a stream into heads, its axes (head, unit, stream)."""
    return len(piece.window) == 2 and piece.parents[1] == 0


def _stream(piece: Piece) -> object:
    return piece.atoms[2] if _reads(piece) else piece.atoms[0]


def _first_of_blocks(spec: PermutationSpec) -> list[str]:
    """Matrices that read a stream into units from which another matrix writes into it."""
    matrices = {p.tensor: p.atoms for p in pieces(spec) if len(p.atoms) == len(p.window) == 2}
    back: Mapping[tuple, str] = {atoms[::-1]: name for name, atoms in matrices.items()}
    order = {name: i for i, name in enumerate(spec.axes)}

    def first(name: str, atoms: tuple) -> bool:
        return atoms in back and order[name] < order[back[atoms]]

    return [
        name
        for name, atoms in matrices.items()
        if all(isinstance(atom, str) for atom in atoms) and first(name, atoms)
    ]
