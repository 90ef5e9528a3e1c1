"""`Adapter`: the low-rank changes of a network's weights, with the algebra of each weight.

    (w_1 A_1 + w_2 A_2)(theta) = theta + w_1 dW_1 + w_2 dW_2           exactly, by the factors
    <A_1, A_2> = sum over weights <dW_1, dW_2>

Hu et al. (2022), LoRA, arXiv 2106.09685. The sum of factors, which some tools take, is another
change: (B_1 + B_2)(A_1 + A_2) has the cross terms B_1 A_2 and B_2 A_1.

A weight may have a magnitude as well (DoRA, Liu et al. 2024, arXiv 2402.09353),

    theta = diag(mu) (theta_0 + dW) / |theta_0 + dW|      with the norm of each row

which is no sum: such adapters scale and add only after `Adapter.apply`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from wsl.merging.adapters.applying import Applied, applied
from wsl.merging.adapters.lowrank import LowRank, total
from wsl.merging.adapters.parts import AdapterParts
from wsl.merging.adapters.reading import read, without
from wsl.merging.adapters.writing import write


@dataclasses.dataclass(frozen=True, eq=False)
class Adapter(AdapterParts):
    """Changes of weights by name; see `AdapterParts` for its fields."""

    @classmethod
    def load(cls, path: str | Path, *, initial: str | Path | None = None) -> Adapter:
        """Read a PEFT folder, or a file in one of the key styles of `styles`.

        initial: the adapter as it was before training, which kinds that begin at the base's own
        singular vectors (PiSSA) need. Raises ValueError naming what cannot be read: no key is
        dropped.
        """
        found = read(Path(path))
        start = None if initial is None else read(Path(initial))
        return cls(**vars(without(found, start)))

    def save(self, folder: str | Path) -> None:
        """Write a PEFT folder with scales of one, so that every tool reads the same change."""
        write(self, Path(folder))

    def __mul__(self, factor: float) -> Adapter:
        """The adapter times a number, of any sign."""
        return combine([self], [factor])

    __rmul__ = __mul__

    def __add__(self, other: Adapter) -> Adapter:
        """The exact sum; weights that only one of them changes keep that change."""
        return combine([self, other])

    def inner(self, other: Adapter) -> float:
        """The sum of products of all entries of both changes; raises ValueError for magnitudes."""
        _check_linear([self, other], "an inner product")
        shared = [name for name in self.changes if name in other.changes]
        low = sum(self.changes[name].inner(other.changes[name]) for name in shared)
        both = [name for name in self.biases if name in other.biases]
        return low + sum(float((self.biases[n] * other.biases[n]).double().sum()) for n in both)

    def norm(self) -> float:
        """The Frobenius norm of all changes together."""
        return max(self.inner(self), 0.0) ** 0.5

    def compress(self, rank: int) -> tuple[Adapter, float]:
        """Every change cut to ``rank``, and the Frobenius norm of all that is lost."""
        _check_linear([self], "a cut of the rank")
        cut = {name: change.compress(rank) for name, change in self.changes.items()}
        lost = sum(error**2 for _, error in cut.values()) ** 0.5
        return dataclasses.replace(self, changes={n: c for n, (c, _) in cut.items()}), lost

    def canonical(self) -> dict[str, tuple[Tensor, Tensor, Tensor]]:
        """u, singular values and v of every change, the same for all factors of one change."""
        return {name: change.canonical() for name, change in self.changes.items()}

    def apply(self, base: Mapping[str, Tensor]) -> Applied:
        """The base with every change added in float32 or wider and cast once.

        Raises ValueError for weights that the base lacks, for shapes that differ, and for an
        adapter that changes nothing.
        """
        return applied(self, base)


def combine(adapters: Sequence[Adapter], weights: Sequence[float] | None = None) -> Adapter:
    """The exact weighted sum of adapters of one base.

    One adapter with weight one is returned as it is, of whatever kind. Raises ValueError for
    numbers that do not fit, for magnitudes, which do not add, and for whole tensors that two
    adapters replace.
    """
    told = [1.0] * len(adapters) if weights is None else [float(w) for w in weights]
    if not adapters or len(told) != len(adapters):
        raise ValueError(f"got {len(adapters)} adapters and {len(told)} weights")
    if len(adapters) == 1 and told == [1.0]:
        return adapters[0]
    _check_linear(adapters, "a weighted sum")
    _check_changes(adapters)
    names = dict.fromkeys(name for adapter in adapters for name in adapter.changes)
    changes = {name: _sum(name, adapters, told) for name in names}
    kinds = dict.fromkeys(adapter.kind for adapter in adapters)
    return Adapter(changes, biases=_biases(adapters, told), kind="+".join(kinds))


def cosines(adapters: Sequence[Adapter]) -> Tensor:
    """Cosines (N, N), float64, of the changes of N adapters of one base."""
    inner = torch.tensor([[a.inner(b) for b in adapters] for a in adapters], dtype=torch.float64)
    norms = inner.diagonal().clamp(min=0).sqrt()
    lengths = torch.where(norms == 0, 1, norms)
    return inner / (lengths[:, None] * lengths)


def _sum(name: str, adapters: Sequence[Adapter], weights: Sequence[float]) -> LowRank:
    having = [(a, w) for a, w in zip(adapters, weights, strict=True) if name in a.changes]
    try:
        return total([a.changes[name] for a, _ in having], [w for _, w in having])
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def _biases(adapters: Sequence[Adapter], weights: Sequence[float]) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for adapter, weight in zip(adapters, weights, strict=True):
        for name, bias in adapter.biases.items():
            found[name] = found.get(name, torch.zeros_like(bias)) + weight * bias
    return found


def _check_changes(adapters: Sequence[Adapter]) -> None:
    for adapter in adapters:
        if adapter.tensors:
            raise ValueError(
                f"{next(iter(adapter.tensors))}: the adapter replaces this tensor as a whole, "
                "which has no weighted sum with the base; apply adapters first, then merge networks"
            )


def _check_linear(adapters: Sequence[Adapter], what: str) -> None:
    for adapter in adapters:
        if adapter.magnitudes:
            raise ValueError(
                f"{next(iter(adapter.magnitudes))}: has a magnitude ({adapter.kind}), which "
                f"depends on the base, so {what} of factors is not that of the networks; apply "
                "each adapter to the base and merge the networks"
            )
