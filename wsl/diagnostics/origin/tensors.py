"""Two checkpoints tensor by tensor: what is the same, what was cast, pruned or changed, and how.

    cosine     <a, b> / (|a| |b|)          equal     share of entries with a = b
    equal      every entry is              cast      equal after rounding to the coarser type
    pruned     b is a, with more zeros     low rank  b - a has at most a quarter of the full rank
    changed    anything else

Nothing is aligned here: tensors are compared as they lie. Shared zeros count as equal entries, so
that the share is taken over entries that are not zero in both.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TypeVar

import torch
from torch import Tensor

from wsl.diagnostics.origin.ranks import DifferenceRank, difference_rank

_T = TypeVar("_T")
KINDS = ("equal", "cast", "pruned", "low rank", "changed")


@dataclasses.dataclass(frozen=True)
class TensorPair:
    """One tensor of two checkpoints, of one shape.

    kind: one of `KINDS`. cosine: NaN where either is zero. equal: share of equal entries among
    those that are not zero in both, 1 without any. zeros: share of zeros in a and in b. rank: of
    the difference, for floating matrices and kernels that differ.
    """

    name: str
    kind: str
    entries: int
    cosine: float
    equal: float
    zeros: tuple[float, float]
    rank: DifferenceRank | None = None


@dataclasses.dataclass(frozen=True)
class TensorComparison:
    """All that two checkpoints have in common by name and shape, and what they have not.

    missing: only in a; new: only in b. reshaped: shapes in a and b. retyped: types in a and b.
    """

    pairs: Mapping[str, TensorPair]
    missing: tuple[str, ...]
    new: tuple[str, ...]
    reshaped: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]
    retyped: Mapping[str, tuple[str, str]]

    @property
    def alike(self) -> bool:
        """Whether names and shapes are the same."""
        return not (self.missing or self.new or self.reshaped)

    @property
    def same(self) -> bool:
        """Whether the weights are the same, but for rounding to another type."""
        return self.alike and all(pair.kind in ("equal", "cast") for pair in self.pairs.values())

    def of_kind(self, kind: str) -> tuple[str, ...]:
        """Names of the tensors of one kind."""
        return tuple(name for name, pair in self.pairs.items() if pair.kind == kind)

    @property
    def equal_entries(self) -> float:
        """Share of equal entries over all tensors in common."""
        total = sum(pair.entries for pair in self.pairs.values())
        return sum(pair.entries * pair.equal for pair in self.pairs.values()) / max(1, total)


@torch.no_grad()
def compare_tensors(
    a: Mapping[str, Tensor], b: Mapping[str, Tensor], *, ranks: bool = True
) -> TensorComparison:
    """Compare by name. ``ranks`` False leaves out ranks of differences, which cost most."""
    common = [name for name in a if name in b]
    reshaped = _unlike({n: (tuple(a[n].shape), tuple(b[n].shape)) for n in common})
    retyped = _unlike({n: (_kind(a[n]), _kind(b[n])) for n in common})
    alike = [n for n in common if n not in reshaped]
    pairs = {n: _compared(n, a[n], b[n], ranks=ranks) for n in alike}
    missing, new = tuple(n for n in a if n not in b), tuple(n for n in b if n not in a)
    return TensorComparison(pairs, missing, new, reshaped, retyped)


def _unlike(pairs: Mapping[str, tuple[_T, _T]]) -> dict[str, tuple[_T, _T]]:
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _compared(name: str, a: Tensor, b: Tensor, *, ranks: bool) -> TensorPair:
    b = b.to(a.device)
    same, zero = _equal(a, b), (a == 0, b == 0)
    differ = _has_rank(a, b) and not bool(same.all())
    rank = difference_rank(a, b) if ranks and differ else None
    kind = _named(same, zero, a.dtype == b.dtype)
    kind = "low rank" if kind == "changed" and rank is not None and rank.is_low else kind
    equal, zeros = _equal_share(same, zero), (_share(zero[0]), _share(zero[1]))
    return TensorPair(name, kind, a.numel(), _cosine(a, b), equal, zeros, rank)


def _equal_share(same: Tensor, zero: tuple[Tensor, Tensor]) -> float:
    """Share of equal entries among those that are not zero in both; 1 without any."""
    shown = ~(zero[0] & zero[1])
    count = int(shown.sum())
    return float((same & shown).sum()) / count if count else 1.0


def _named(same: Tensor, zero: tuple[Tensor, Tensor], one_type: bool) -> str:
    if bool(same.all()):
        return "equal" if one_type else "cast"
    if bool((same | zero[1]).all()) and int(zero[1].sum()) > int(zero[0].sum()):
        return "pruned"
    return "changed"


def _equal(a: Tensor, b: Tensor) -> Tensor:
    """Entry by entry, in the coarser of two types."""
    floating = [t for t in (a, b) if t.is_floating_point()]
    if a.dtype == b.dtype or len(floating) < 2:
        return a == b
    coarser = max((a.dtype, b.dtype), key=lambda dtype: torch.finfo(dtype).eps)
    return a.to(coarser) == b.to(coarser)


def _has_rank(a: Tensor, b: Tensor) -> bool:
    return a.is_floating_point() and b.is_floating_point() and a.dim() > 1 and a.numel() > 0


def _cosine(a: Tensor, b: Tensor) -> float:
    x, y = a.double().flatten(), b.double().flatten()
    size = float(x.norm() * y.norm())
    return float(x @ y) / size if size else float("nan")


def _share(mask: Tensor) -> float:
    return float(mask.double().mean()) if mask.numel() else 0.0


def _kind(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
