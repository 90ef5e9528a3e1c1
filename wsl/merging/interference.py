"""How task vectors stand to each other, before they are merged: what may get lost, and where.

    tau_t = theta_t - theta_0
    cosine     <tau_s, tau_t> / (|tau_s| |tau_t|)                     of all learned weights
    conflict   share of entries with tau_s tau_t < 0 among those that both move
    overlap    mean over matrices of |V_s V_t^T|_F / sqrt(k)     k leading right singular vectors
    gradients  mean over inputs x of |grad_x L(theta_s) - grad_x L(theta_t)|

Of 28 measures of pairs, right overlap and distances of input gradients were among the best at
foretelling how well a pair merges; cosines of gradients from few samples told nothing (arXiv
2601.22285, 2026). That study ranks the partners of one task: none of these numbers says by itself
that a merge will work. Its text leaves open how gradients of several inputs are put together: here
it is the mean of the distances. Sign conflicts are what TIES resolves (arXiv 2306.01708).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from wsl.connectivity import check_alike
from wsl.diagnostics import effective_rank
from wsl.params import Params, is_learned

InputLoss = Callable[[Params, Tensor], Tensor]
"""The loss of weights on inputs (N, ...), summed over them, that can be differentiated."""


@dataclasses.dataclass(frozen=True, eq=False)
class Interference:
    """Measures of T task vectors: ``cosine``, ``conflict`` and ``overlap`` are (T, T), float64.

    names: tensors that any member moves. layers: of each of them the mean cosine and the mean
    conflict over pairs, (tensors, 2). effective_rank: how many directions the vectors span, from 1
    to T. Entries are NaN where a vector is zero, or where no matrix is moved.
    """

    cosine: Tensor
    conflict: Tensor
    overlap: Tensor
    names: tuple[str, ...]
    layers: Tensor
    effective_rank: float


@torch.no_grad()
def interference(
    members: Sequence[Mapping[str, Tensor]], base: Mapping[str, Tensor], *, rank: int = 4
) -> Interference:
    """Measures of the changes of ``members`` from ``base``; ``rank`` is k, or less where it must.

    Raises ValueError for members that differ from the base in names or shapes, for none, and for a
    rank below one.
    """
    _check(members, base, rank)
    tau = {name: _changes(members, base, name) for name in base if is_learned(name, base[name])}
    tau = {name: each for name, each in tau.items() if bool(each.any())}
    none = torch.full((len(members), len(members)), float("nan"), dtype=torch.float64)
    if not tau:
        return Interference(none, none, none, (), none.new_zeros(0, 2), 0.0)
    pairs = [_counted(each) for each in tau.values()]
    overlaps = [_overlap(each, rank) for each in tau.values() if each.dim() > 2]
    overlap = torch.stack(overlaps).nanmean(0) if overlaps else none
    layers = torch.stack([_means(*each) for each in pairs])
    cosine, conflict = _shares(*(torch.stack(each).sum(0) for each in zip(*pairs, strict=True)))
    vectors = torch.cat([each.flatten(1) for each in tau.values()], 1)
    rank_of_all = effective_rank([*vectors])
    return Interference(cosine, conflict, overlap, tuple(tau), layers, rank_of_all)


def input_gradient_distances(
    members: Sequence[Mapping[str, Tensor]], loss: InputLoss, inputs: Tensor
) -> Tensor:
    """The distances (T, T), float64, of the gradients of ``loss`` by each of ``inputs`` (N, ...).

    Raises ValueError for inputs that are not floating.
    """
    if not inputs.is_floating_point():
        raise ValueError(
            f"input_gradient_distances: inputs are {inputs.dtype}, which have no gradient"
        )
    gradients = []
    for member in members:
        x = inputs.detach().clone().requires_grad_()
        (found,) = torch.autograd.grad(loss(dict(member), x), x)
        gradients.append(found.flatten(1).double())
    each = torch.stack(gradients, 1)  # (N, T, entries)
    return torch.cdist(each, each).mean(0).cpu()


def _check(members: Sequence[Mapping[str, Tensor]], base: Mapping[str, Tensor], rank: int) -> None:
    if not members or rank < 1:
        raise ValueError(
            f"interference: got {len(members)} members and rank {rank}; at least one is needed"
        )
    for member in members:
        check_alike(base, member)


def _changes(
    members: Sequence[Mapping[str, Tensor]], base: Mapping[str, Tensor], name: str
) -> Tensor:
    start = _real(base[name])
    return torch.stack([_real(member[name]).to(start.device) - start for member in members])


def _real(tensor: Tensor) -> Tensor:
    """Double precision; a complex tensor as pairs of real numbers."""
    return (torch.view_as_real(tensor) if tensor.is_complex() else tensor).double()


def _counted(tau: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Inner products, entries of unlike sign, and entries that both move: each (T, T)."""
    rows, signs = tau.flatten(1), tau.flatten(1).sign()
    both, agreed = signs.abs() @ signs.abs().mT, signs @ signs.mT
    return rows @ rows.mT, (both - agreed) / 2, both


def _shares(inner: Tensor, unlike: Tensor, both: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines and conflicts; NaN where there is nothing to compare."""
    lengths = inner.diagonal().sqrt()
    cosine = inner / (lengths[:, None] * lengths)
    return cosine.clamp(-1, 1).cpu(), (unlike / both).cpu()


def _means(inner: Tensor, unlike: Tensor, both: Tensor) -> Tensor:
    """The mean cosine and conflict of one tensor over pairs of different members, (2,)."""
    apart = ~torch.eye(len(inner), dtype=torch.bool)
    return torch.stack([each[apart].nanmean() for each in _shares(inner, unlike, both)])


def _overlap(tau: Tensor, rank: int) -> Tensor:
    """Overlaps (T, T) of one matrix; NaN for a member that does not move it."""
    matrices = tau.flatten(2)
    k = min(rank, *matrices.shape[1:])
    v = torch.linalg.svd(matrices, full_matrices=False).Vh[:, :k]
    found = torch.einsum("ski,tli->stkl", v, v).square().sum((2, 3)).div(k).sqrt()
    still = ~matrices.flatten(1).any(1)
    found[still] = found[:, still] = float("nan")
    return found.cpu()
