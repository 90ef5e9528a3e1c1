"""The axis grammar of einops, read into sums of products and written back.

    axes  :=  axis*                        separated by spaces, one per tensor dimension
    axis  :=  term ('+' term)*             '+' concatenates
    term  :=  name | number | '(' axes ')'

Parentheses multiply: a flattened axis, outermost factor first. A name is a permutation group, a
number a fixed size. Every axis is brought to one normal form, a concatenation of products of atoms:
products distribute over sums, fixed factors that touch are multiplied, factors of one are dropped.
So two texts that mean the same axis give equal values. It knows nothing of sizes or tensors.
"""

from __future__ import annotations

import re

Atom = str | int
"""A group's name, or the size of a fixed axis."""
Segment = tuple[Atom, ...]
"""A product of atoms, outermost first: position = row-major index over the atoms."""
Axis = tuple[Segment, ...]
"""A concatenation of segments."""
Axes = tuple[Axis, ...]
"""One tensor's annotation."""

NAME = r"[A-Za-z_][\w.]*"
_MOST_COPIES = 4096
_MOST_SEGMENTS = 65536
_DEEPEST = 64
_LONGEST_NUMBER = 18
_TOKEN = re.compile(rf"\s*(?:({NAME})|(\d+)|([()+]))")


class SpecError(ValueError):
    """A specification's text, or a tensor that should follow it, is wrong.

    The message says what is wrong, where, and how to fix it.
    """


def parse_axes(text: str) -> Axes:
    """Read the axes of one tensor, for example ``"10 (c2 49)"``.

    Raises `SpecError` with the offending place.
    """
    tokens = _tokens(text)[::-1]
    axes = _parse_axes(tokens, 0)
    if tokens:
        raise SpecError(f"'{text}': unexpected '{tokens[-1]}'; parentheses must be balanced")
    return axes


def format_axes(axes: Axes) -> str:
    """Write axes as text that `parse_axes` reads back to an equal value."""
    return " ".join(format_axis(axis) for axis in axes)


def format_axis(axis: Axis) -> str:
    """Write one axis: ``c1+c2``, ``(c2 49)``, ``10``."""
    texts = [" ".join(map(str, segment)) for segment in axis]
    return "+".join(
        text if len(segment) == 1 else f"({text})"
        for text, segment in zip(texts, axis, strict=True)
    )


def normal_axis(segments: list[Segment]) -> Axis:
    """Normal form of a concatenation of products."""
    merged: list[Segment] = []
    for segment in map(_normal_segment, segments):
        if merged and _is_fixed(segment) and _is_fixed(merged[-1]):
            merged[-1] = (int(merged[-1][0]) + int(segment[0]),)
        else:
            merged.append(segment)
    return tuple(merged)


def _normal_segment(segment: Segment) -> Segment:
    atoms: list[Atom] = []
    for atom in segment:
        if atom == 1:
            continue
        if isinstance(atom, int) and atoms and isinstance(atoms[-1], int):
            atoms[-1] *= atom
        else:
            atoms.append(atom)
    return tuple(atoms) or (1,)


def _is_fixed(segment: Segment) -> bool:
    return len(segment) == 1 and isinstance(segment[0], int)


def _tokens(text: str) -> list[str]:
    tokens, position, end = [], 0, len(text.rstrip())
    while position < end:
        found = _TOKEN.match(text, position)
        if not found:
            raise SpecError(
                f"'{text}': cannot read '{text[position:].strip()}'; use names, numbers, '(', ')' "
                "and '+'"
            )
        tokens.append(found.group().strip())
        position = found.end()
    return tokens


def _parse_axes(tokens: list[str], depth: int) -> Axes:
    """Axes up to a closing parenthesis; tokens are taken from the end of the list."""
    axes: list[Axis] = []
    while tokens and tokens[-1] != ")":
        segments = _parse_term(tokens, depth)
        while tokens and tokens[-1] == "+":
            tokens.pop()
            segments += _parse_term(tokens, depth)
        axes.append(normal_axis(segments))
    return tuple(axes)


def _parse_term(tokens: list[str], depth: int) -> list[Segment]:
    if not tokens or tokens[-1] in "+)":
        where = f"before {tokens[-1]!r}" if tokens else "at the end"
        raise SpecError(f"expected a name, a number or '(' {where}")
    head = tokens.pop()
    if head != "(":
        return [(_number(head) if head.isdigit() else head,)]
    if depth == _DEEPEST:
        raise SpecError(f"parentheses are nested more than {_DEEPEST} deep")
    factors = _parse_axes(tokens, depth + 1)
    if not tokens or not factors:
        raise SpecError("'(' needs at least one factor and a matching ')'")
    tokens.pop()
    return _product(factors)


def _number(text: str) -> int:
    if len(text) > _LONGEST_NUMBER:
        raise SpecError(f"a size of {len(text)} digits is more than any tensor has")
    if not int(text):
        raise SpecError("an axis cannot have size 0")
    return int(text)


def _product(factors: Axes) -> list[Segment]:
    """Distribute a product over sums; an inner sum under a group has no such form.

    ``(2 (a+b))`` is ``a+b+a+b``, written out; ``(g (a+b))`` would need as many copies as g has
    elements, moved with them, and is refused.
    """
    segments: list[Segment] = [()]
    for factor in factors:
        if len(factor) == 1:
            segments = [(*segment, *factor[0]) for segment in segments]
            continue
        copies = [copy for segment in segments for copy in _copies(segment)]
        if len(copies) * len(factor) > _MOST_SEGMENTS:
            raise SpecError(
                f"a product of sums stands for more than {_MOST_SEGMENTS} terms; write fewer"
            )
        segments = [(*copy, *term) for copy in copies for term in factor]
    return segments


def _copies(outer: Segment) -> list[Segment]:
    count = 1
    for atom in outer:
        if not isinstance(atom, int):
            raise SpecError(
                "a sum inside a product must come first or follow fixed sizes, but it follows "
                f"group '{atom}'"
            )
        count *= atom
    if count > _MOST_COPIES:
        raise SpecError(
            f"a sum inside a product stands for {count} copies; at most {_MOST_COPIES} are "
            "written out"
        )
    return [()] * count
