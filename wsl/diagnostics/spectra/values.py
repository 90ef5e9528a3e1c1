"""Singular values of every matrix of a network, and ranks that are read off them.

    W (out, in, *kernel) -> (out, in * prod(kernel)) = sum_i s_i u_i v_i^T,    s_1 >= s_2 >= ...
    effective rank   exp(H(p)),  p_i = s_i / sum_j s_j         Roy and Vetterli (2007)
    stable rank      |W|_F^2 / |W|_2^2 = sum_i s_i^2 / s_1^2   Rudelson and Vershynin (2007)
    condition        s_1 / s_k,  k = min(out, in)              infinite without full rank

Effective and stable rank are from 1 to min(out, in), and 0 for a matrix of zeros. Convolutions are
matrices whose rows are units; what is not learned and what has one axis has no spectrum. Values are
of the weight as it lies: it is nothing but a weight that is asked, not how inputs use it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from wsl.params import is_learned


@dataclasses.dataclass(frozen=True, eq=False)
class MatrixSpectrum:
    """Singular ``values`` (min(rows, columns),) of one matrix, from the largest on, float64."""

    name: str
    shape: tuple[int, int]
    values: Tensor

    @property
    def rank(self) -> int:
        """How many values are above rounding in float32."""
        return int((self.values > self._rounding()).sum())

    @property
    def effective_rank(self) -> float:
        """The exponential of the entropy of the values."""
        return entropy_rank(self.values)

    @property
    def stable_rank(self) -> float:
        """The square of the Frobenius norm over that of the largest value."""
        largest = float(self.values[0]) if len(self.values) else 0.0
        return float((self.values / largest).square().sum()) if largest else 0.0

    @property
    def condition(self) -> float:
        """The largest value over the smallest."""
        if not len(self.values) or self.rank < len(self.values):
            return float("inf")
        return float(self.values[0] / self.values[-1])

    def energy_rank(self, share: float = 0.99) -> int:
        """The fewest values whose squares hold this share of the sum of squares."""
        return energy_rank(self.values.square(), share)

    def _rounding(self) -> float:
        largest = float(self.values[0]) if len(self.values) else 0.0
        return largest * max(self.shape) * torch.finfo(torch.float32).eps


@dataclasses.dataclass(frozen=True, eq=False)
class NetworkSpectra:
    """The spectra of all matrices of a network by the names of their tensors."""

    each: Mapping[str, MatrixSpectrum]

    def __getitem__(self, name: str) -> MatrixSpectrum:
        return self.each[name]

    def __iter__(self) -> Iterator[MatrixSpectrum]:
        return iter(self.each.values())

    def __len__(self) -> int:
        return len(self.each)


@torch.no_grad()
def network_spectra(params: Mapping[str, Tensor]) -> NetworkSpectra:
    """The spectrum of every matrix and convolution that is learned."""
    found = {name: _spectrum(name, matrix) for name, matrix in matrices(params).items()}
    return NetworkSpectra(found)


def entropy_rank(values: Tensor) -> float:
    """exp(H(s / sum s)) of singular values (k,); 0 where all are zero."""
    shares = values[values > 0].double() / values.double().sum()
    return float((-(shares * shares.log()).sum()).exp()) if len(shares) else 0.0


def energy_rank(energies: Tensor, share: float) -> int:
    """The fewest of ``energies`` (k,), which fall, that hold a share of their sum.

    Raises ValueError unless 0 < share <= 1.
    """
    if not 0 < share <= 1:
        raise ValueError(f"a share of the energy is above 0 and at most 1, got {share}")
    total = energies.sum()
    if not len(energies) or not total > 0:
        return 0
    # rounding of the sum must not ask for one more than there are
    held = energies.cumsum(0) / total >= share - 1e-12
    return int(held.int().argmax()) + 1 if bool(held.any()) else len(energies)


def matrices(params: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The learned tensors of two axes or more as matrices of units, in double precision."""
    chosen = {n: t for n, t in params.items() if is_learned(n, t) and t.dim() > 1 and t.numel()}
    return {n: wide(t).flatten(1) for n, t in chosen.items()}


def wide(tensor: Tensor) -> Tensor:
    """The tensor in float64, or complex128 if it is complex."""
    return tensor.to(torch.complex128 if tensor.is_complex() else torch.float64)


def _spectrum(name: str, matrix: Tensor) -> MatrixSpectrum:
    rows, columns = matrix.shape
    return MatrixSpectrum(name, (rows, columns), torch.linalg.svdvals(matrix).cpu())
