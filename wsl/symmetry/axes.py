"""The abstract domain of discovery: an axis is a concatenation of products of atoms, and atoms are unified.

    axis = segment + segment + ...       segment = (atom atom ...), outermost first        atom: size, and one of
    free     some permutation of it may exist            pinned   it cannot move, for a reason
    uniform  the tensor is constant along it, so that every permutation leaves it as it is

The invariant that every rule keeps: for each assignment of permutations to the free atoms, permuting the parameters along
their axes permutes every tensor of the graph along its axes, in the same way. `unite` therefore makes two axes equal. Where
a reshape or a concatenation cuts an atom, the atom is bound to a product or a sum, and every axis that holds it follows,
because axes are read through `resolve`. What has no such form (a cut inside a block, factors that do not divide) is pinned,
never guessed. First-order unification: Robinson (1965); union-find with splitting.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

BLOCKED = "a cut or a reshape does not respect its blocks"


class DoesNotFit(ValueError):
    """A rule met arguments that it does not describe; its operands are pinned."""


class Atom:
    """An indivisible axis, until it is bound to the axis that it turned out to be. Compared by identity."""

    __slots__ = ("bound", "reason", "size", "uniform")

    def __init__(self, size: int, reason: str | None = None, uniform: bool = False) -> None:
        self.size, self.reason, self.uniform = size, reason, uniform
        self.bound: Axis | None = None

    @property
    def free(self) -> bool:
        """Neither pinned nor uniform."""
        return self.reason is None and not self.uniform

    def settled(self) -> bool:
        """Whether this is the atom's last form, as far as is known now."""
        return self.bound is None

    def like(self, size: int) -> Atom:
        """A new atom of another size and the same kind."""
        return Atom(size, self.reason, self.uniform)


Segment = tuple[Atom, ...]
Axis = tuple[Segment, ...]
Value = tuple[Axis, ...]
"""What discovery knows of a tensor: its axes."""


def fresh(size: int) -> Axis:
    """A new axis about which nothing is known yet."""
    return _axis(Atom(size))


def fixed(size: int, reason: str) -> Axis:
    """An axis that cannot move."""
    return _axis(Atom(size, reason))


def uniform(size: int) -> Axis:
    """An axis along which the tensor is constant."""
    return _axis(Atom(size, uniform=True))


def size(axis: Axis) -> int:
    """Length of an axis."""
    return sum(math.prod(atom.size for atom in segment) for segment in axis)


def shape(value: Value) -> tuple[int, ...]:
    """Length of each axis."""
    return tuple(map(size, value))


def atoms(axis: Axis) -> Iterator[Atom]:
    """The atoms of an axis as it stands now."""
    return (atom for segment in resolve(axis) for atom in segment)


def resolve(axis: Axis) -> Axis:
    """The axis with every bound atom replaced by what it is bound to."""
    if all(atom.settled() for segment in axis for atom in segment):
        return axis
    segments: list[Segment] = []
    for segment in axis:
        segments += multiply(*(_axis(atom) if atom.bound is None else resolve(atom.bound) for atom in segment))
    return tuple(segments)


def multiply(*factors: Axis) -> Axis:
    """The flattened product of axes, outermost first; a concatenation under moving factors pins those factors."""
    product: list[Segment] = [()]
    for factor in map(resolve, factors):
        factor = factor if product == [()] else _lump(factor)
        if len(factor) == 1:
            product = [(*segment, *factor[0]) for segment in product]
        else:
            product = [(*copy, *inner) for outer in product for copy in _copies(outer) for inner in factor]
    return tuple(product)


def concat(axes: Iterable[Axis]) -> Axis:
    """The concatenation of axes."""
    return tuple(segment for axis in axes for segment in resolve(axis))


def pin(axis: Axis, reason: str) -> Axis:
    """Fix every atom of an axis that is still free, and return the axis."""
    for atom in atoms(axis):
        if atom.free:
            atom.reason = reason
    return resolve(axis)


def unite(a: Axis, b: Axis) -> Axis:
    """Make two axes of one length move alike; returns the axis of a tensor computed from both, position by position."""
    if size(a) != size(b):
        raise DoesNotFit(f"axes of sizes {size(a)} and {size(b)} cannot move alike")
    done: list[Segment] = []
    a, b = resolve(a), resolve(b)
    while a and b:
        left, right = size(a[:1]), size(b[:1])
        if left == right:
            done += _unite_segments(a[0], b[0])
            a, b = a[1:], b[1:]
        elif left < right:
            b = _cut_first(b, left)
        else:
            a = _cut_first(a, right)
        a, b = resolve(a), resolve(b)
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


def _axis(atom: Atom) -> Axis:
    return ((),) if atom.size == 1 else ((atom,),) if atom.size else ()


def _lump(axis: Axis) -> Axis:
    """A concatenation in which nothing moves is one atom: so a pinned axis may be cut and still be an inner factor.

    It is pinned even if every part is uniform, since the parts may differ.
    """
    everything = [atom for segment in axis for atom in segment]
    if len(axis) < 2 or any(atom.free for atom in everything):
        return axis
    return fixed(size(axis), next((atom.reason for atom in everything if atom.reason), BLOCKED))


def _still(segment: Segment) -> Atom:
    """An atom of the kind of a product in which nothing moves: pinned if any factor is."""
    return next((atom for atom in segment if atom.reason), segment[0])


def _copies(outer: Segment) -> list[Segment]:
    pin((outer,), BLOCKED)
    return [()] * math.prod(atom.size for atom in outer)


def _cut(axis: Axis, offset: int) -> tuple[Axis, Axis]:
    head: list[Segment] = []
    while offset:
        axis = resolve(axis)
        first = size(axis[:1])
        if first > offset:
            axis = _cut_first(axis, offset)
        else:
            head.append(axis[0])
            axis, offset = axis[1:], offset - first
    return tuple(head), axis


def _cut_first(axis: Axis, offset: int) -> Axis:
    """The same axis with a boundary of segments at ``offset``, which lies inside its first segment."""
    (outer, *rest), tail = axis[0], axis[1:]
    if not any(atom.free for atom in axis[0]):
        still, length = _still(axis[0]), size(axis[:1])
        return (*_axis(still.like(offset)), *_axis(still.like(length - offset)), *tail)
    inner: Axis = (tuple(rest),)
    whole, beyond = divmod(offset, size(inner))
    if beyond:
        pin(_axis(outer), BLOCKED)
        block = _cut_first(inner, beyond)
        before, after = (multiply(_axis(outer.like(n)), inner) for n in (whole, outer.size - whole - 1))
        return concat([before, block, after, tail])
    left, right = _axis(outer.like(whole)), _axis(outer.like(outer.size - whole))
    if outer.free:
        outer.bound = (*left, *right)
    return concat([multiply(left, inner), multiply(right, inner), tail])


def _unite_segments(p: Segment, q: Segment) -> Axis:
    """Two products of one length: align their factors, splitting an atom where the other side has a factor of it."""
    done: list[Atom] = []
    while p and q:
        f, g = p[0], q[0]
        if f.size == g.size:
            done.append(_join(f, g))
            p, q = p[1:], q[1:]
        elif g.size % f.size == 0:
            g.bound = ((g.like(f.size), g.like(g.size // f.size)),)
        elif f.size % g.size == 0:
            f.bound = ((f.like(g.size), f.like(f.size // g.size)),)
        else:
            for rest in (p, q):
                pin((rest,), BLOCKED)
            done.append(Atom(math.prod(atom.size for atom in p), BLOCKED))
            break
        (p,), (q,) = resolve((p,)), resolve((q,))
    return (tuple(done),)


def _join(f: Atom, g: Atom) -> Atom:
    if f is g or g.uniform:
        return f
    if f.uniform:
        return g
    f.reason = f.reason or g.reason
    g.bound = ((f,),)
    return f
