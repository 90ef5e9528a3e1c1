"""Specifications as JSON: the whole value, with the reasons of pinned axes.

    {"format": "wsl.PermutationSpec", "version": 1,
     "groups": [{"name": "c1", "size": 16}, ...], "tensors": {"conv1.weight": "c1 1 3 3", ...},
     "pinned": {...}}

Unit symmetries, where there are any, are a list of their lines under "units". Text from elsewhere
is data: what is damaged, repeated, too deep or too large is refused with a reason.
"""

from __future__ import annotations

import itertools
import json
import math
import re
from typing import Any

from wsl.symmetry.spec.grammar import NAME, Axes, SpecError, format_axes, parse_axes
from wsl.symmetry.spec.names import check_tensor_name
from wsl.symmetry.spec.parts import Group, Parts, axis_size, check
from wsl.symmetry.spec.units import UnitSymmetry

_FORMAT = {"format": "wsl.PermutationSpec", "version": 1}
_LARGEST = 2**62


def to_json(parts: Parts) -> str:
    """The whole content as JSON text; `from_json` reads back equal parts."""
    groups = [*map(_content, parts.declared)]
    tensors = {name: format_axes(axes) for name, axes in parts.annotations}
    units = {"units": [str(unit) for unit in parts.units]} if parts.units else {}
    content = {"groups": groups, "tensors": tensors, **units, "pinned": dict(parts.pinned)}
    return json.dumps({**_FORMAT, **content}, indent=1)


def _content(group: Group) -> dict[str, Any]:
    return {"name": group.name, "size": group.size} | ({"per": group.per} if group.per else {})


def from_json(text: str) -> Parts:
    """Read what `to_json` wrote. Raises `SpecError` that says where the text is something else."""
    content = _load(text)
    _check_header(content)
    groups = tuple(map(_group, _typed(content.get("groups"), list, "groups")))
    tensors = _typed(content.get("tensors"), dict, "tensors")
    annotations = tuple(itertools.starmap(_tensor, tensors.items()))
    pinned = _typed(content.get("pinned", {}), dict, "pinned")
    units = tuple(map(_unit, _typed(content.get("units", []), list, "units")))
    return _checked(Parts(groups, annotations, pinned, units))


def _checked(parts: Parts) -> Parts:
    check(parts)
    _check_numbers(parts)
    _check_pinned(parts)
    return parts


def _check_header(content: Any) -> None:
    if not isinstance(content, dict) or any(
        content.get(key) != value for key, value in _FORMAT.items()
    ):
        raise SpecError(
            "JSON: this is not a specification of format 'wsl.PermutationSpec', version 1"
        )
    if extra := sorted(content.keys() - {*_FORMAT, "groups", "tensors", "units", "pinned"}):
        raise SpecError(f"JSON: unknown key {extra[0]!r}; a newer version may have written this")


def _load(text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_once, parse_constant=_no_constant)
    except SpecError:
        raise
    except RecursionError:
        raise SpecError("JSON: nested too deeply to be a specification") from None
    except (ValueError, TypeError) as error:
        raise SpecError(f"JSON: {error}") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        raise SpecError(
            f"JSON: {next(name for name in names if names.count(name) > 1)!r} is given twice"
        )
    return found


def _no_constant(text: str) -> Any:
    raise SpecError(f"JSON: {text} is not a number that a specification holds")


def _typed(value: Any, kind: type, where: str) -> Any:
    if type(value) is not kind:
        raise SpecError(f"JSON: {where} must be {kind.__name__}, got {type(value).__name__}")
    return value


def _group(entry: Any) -> Group:
    fields = _typed(entry, dict, "each of groups")
    if not fields.keys() <= {"name", "size", "per"}:
        raise SpecError(f"JSON: a group has name, size and per, got {', '.join(map(repr, fields))}")
    name, per = _typed(fields.get("name"), str, "a group's name"), fields.get("per")
    _check_group_name(name)
    if per is not None:
        _check_group_name(_typed(per, str, f"group {name!r}: per"))
    return Group(name, _typed(fields.get("size"), int, f"group {name!r}: size"), per)


def _check_group_name(text: str) -> None:
    if not re.fullmatch(NAME, text):
        raise SpecError(f"JSON: {text!r} cannot name a group; use letters, digits, '_' and '.'")


def _tensor(name: str, axes: Any) -> tuple[str, Axes]:
    check_tensor_name(name)
    try:
        return name, parse_axes(_typed(axes, str, f"the axes of {name!r}"))
    except SpecError as error:
        raise SpecError(f"{name}: {error}") from None


def _unit(line: Any) -> UnitSymmetry:
    return UnitSymmetry.parse(_typed(line, str, "each of units"))


def _check_numbers(parts: Parts) -> None:
    sizes = parts.sizes
    for name, axes in parts.annotations:
        if math.prod(axis_size(axis, sizes) for axis in axes) > _LARGEST:
            raise SpecError(
                f"{name}: '{format_axes(axes)}' has more than 2**62 entries, which no tensor has"
            )


def _check_pinned(parts: Parts) -> None:
    axes = parts.axes
    for place, reason in parts.pinned.items():
        name, _, axis = place.rpartition(" axis ")
        if not axis.isdecimal() or len(axis) > 3 or int(axis) >= len(axes.get(name, ())):
            raise SpecError(
                f"JSON: pinned place {place!r} is not 'tensor axis i' of a tensor that is there"
            )
        _typed(reason, str, f"the reason of {place!r}")
