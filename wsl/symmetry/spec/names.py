"""Names of tensors and groups: renaming, and the part of a specification of a submodule.

Neither changes what the group does: an element acts under the new names, or on the part, as it does
on the whole.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from wsl.base import did_you_mean
from wsl.symmetry.spec.grammar import NAME, Axes, SpecError
from wsl.symmetry.spec.parts import Parts, groups_of
from wsl.symmetry.spec.units import UnitSymmetry

Renaming = Mapping[str, str] | Callable[[str], str]
"""Old name to new name; as a mapping, what it leaves out keeps its name."""


def rename(parts: Parts, names: Renaming) -> Parts:
    """Other names of tensors.

    A key of a mapping is a tensor, or a module whose tensors all follow; the longest key wins.
    """
    known = parts.axes
    new = {name: names(name) if callable(names) else _renamed(name, names) for name in known}
    if not callable(names):
        for key in names:
            if not any(_inside(name, key) for name in known):
                raise SpecError(
                    f"rename: no tensor is or lies in '{key}'{did_you_mean(key, known)}"
                )
    _check_distinct(new, "tensors")
    for name in new.values():
        check_tensor_name(name)
    return _with_tensors(parts, new)


def rename_groups(parts: Parts, names: Renaming) -> Parts:
    """Other names of groups. Two groups cannot become one: that would be another group."""
    known = parts.sizes
    if not callable(names) and (unknown := [name for name in names if name not in known]):
        raise SpecError(
            f"rename_groups: there is no group '{unknown[0]}'{did_you_mean(unknown[0], known)}"
        )
    new = {name: names(name) if callable(names) else names.get(name, name) for name in known}
    _check_distinct(new, "groups")
    for name in new.values():
        _check_group_name(name)
    return _with_groups(parts, new)


def restrict(parts: Parts, part: str | Iterable[str], *, keep_prefix: bool = False) -> Parts:
    """The parts that belong to a module, whose name is then removed, or to the tensors named.

    Groups that do not act there are dropped. A family's parent stands in every product with it, and
    so is always kept.
    """
    known = parts.axes
    prefix = f"{part.removesuffix('.')}." if isinstance(part, str) else None
    chosen = list(part) if prefix is None else [name for name in known if name.startswith(prefix)]
    if unknown := [name for name in chosen if name not in known]:
        raise SpecError(f"restrict: no tensor '{unknown[0]}'{did_you_mean(unknown[0], known)}")
    # A module name that is misspelt would else give a specification of nothing.
    if not chosen:
        raise SpecError(f"restrict: no tensor lies in '{part}'{did_you_mean(str(part), known)}")
    cut = "" if prefix is None or keep_prefix else prefix
    kept = set(chosen)
    return _with_tensors(parts, {name: name.removeprefix(cut) for name in known if name in kept})


def check_tensor_name(name: Any) -> None:
    """Raise `SpecError` for a name that a specification's text could not hold."""
    if (
        not isinstance(name, str)
        or name != name.strip()
        or "#" in name
        or len(name.splitlines()) != 1
    ):
        raise SpecError(
            f"{name!r} cannot name a tensor; it must be one line of text without '#' or space "
            "around it"
        )


def _check_group_name(name: Any) -> None:
    if not isinstance(name, str) or not re.fullmatch(NAME, name):
        raise SpecError(
            f"{name!r} cannot name a group; use letters, digits, '_' and '.', a letter first"
        )


def _with_groups(parts: Parts, new: Mapping[str, str]) -> Parts:
    """The same tensors, with every group under its new name."""
    declared = tuple(
        group._replace(name=new[group.name], per=new[group.per] if group.per else None)
        for group in parts.declared
    )
    annotations = tuple((name, _renamed_axes(axes, new)) for name, axes in parts.annotations)
    units = tuple(dataclasses.replace(unit, group=new.get(unit.group, "")) for unit in parts.units)
    return Parts(declared, annotations, parts.pinned, units)


def _with_tensors(parts: Parts, names: Mapping[str, str]) -> Parts:
    """The tensors that ``names`` maps, under their new names, with the groups that act on them."""
    annotations = tuple((names[name], axes) for name, axes in parts.annotations if name in names)
    used = {group for _, axes in annotations for group in groups_of(axes)}
    declared = tuple(group for group in parts.declared if group.name in used)
    units = tuple(unit for old in parts.units if (unit := _unit_of(old, names)))
    return Parts(declared, annotations, _pinned_of(parts.pinned, names), units)


def _pinned_of(pinned: Mapping[str, str], names: Mapping[str, str]) -> dict[str, str]:
    """The reasons of axes of the tensors that ``names`` maps, under their new names."""
    places = [(*place.rpartition(" axis "), reason) for place, reason in pinned.items()]
    return {f"{names[name]} axis {i}": reason for name, _, i, reason in places if name in names}


def _unit_of(unit: UnitSymmetry, names: Mapping[str, str]) -> UnitSymmetry | None:
    """A unit symmetry as it acts on some tensors, or None if it does not.

    Of a phase whose shifts are all on other tensors the flips are left, and those are signs.
    """
    places = tuple(
        place._replace(tensor=names[place.tensor]) for place in unit.places if place.tensor in names
    )
    if unit.kind == "phase" and places and all(place.exponent < 0 for place in places):
        return UnitSymmetry(
            "sign", unit.group, tuple(place._replace(exponent=1) for place in places)
        )
    return dataclasses.replace(unit, places=places) if places else None


def _renamed_axes(axes: Axes, new: Mapping[str, str]) -> Axes:
    return tuple(
        tuple(tuple(new.get(str(atom), atom) for atom in segment) for segment in axis)
        for axis in axes
    )


def _renamed(name: str, names: Mapping[str, str]) -> str:
    key = max((key for key in names if _inside(name, key)), key=len, default=None)
    return name if key is None else (names[key] + name.removeprefix(key)).removeprefix(".")


def _inside(name: str, module: str) -> bool:
    return name == module or name.startswith(f"{module}.")


def _check_distinct(new: Mapping[str, str], what: str) -> None:
    first: dict[str, str] = {}
    for old, name in new.items():
        if first.setdefault(name, old) != old:
            raise SpecError(
                f"{what} '{first[name]}' and '{old}' would both be called '{name}'; give each a "
                "name of its own"
            )
