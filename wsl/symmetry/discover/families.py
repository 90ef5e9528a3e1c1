"""Families: permutations of the inside of a block that may differ from block to block, like the
channels of each head.

Where an axis is a product (a b) of two moving atoms, S_a x S_b always acts. The wreath product S_b
wr S_a acts, one permutation of b for every index of a, if no operation ever lets entries of two
different blocks meet at one index of b:

    in a segment (.. a .. b ..)          each b belongs to the a of its own product;
    in a tensor with a and b on two axes    a stands there once, and once or never in every result
                                            of the operation;
    b without a                          never.

Sound, not complete: a family inside a family, and one that needs a parent on another axis of a
parameter, become plain groups.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from wsl.symmetry.discover.axes import Atom, Segment, Value, resolve
from wsl.symmetry.discover.interpret import OpRecord
from wsl.symmetry.discover.lazy import undecided

Item = TypeVar("Item")


def families(weights: Sequence[Value], records: Sequence[OpRecord]) -> dict[Atom, Atom]:
    """The parent of each atom that forms a family, found in the parameters' axes."""
    weights = [_resolve(value) for value in weights]
    candidates = dict.fromkeys(_candidates(weights))
    if not candidates:
        return {}
    inner = {b for _, b in candidates}
    tensors = _by_atom(inner, [(value, [value]) for value in weights])
    decided = [OpRecord(_decided(record.operands), _decided(record.results)) for record in records]
    reads = _by_atom(inner, [(each, [*each.operands, *each.results]) for each in decided])
    parents: dict[Atom, Atom] = {}
    for a, b in candidates:
        # A family inside a family is not declared: the nearest parent was taken, and is final.
        taken = a in parents or b in parents or b in parents.values()
        if not taken and _written(a, b, tensors[b]) and _stays_apart(a, b, reads[b]):
            parents[b] = a
    return parents


def _stays_apart(a: Atom, b: Atom, records: Sequence[OpRecord]) -> bool:
    """No operation lets entries of two different blocks meet."""
    return all(_local(a, b, record) for record in records)


def _by_atom(
    wanted: set[Atom], items: Iterable[tuple[Item, list[Value]]]
) -> dict[Atom, list[Item]]:
    """The items in whose values each atom occurs: no other can have a say in its family."""
    found: dict[Atom, list[Item]] = {atom: [] for atom in wanted}
    for item, values in items:
        for atom in {atom for segment in _segments(values) for atom in segment} & wanted:
            found[atom].append(item)
    return found


def _resolve(value: Value) -> Value:
    return tuple(map(resolve, value))


def _decided(values: Sequence[Value]) -> list[Value]:
    """Values without undecided factors: what is still undecided at the end was only reordered, and
    mixed nothing.
    """
    return [_resolve(value) for value in values if not any(map(undecided, value))]


def _segments(values: Iterable[Value]) -> Iterator[Segment]:
    return (segment for value in values for axis in value for segment in axis)


def _candidates(weights: Sequence[Value]) -> Iterator[tuple[Atom, Atom]]:
    """Pairs of an outer and an inner factor, the nearest first."""
    for segment in _segments(weights):
        for k, b in enumerate(segment):
            yield from ((a, b) for a in reversed(segment[:k]) if a.free and b.free and a is not b)


def _written(a: Atom, b: Atom, weights: Sequence[Value]) -> bool:
    """In parameters the parent stands before the family, in the same product."""
    return all(
        segment.count(a) == 1 and a in segment[: segment.index(b)]
        for segment in _segments(weights)
        if b in segment
    )


def _local(a: Atom, b: Atom, record: OpRecord) -> bool:
    """One operation keeps blocks apart."""
    everything = [*record.operands, *record.results]
    apart = [
        value for value in everything if any(b in s and s.count(a) != 1 for s in _segments([value]))
    ]
    if not apart:
        return True
    return all(_beside(a, b, value) for value in apart) and all(
        _count(a, value) <= 1 for value in record.results
    )


def _beside(a: Atom, b: Atom, value: Value) -> bool:
    """``a`` stands exactly once in the tensor, on an axis that is nothing else, next to every
    ``b``.
    """
    alone = sum(len(axis) == 1 and a in axis[0] for axis in value)
    return alone == 1 == _count(a, value) and not any(a in s and b in s for s in _segments([value]))


def _count(atom: Atom, value: Value) -> int:
    return sum(max((segment.count(atom) for segment in axis), default=0) for axis in value)
