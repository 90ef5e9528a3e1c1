"""Unification: two axes move alike. Atoms are joined, and split where the other side has a boundary
or a factor.

    unite(a, b)     the permutations of a and b are one from now on, by position
    split(a, sizes) a boundary of segments at every cut

A cut inside a block, and factors that do not divide each other, have no form as sums of products:
they are pinned, never guessed. First-order unification, Robinson (1965), over sums of products; it
ends, since every binding makes atoms smaller.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from wsl.symmetry.discover.axes import (
    BLOCKED,
    Atom,
    Axis,
    Segment,
    concat,
    multiply,
    one,
    pin,
    resolve,
    size,
)


class DoesNotFit(ValueError):
    """A rule met arguments that it does not describe; its operands are pinned."""


def unite(a: Axis, b: Axis) -> Axis:
    """Make two axes of one length move alike; returns the axis of a tensor computed from both,
    position by position.
    """
    _check_lengths(a, b)
    done: list[Segment] = []
    while a and b:
        a, b = _ready(a), _ready(b)
        left, right = size(a[:1]), size(b[:1])
        if left == right:
            done += _unite_segments(a[0], b[0])
            a, b = a[1:], b[1:]
        elif left < right:
            b = _cut_first(b, left)
        else:
            a = _cut_first(a, right)
    return resolve(tuple(done))


def split(axis: Axis, sizes: Iterable[int]) -> list[Axis]:
    """Cut an axis into consecutive parts, whose lengths add up to its own."""
    parts: list[Axis] = []
    for length in sizes:
        part, axis = _cut(axis, length)
        parts.append(part)
    return [resolve(part) for part in parts]


def narrow(axis: Axis, start: int, length: int) -> Axis:
    """The part of an axis from ``start`` on."""
    return split(axis, (start, length, size(axis) - start - length))[1]


def _check_lengths(a: Axis, b: Axis) -> None:
    if size(a) != size(b):
        raise DoesNotFit(f"axes of sizes {size(a)} and {size(b)} cannot move alike")


def _ready(axis: Axis) -> Axis:
    """The axis with its first segment resolved; the others wait, or a long concatenation would be
    read again at every step.
    """
    return (*resolve(axis[:1]), *axis[1:])


def _cut(axis: Axis, offset: int) -> tuple[Axis, Axis]:
    head: list[Segment] = []
    while offset:
        axis = _ready(axis)
        first = size(axis[:1])
        if first > offset:
            axis = _cut_first(axis, offset)
        else:
            head.append(axis[0])
            axis, offset = axis[1:], offset - first
    return tuple(head), axis


def _cut_first(axis: Axis, offset: int) -> Axis:
    """The same axis with a boundary of segments at ``offset``, which lies inside its first
    segment.
    """
    (outer, *rest), tail = axis[0], axis[1:]
    if not any(atom.free for atom in axis[0]):
        return (*_cut_still(axis[0], offset), *tail)
    inner: Axis = (tuple(rest),)
    cut = _cut_inside if offset % size(inner) else _cut_between
    return (*concat(cut(outer, inner, offset)), *tail)


def _cut_still(segment: Segment, offset: int) -> Axis:
    """Two atoms in place of a product in which nothing moves."""
    still, length = _still(segment), size((segment,))
    return (*one(still.like(offset)), *one(still.like(length - offset)))


def _cut_inside(outer: Atom, inner: Axis, offset: int) -> list[Axis]:
    """A boundary inside of a block, which tells the blocks apart and so fixes them."""
    whole, beyond = divmod(offset, size(inner))
    pin(one(outer), BLOCKED)
    block = _cut_first(inner, beyond)
    before, after = (multiply(one(outer.like(n)), inner) for n in (whole, outer.size - whole - 1))
    return [before, block, after]


def _cut_between(outer: Atom, inner: Axis, offset: int) -> list[Axis]:
    """A boundary between two blocks, on either side of which blocks may still move."""
    whole = offset // size(inner)
    left, right = one(outer.like(whole)), one(outer.like(outer.size - whole))
    if outer.free:
        outer.bound = (*left, *right)
    return [multiply(left, inner), multiply(right, inner)]


def _still(segment: Segment) -> Atom:
    """An atom of the kind of a product in which nothing moves: pinned if any factor is."""
    return next((atom for atom in segment if atom.reason), segment[0])


def _unite_segments(p: Segment, q: Segment) -> Axis:
    """Two products of one length: align their factors, splitting an atom where the other side has a
    factor of it.
    """
    done: list[Atom] = []
    while p and q:
        f, g = p[0], q[0]
        if f.size == g.size:
            done.append(_join(f, g))
            p, q = p[1:], q[1:]
        elif not _split_larger(f, g):
            return ((*done, _blocked(p, q)),)
        (p,), (q,) = resolve((p,)), resolve((q,))
    return (tuple(done),)


def _split_larger(f: Atom, g: Atom) -> bool:
    """Split a factor of the smaller atom's size off the larger one; False if it has none."""
    small, large = (f, g) if g.size % f.size == 0 else (g, f)
    if large.size % small.size:
        return False
    large.bound = ((large.like(small.size), large.like(large.size // small.size)),)
    return True


def _blocked(p: Segment, q: Segment) -> Atom:
    """The fixed atom in place of two products whose factors do not divide each other."""
    for rest in (p, q):
        pin((rest,), BLOCKED)
    return Atom(math.prod(atom.size for atom in p), BLOCKED)


def _join(f: Atom, g: Atom) -> Atom:
    if f is g or g.uniform:
        return f
    if f.uniform:
        return g
    f.reason = f.reason or g.reason
    g.bound = ((f,),)
    return f
