"""Merge methods on adapters: in a small space in which every change is a full matrix.

    core space   U = left singular vectors of [B_1 ... B_T], V = right ones of [A_1; ...; A_T]
                 M_t = U^T dW_t V;   dW = U method(M_1, ..., M_T) V^T
    KnOTS        [dW_1 ... dW_T] = U S [V_1 ... V_T];   dW = U S method(V_1, ..., V_T)
    CtM          targets X_t = l_t dW_t / |dW_t|, l_t = b |dW_t| + (1 - b) mean_s |dW_s|;
                 (U, V) of rank r by HOOI on the stack X;   dW = U method(U^T dW_t V) V^T

Core space: arXiv 2509.17786 (2025). KnOTS: Stoica et al., arXiv 2410.19735 (2025).
Compress-then-merge: arXiv 2606.03723 (2026). Any method that takes task vectors runs in them, with
a base of zeros. Linear methods give the same in core space as on full matrices.

Limitations: methods that look at single entries (TIES, DARE) depend on the basis of the space,
which tied singular values leave arbitrary.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from wsl.merging.adapters.adapter import Adapter
from wsl.merging.adapters.lowrank import LowRank
from wsl.merging.methods import MergeMethod


class Space(Protocol):
    """A frozen dataclass with one function: changes of one weight to their merge."""

    def merge(self, changes: Sequence[LowRank], method: MergeMethod) -> LowRank:
        """The merged change of at least one."""
        ...


@dataclasses.dataclass(frozen=True)
class CoreSpace:
    """The space that all factors span together; its changes lose nothing."""

    def merge(self, changes: Sequence[LowRank], method: MergeMethod) -> LowRank:
        """A change of at most the sum of all ranks."""
        return _between(*_spans(changes), changes, method=method)


@dataclasses.dataclass(frozen=True)
class CompressThenMerge:
    """A space of ``rank``, fitted to the changes with their lengths evened out by ``beta``."""

    rank: int
    beta: float = 0.25
    iterations: int = 10

    def merge(self, changes: Sequence[LowRank], method: MergeMethod) -> LowRank:
        """A change of ``rank``."""
        norms = torch.tensor([c.norm() for c in changes], dtype=torch.float64)
        wanted = evened(norms, self.beta)
        factors = [float(w / n) if n else 0.0 for w, n in zip(wanted, norms, strict=True)]
        left, right = self._fitted([c * f for c, f in zip(changes, factors, strict=True)])
        return _between(left, right, changes, method=method)

    def _fitted(self, targets: Sequence[LowRank]) -> tuple[Tensor, Tensor]:
        """Tucker-2 of the stack of targets, all products within their own small space."""
        span_b, span_a = _spans(targets)
        core = torch.stack([_inside(span_b, span_a, c) for c in targets])
        right = _leading(torch.einsum("tij,tik->jk", core, core), self.rank)
        left = right
        for _ in range(self.iterations):
            seen = core @ right
            left = _leading(torch.einsum("tij,tkj->ik", seen, seen), self.rank)
            seen = left.mT @ core
            right = _leading(torch.einsum("tij,tik->jk", seen, seen), self.rank)
        return span_b @ left, span_a @ right


@dataclasses.dataclass(frozen=True)
class KnOTS:
    """The method sees how each task reads a common set of output directions."""

    def merge(self, changes: Sequence[LowRank], method: MergeMethod) -> LowRank:
        """A change of at most the sum of all ranks."""
        left, core = torch.linalg.qr(torch.cat([c.b.double() * c.scale for c in changes], 1))
        widths = [c.rank for c in changes]
        parts = [r @ c.a.double() for r, c in zip(core.split(widths, 1), changes, strict=True)]
        u, s, vh = torch.linalg.svd(torch.cat(parts, 1), full_matrices=False)
        kept = s > s[0] * 1e-12  # directions of no length have no meaning
        own = vh[kept].split(changes[0].a.shape[1], 1)
        merged = _solved(own, method)
        return _change(left @ (u[:, kept] * s[kept]), merged, changes)


def merge_adapters(
    adapters: Sequence[Adapter], method: MergeMethod, *, space: Space | None = None
) -> Adapter:
    """Adapters of one base merged by any method that takes task vectors, in core space unless told.

    A weight that some adapters leave alone has a change of zero there. Raises ValueError for no
    adapters, and for magnitudes, biases and whole tensors: apply those to the base first.
    """
    if not adapters:
        raise ValueError("merge_adapters: got 0 adapters; at least one is needed")
    for adapter in adapters:
        for name in (*adapter.magnitudes, *adapter.biases, *adapter.tensors):
            raise ValueError(
                f"{name}: is no low-rank change, so it has no merge in a subspace; apply each "
                "adapter to the base and merge the networks"
            )
    space = space or CoreSpace()
    names = dict.fromkeys(name for adapter in adapters for name in adapter.changes)
    changes = {name: space.merge(_every(adapters, name), method) for name in names}
    return Adapter(changes, kind=f"{type(method).__name__} of {len(adapters)}")


def evened(norms: Tensor, beta: float) -> Tensor:
    """Lengths between their own and the mean of all: 1 keeps them, 0 makes them equal."""
    return beta * norms + (1 - beta) * norms.mean()


def _every(adapters: Sequence[Adapter], name: str) -> list[LowRank]:
    """The change of every adapter, zero where it has none."""
    known = next(a.changes[name] for a in adapters if name in a.changes)
    return [a.changes.get(name, known * 0.0) for a in adapters]


def _spans(changes: Sequence[LowRank]) -> tuple[Tensor, Tensor]:
    """Orthonormal bases of what all B and all A^T together span."""
    left = torch.linalg.qr(torch.cat([c.b.double() for c in changes], 1)).Q
    return left, torch.linalg.qr(torch.cat([c.a.double() for c in changes]).mT).Q


def _between(
    left: Tensor, right: Tensor, changes: Sequence[LowRank], *, method: MergeMethod
) -> LowRank:
    merged = _solved([_inside(left, right, c) for c in changes], method)
    return _change(left @ merged, right.mT, changes)


def _inside(left: Tensor, right: Tensor, change: LowRank) -> Tensor:
    """U^T dW V by the factors."""
    return change.scale * (left.mT @ change.b.double()) @ (change.a.double() @ right)


def _solved(matrices: Sequence[Tensor], method: MergeMethod) -> Tensor:
    members = [{"w": matrix} for matrix in matrices]
    return method.solve(members, base={"w": torch.zeros_like(matrices[0])})["w"]


def _change(b: Tensor, a: Tensor, changes: Sequence[LowRank]) -> LowRank:
    like = changes[0].a.dtype if changes[0].a.dtype == torch.float64 else torch.float32
    return LowRank(b.to(like), a.to(like), 1.0, changes[0].shape)


def _leading(gram: Tensor, rank: int) -> Tensor:
    """The eigenvectors of the ``rank`` largest eigenvalues."""
    return torch.linalg.eigh(gram).eigenvectors[:, -rank:].flip(1)
