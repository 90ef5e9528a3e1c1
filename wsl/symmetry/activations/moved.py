"""How an element acts on an activation: along the axes of its annotation.

    (g.z)[.., a, .., j, ..] = z[.., pi(a), .., sigma_a(j), ..]

The same action as on weights, but that the parent of a family may stand on another axis: attention
heads and the channels inside of them, say.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from wsl.symmetry.elements import Permutation
from wsl.symmetry.spec import Atom, Axes, PermutationSpec, SpecError, format_axes


def move_axes(element: Permutation, axes: Axes, value: Tensor) -> Tensor:
    """``value``, moved by ``element`` along ``axes``; raises `SpecError` if its shape does not fit.

    Where theta has the value z at a site, g.theta has ``move_axes(g, site.axes, z)``.
    """
    sizes = tuple(map(element.spec.axis_size, axes))
    if sizes != tuple(value.shape):
        raise SpecError(
            f"the axes '{format_axes(axes)}' have sizes {sizes}, but the value has shape "
            f"{tuple(value.shape)}"
        )
    return _moved(element, axes, value)


def _moved(element: Permutation, axes: Axes, value: Tensor) -> Tensor:
    """Concatenations are cut, one axis at a time, until every axis is one product."""
    for i, axis in enumerate(axes):
        if len(axis) > 1:
            parts = value.split([element.spec.segment_size(segment) for segment in axis], i)
            rest = [(*axes[:i], (segment,), *axes[i + 1 :]) for segment in axis]
            moved = [_moved(element, *pair) for pair in zip(rest, parts, strict=True)]
            return torch.cat(moved, i)
    return _product(element, axes, value)


def _product(element: Permutation, axes: Axes, value: Tensor) -> Tensor:
    atoms = tuple(itertools.chain.from_iterable(segment for axis in axes for segment in axis))
    spec = element.spec
    unfolded = value.reshape([spec.segment_size((atom,)) for atom in atoms])
    per = {group.name: group.per for group in spec.declared}
    # Parents first: the members of a family then stand where their parents have gone.
    for i, atom in enumerate(atoms):
        if isinstance(atom, str) and per[atom] is None:
            unfolded = unfolded.index_select(i, element.indices[atom].to(value.device))
    for i, atom in enumerate(atoms):
        if isinstance(atom, str) and per[atom] is not None:
            at = parent_of(spec, atoms, i)
            index = element.indices[atom].to(value.device)
            unfolded = _member_by_member(unfolded, index, at=at, axis=i)
    return unfolded.reshape(value.shape)


def parent_of(spec: PermutationSpec, atoms: tuple[Atom, ...], axis: int) -> int:
    """The axis of the group that the family on ``axis`` is per; the nearest before it, if any."""
    parent = next(group.per for group in spec.declared if group.name == atoms[axis])
    places = [i for i, atom in enumerate(atoms) if atom == parent]
    return max((i for i in places if i < axis), default=places[0])


def _member_by_member(value: Tensor, index: Tensor, *, at: int, axis: int) -> Tensor:
    """Gather ``axis`` by ``index`` (parents, size), the row for each position on axis ``at``."""
    shape = [1] * value.dim()
    shape[at], shape[axis] = index.shape
    laid = index if at < axis else index.T
    return value.take_along_dim(laid.reshape(shape), axis)
