"""The text of a whole specification, read and written.

c1 = 16, c2 = 32, dk = 16 per head   # sizes first; '#' starts a comment
conv1.weight: c1 1 3 3               # then one line per tensor
scale c1: conv1.weight[0] / ...      # and one per symmetry of units
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from wsl.symmetry.spec.grammar import NAME, Axes, SpecError, format_axes, parse_axes
from wsl.symmetry.spec.parts import Group, Parts
from wsl.symmetry.spec.units import UnitSymmetry, is_unit_line

_GROUP = re.compile(rf"\s*({NAME})\s*=\s*(\d{{1,18}})(?:\s+per\s+({NAME}))?\s*$")


def read(text: str) -> Parts:
    """The parts that a text describes. Raises `SpecError` naming the line that cannot be read."""
    found: list[Group | UnitSymmetry | tuple[str, Axes]] = []
    for number, line in enumerate(text.splitlines(), 1):
        line = line.split("#")[0].strip()
        try:
            found += _read_line(line)
        except SpecError as error:
            raise SpecError(f"line {number}, '{line}': {error}") from None
    return _parts(found)


def _parts(found: list[Group | UnitSymmetry | tuple[str, Axes]]) -> Parts:
    """Lines of all three kinds, which may stand in any order."""
    groups = tuple(item for item in found if isinstance(item, Group))
    units = tuple(item for item in found if isinstance(item, UnitSymmetry))
    tensors = tuple(item for item in found if not isinstance(item, Group | UnitSymmetry))
    return Parts(groups, tensors, units=units)


def write(parts: Parts) -> str:
    """The text that `read` reads back to the same parts, but for the reasons of pinned axes."""
    sizes = [", ".join(map(str, parts.declared))] if parts.declared else []
    tensors = [f"{name}: {format_axes(axes)}".rstrip() for name, axes in parts.annotations]
    return "\n".join([*sizes, *tensors, *map(str, parts.units)])


def _read_line(line: str) -> Iterator[Group | UnitSymmetry | tuple[str, Axes]]:
    if is_unit_line(line):
        yield UnitSymmetry.parse(line)
    elif ":" in line:
        name, _, axes = line.rpartition(":")
        yield name.strip(), parse_axes(axes)
    elif line:
        yield from map(_read_group, line.split(","))


def _read_group(text: str) -> Group:
    found = _GROUP.match(text)
    if not found:
        raise SpecError(
            f"'{text.strip()}' is neither 'name = size' nor 'name = size per group'; tensors "
            "need a ':'"
        )
    return Group(found[1], int(found[2]), found[3])
