"""Heads of attention compared by their circuits, which no matrix inside a head changes.

    QK_i = Q_i^T K_i,  OV_i = O_i V_i      S_ij = - |QK_i - QK'_j|^2 - |OV_i - OV'_j|^2
    <X_i^T Y_i, X'_j^T Y'_j> = <X_i X'_j^T, Y_i Y'_j^T>          n x n products, never D x D

with X_i, Y_i (n, D) the two ends of a symmetry that acts on the units of head i by M and by M^-T.
Biases are one more column of their end. Under rotary positions every frequency has a circuit of its
own, of one complex number for each column. Queries that share a head of keys move inside it: their
best assignment is found for each pair of heads, and the heads are assigned by what that is worth.
The Grams: Theus et al. (2025), arXiv 2506.22712; rotary heads: arXiv 2606.17830.

What stands on the heads without such a symmetry is compared entry by entry, unless it has units in
a family of its own: that is left out. Everything is measured where the rest of the network stands
now, so other groups have to be matched first.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from wsl.matching.solvers.assignment import assign
from wsl.symmetry import (
    Occurrence,
    PermutationSpec,
    Place,
    UnitSymmetry,
    Window,
    heads_of,
    mixing,
    rotary_pairs,
    window_of,
)

Ends = tuple[Tensor, Tensor]
"""Vectors (heads, members, n, columns): where M acts, and where M^-T does. 1 is for all alike."""
Networks = tuple[Mapping[str, Tensor], Mapping[str, Tensor]]
"""The weights of a, and those of b where they stand now."""


_Groups = tuple[str | None, str | None]
"""The groups of some heads and of their members, where there are such."""


@dataclasses.dataclass(frozen=True)
class HeadBlock:
    """A group of heads, the group of ``members`` inside each, if any, and what mixes units.

    ``group`` is None where all members belong to one head, such as queries that share one key.
    ``others`` is where heads stand without being mixed.
    """

    group: str | None
    members: str | None
    units: tuple[UnitSymmetry, ...]
    others: tuple[Occurrence, ...] = ()

    @property
    def groups(self) -> set[str]:
        """The groups that it matches, and those whose units are mixed inside it."""
        return {name for name in (self.group, self.members) if name} | {
            unit.group for unit in self.units if unit.group
        }


def head_blocks(spec: PermutationSpec) -> tuple[HeadBlock, ...]:
    """The groups of heads whose circuits can be compared.

    Heads with two families of members are none: they are matched like other groups.
    """
    return tuple(
        HeadBlock(*groups, tuple(units), _others(spec, groups, units))
        for groups, units in _by_groups(spec).items()
    )


def _by_groups(spec: PermutationSpec) -> dict[_Groups, list[UnitSymmetry]]:
    """What mixes units inside each group of heads, by the groups of its heads and members."""
    per_head: dict[str | None, list[UnitSymmetry]] = {}
    for unit in mixing(spec):
        per_head.setdefault(heads_of(spec, unit), []).append(unit)
    found = _without_heads(spec, per_head.pop(None, []))
    for heads, units in per_head.items():
        members = _beside_units(spec, units) - {heads}
        if len(members) < 2:
            found[heads, next(iter(members), None)] = units
    return found


def _without_heads(
    spec: PermutationSpec, units: Sequence[UnitSymmetry]
) -> dict[_Groups, list[UnitSymmetry]]:
    """Those whose members all belong to one head, such as queries that share one key."""
    found: dict[_Groups, list[UnitSymmetry]] = {}
    for unit in units:
        if len(beside := _beside_units(spec, [unit])) == 1:
            found.setdefault((None, beside.pop()), []).append(unit)
    return found


def _beside_units(spec: PermutationSpec, units: Sequence[UnitSymmetry]) -> set[str]:
    """The groups that stand in one product with the units."""
    atoms = {atom for place in _places(units) for atom in window_of(spec, place).atoms}
    return {atom for atom in atoms if isinstance(atom, str)} - {unit.group for unit in units}


def _others(
    spec: PermutationSpec, groups: _Groups, units: Sequence[UnitSymmetry]
) -> tuple[Occurrence, ...]:
    """Where heads stand beside no units, or beside fixed ones that nothing mixes."""
    heads, members = groups
    if heads is None:
        return ()
    covered = {place[:3] for place in _places(units)}
    families = {group.name for group in spec.declared if group.per == heads} - {members}
    return tuple(
        place
        for place in spec.occurrences(heads)
        if place[:3] not in covered and not families & set(window_of(spec, place).atoms)
    )


def _places(units: Sequence[UnitSymmetry]) -> Iterator[Place]:
    return (place for unit in units for place in unit.places)


def ends(
    spec: PermutationSpec,
    unit: UnitSymmetry,
    params: Mapping[str, Tensor],
    *,
    members: str | None = None,
    names: frozenset[str] | None = None,
) -> Ends:
    """The vectors on which a symmetry acts; of the tensors ``names``, by default all."""
    found: tuple[list[Tensor], list[Tensor]] = ([], [])
    for place in unit.places:
        if names is None or place.tensor in names:
            vectors = vectors_at(spec, unit, params, place=place, members=members)
            found[place.exponent < 0].append(vectors)
    like = next(iter(found[0] or found[1]))
    return _beside(found[0], like), _beside(found[1], like)


def vectors_at(
    spec: PermutationSpec,
    unit: UnitSymmetry,
    params: Mapping[str, Tensor],
    *,
    place: Occurrence | Place,
    members: str | None,
) -> Tensor:
    """What stands at a place, (heads, members, n, columns), in at least float32."""
    window = window_of(spec, place)
    sizes: dict[object, int] = dict(zip(window.atoms, window.sizes, strict=True))
    groups = (heads_of(spec, unit), members)
    front = [window.atoms.index(name) for name in groups if name in sizes]
    part = _in_front(params[place.tensor], place, window, factors=[*front, place.factor])
    lead = [sizes.get(name, 1) for name in groups]
    return _wide(part.reshape(*lead, window.sizes[place.factor], -1))


def _in_front(
    tensor: Tensor, place: Occurrence | Place, window: Window, *, factors: Sequence[int]
) -> Tensor:
    """What stands in a window of a tensor, some factors of its axis brought to the front."""
    part = tensor.narrow(place.axis, window.start, window.length)
    part = part.unflatten(place.axis, window.sizes)
    return part.movedim([place.axis + k for k in factors], list(range(len(factors))))


def _wide(tensor: Tensor) -> Tensor:
    """In at least float32."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def _beside(parts: Sequence[Tensor], like: Tensor) -> Tensor:
    """One end, its columns beside each other; (heads, 1, n, 0) if nothing stands there."""
    if not parts:
        return like.new_zeros(len(like), 1, like.shape[2], 0)
    members = max(part.shape[1] for part in parts)
    return torch.cat([part.expand(-1, members, -1, -1) for part in parts], -1)


def matched_heads(spec: PermutationSpec, block: HeadBlock, pair: Networks) -> dict[str, Tensor]:
    """Indices of the heads, and of their members, that bring the circuits of b closest to a's."""
    size = 1 if block.group is None else spec.groups[block.group]
    alike, inside = torch.zeros(size, size, dtype=torch.float64), None
    for scores in _scores(spec, block, pair):
        if scores.shape[1] == scores.shape[3] == 1:
            alike = alike + scores[:, 0, :, 0]
        else:
            inside = scores if inside is None else inside + scores
    return _best_indices(block, alike, inside)


def _best_indices(block: HeadBlock, alike: Tensor, inside: Tensor | None) -> dict[str, Tensor]:
    """From scores of heads, and of members inside every pair of heads where there are some."""
    found: dict[str, Tensor] = {}
    if inside is not None and block.members:
        pairs = inside.transpose(1, 2)
        index = assign(pairs)
        alike = alike + pairs.gather(3, index[..., None]).sum((2, 3))
        index = index[torch.arange(len(alike)), assign(alike)]
        found[block.members] = index if block.group else index[0]
    if block.group:
        found[block.group] = assign(alike)
    return found


def _scores(spec: PermutationSpec, block: HeadBlock, pair: Networks) -> Iterator[Tensor]:
    """- |A_i - B_j|^2 (heads, members, heads, members), float64, for each kind of circuit."""
    for unit in block.units:
        mine, theirs = (ends(spec, unit, params, members=block.members) for params in pair)
        yield negative_distances(unit, mine, theirs)
    for place in block.others:
        mine, theirs = (_entries(spec, block, params, place=place) for params in pair)
        norms = [rows.square().sum(-1) for rows in (mine, theirs)]
        yield _negative(torch.einsum("iak,jbk->iajb", mine, theirs), norms)


def _entries(
    spec: PermutationSpec, block: HeadBlock, params: Mapping[str, Tensor], *, place: Occurrence
) -> Tensor:
    """All that stands at one place, (heads, members, entries)."""
    window = window_of(spec, place)
    names = [name for name in (block.group, block.members) if name in window.atoms]
    front = [window.atoms.index(name) for name in names]
    part = _in_front(params[place.tensor], place, window, factors=front)
    members = part.shape[1] if len(front) > 1 else 1
    return _wide(part.reshape(len(part), members, -1))


def negative_distances(unit: UnitSymmetry, mine: Ends, theirs: Ends) -> Tensor:
    """- |A_i - B_j|^2 (heads, members, heads, members) of circuits, float64, on the CPU."""
    norms = [_own(unit, *which) for which in (mine, theirs)]
    return _negative(_products(unit, mine, theirs), norms)


def _negative(products: Tensor, norms: Sequence[Tensor]) -> Tensor:
    """- |A_i - B_j|^2, from <A_i, B_j> and the squared norms of both."""
    return (2 * products - norms[0][:, :, None, None] - norms[1]).cpu().double()


def _products(unit: UnitSymmetry, mine: Ends, theirs: Ends) -> Tensor:
    """<A_i, B_j> of circuits, from products of their ends."""
    if unit.kind == "rotation":
        x, y = (_turned(unit, *pair) for pair in zip(mine, theirs, strict=True))
        return (x * y.conj()).real.sum(-1)
    pairs = zip(mine, theirs, strict=True)
    x, y = (torch.einsum("iapc,jbqc->iajbpq", p, q.to(p)) for p, q in pairs)
    return (x * y).sum((-2, -1))


def _turned(unit: UnitSymmetry, mine: Tensor, theirs: Tensor) -> Tensor:
    """Products of one end, a complex number for each frequency."""
    p, q = turning(unit, mine), turning(unit, theirs)
    return torch.einsum("iafc,jbfc->iajbf", p, q.conj())


def _own(unit: UnitSymmetry, x: Tensor, y: Tensor) -> Tensor:
    """|X_i^T Y_i|^2 of each head and member."""
    if unit.kind == "rotation":
        x, y = (turning(unit, end).abs().square().sum(-1) for end in (x, y))
        return (x * y).sum(-1)
    return ((x @ x.mT) * (y @ y.mT)).sum((-2, -1))


def turning(unit: UnitSymmetry, vectors: Tensor) -> Tensor:
    """Vectors (..., n, columns) as complex ones (..., n / 2, columns) of the rotation's pairs."""
    real, imaginary = rotary_pairs(unit, vectors.mT)
    return torch.complex(real.contiguous(), imaginary.contiguous()).mT
