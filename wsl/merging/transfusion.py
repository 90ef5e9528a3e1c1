"""A task vector moved onto another base: what was learned from one start, added to another.

    pi = the element that brings theta_A to theta_B          pi.theta_A close to theta_B
    theta = theta_B + lambda (pi.theta_A' - pi.theta_A)      theta_A' fine-tuned from theta_A
    heads start at   argmin over p  sum_h sum_w |sigma(w_h) - sigma(w'_p(h))|     w: Q, K, V, O

Without pi the vector acts on units that mean something else. Rinaldi et al. (2025), "Update your
transformer to the latest release: re-basin of task vectors", ICML, arXiv 2505.22697. The singular
values of a head do not change with the order of the stream nor of its own rows, so heads can be
assigned by them before anything else is known. Theirs keeps that assignment and matches the rest;
here it is one of two starts of the matcher, beside that as the networks stand, and the better
objective is kept. The matcher is `wsl.matching.CircuitMatching` unless told.

Guarantees: if theta_B is theta_A under an element that is found, the result at lambda = 1 is
theta_A' under it, to the bit for permutations. Running statistics and counters are those of
theta_B: measure them anew on data. Limitations: bases that were trained apart are only roughly the
same after matching; tune ``scale`` on validation data, as for any task vector.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import torch
from torch import Tensor

from wsl.matching import CircuitMatching, Match, Matcher, assign, match
from wsl.params import Params, check_alike, is_learned
from wsl.symmetry import Occurrence, Permutation, PermutationSpec, heads_of, mixing, window_of


@dataclasses.dataclass(frozen=True, eq=False)
class Transfused:
    """The other base with the task vector; ``match`` moved it, after ``heads`` had been."""

    params: Params
    match: Match
    heads: Permutation


def transfuse(
    spec: PermutationSpec,
    tuned: Mapping[str, Tensor],
    base: Mapping[str, Tensor],
    *,
    onto: Mapping[str, Tensor],
    matcher: Matcher | None = None,
    scale: float = 1.0,
) -> Transfused:
    """Add what ``tuned`` has learned since ``base`` to another base, ``onto``, where it belongs.

    All three are of the architecture of ``spec``; matcher: `CircuitMatching` unless told.
    Raises ValueError for weights that differ in names or shapes.
    """
    check_alike(base, tuned)
    check_alike(base, onto)
    starts = [Permutation.identity(spec)]
    if head_groups(spec):
        starts.append(spectral_heads(spec, onto, base))
    how = matcher or CircuitMatching()
    tried = [(match(spec, onto, start(base), how), start) for start in starts]
    found, heads = max(tried, key=lambda each: float(each[0].objective))
    before, after = found(heads(base)), found(heads(tuned))
    params = {n: _added(n, t, before[n], after=after[n], scale=scale) for n, t in onto.items()}
    return Transfused(params, found, heads)


def head_groups(spec: PermutationSpec) -> tuple[str, ...]:
    """The groups whose members are heads: others belong to them, or matrices act inside them."""
    owners = [group.per for group in spec.declared]
    owners += [heads_of(spec, unit) for unit in mixing(spec)]
    return tuple(dict.fromkeys(name for name in owners if name))


@torch.no_grad()
def spectral_heads(
    spec: PermutationSpec, a: Mapping[str, Tensor], b: Mapping[str, Tensor]
) -> Permutation:
    """The permutation of heads alone that brings the singular values of b's heads closest to a's.

    Heads of equal spectra are assigned arbitrarily.
    """
    indices = dict(Permutation.identity(spec).indices)
    for group in head_groups(spec):
        scores = torch.zeros(spec.groups[group], spec.groups[group], dtype=torch.float64)
        for place in spec.occurrences(group):
            mine, theirs = (_spectra(spec, params[place.tensor], place) for params in (a, b))
            # one spectrum for each head and each fixed part, such as Q, K and V in one tensor
            scores -= torch.cdist(mine.movedim(1, 0), theirs.movedim(1, 0)).sum(0)
        indices[group] = assign(scores)
    return Permutation(spec, indices)


def _spectra(spec: PermutationSpec, tensor: Tensor, place: Occurrence) -> Tensor:
    """Singular values (heads, fixed parts, values) of what each head has in a tensor."""
    window, axis = window_of(spec, place), place.axis
    part = tensor.narrow(axis, window.start, window.length).unflatten(axis, window.sizes)
    fixed = [k for k, atom in enumerate(window.atoms) if not isinstance(atom, str)]
    inside = [k for k in range(len(window.atoms)) if k != place.factor and k not in fixed]
    order = [place.factor, *fixed, *inside]
    part = part.movedim([axis + k for k in order], list(range(len(order))))
    rows = part.shape[1 + len(fixed) : len(order)].numel()
    matrices = part.reshape(part.shape[0], part.shape[1 : 1 + len(fixed)].numel(), rows, -1)
    return torch.linalg.svdvals(matrices.double()).cpu()


def _added(name: str, start: Tensor, before: Tensor, *, after: Tensor, scale: float) -> Tensor:
    """The other base's tensor with the change between two moved ones; what is not learned stays."""
    if not is_learned(name, start):
        return start.clone()
    if scale == 1:
        # the same sum, in an order that is exact where both bases are one
        return (after + (start - before)).to(start.dtype)
    return (start + scale * (after - before)).to(start.dtype)
