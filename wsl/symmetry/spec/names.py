"""Names of tensors and groups: renaming, and the part of a specification that belongs to a
submodule.

Neither changes what the group does: an element acts under the new names, or on the part, as it does
on the whole.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from wsl.base import did_you_mean
from wsl.symmetry.spec.grammar import NAME, Axes, SpecError
from wsl.symmetry.spec.units import UnitSymmetry

if TYPE_CHECKING:
    from wsl.symmetry.spec.specification import PermutationSpec

Renaming = Mapping[str, str] | Callable[[str], str]
"""Old name to new name; as a mapping, what it leaves out keeps its name."""


def rename(spec: PermutationSpec, names: Renaming) -> PermutationSpec:
    """Other names of tensors. A key of a mapping is a tensor, or a module whose tensors all follow;
    the longest key wins.
    """
    new = {name: names(name) if callable(names) else _renamed(name, names) for name in spec.axes}
    if not callable(names):
        for key in names:
            if not any(_inside(name, key) for name in spec.axes):
                raise SpecError(
                    f"rename: no tensor is or lies in '{key}'{did_you_mean(key, spec.axes)}"
                )
    _check_distinct(new, "tensors")
    for name in new.values():
        check_tensor_name(name)
    return _with_tensors(spec, new)


def rename_groups(spec: PermutationSpec, names: Renaming) -> PermutationSpec:
    """Other names of groups. Two groups cannot become one: that would be another group."""
    if not callable(names) and (unknown := [name for name in names if name not in spec.groups]):
        raise SpecError(
            "rename_groups: there is no group "
            f"'{unknown[0]}'{did_you_mean(unknown[0], spec.groups)}"
        )
    new = {name: names(name) if callable(names) else names.get(name, name) for name in spec.groups}
    _check_distinct(new, "groups")
    for name in new.values():
        if not isinstance(name, str) or not re.fullmatch(NAME, name):
            raise SpecError(
                f"{name!r} cannot name a group; use letters, digits, '_' and '.', a letter first"
            )

    def axes_with(axes: Axes) -> Axes:
        return tuple(
            tuple(tuple(new.get(str(atom), atom) for atom in segment) for segment in axis)
            for axis in axes
        )

    declared = tuple(
        g._replace(name=new[g.name], per=new[g.per] if g.per else None) for g in spec.declared
    )
    annotations = tuple((name, axes_with(axes)) for name, axes in spec.annotations)
    units = tuple(dataclasses.replace(unit, group=new[unit.group]) for unit in spec.units)
    return dataclasses.replace(spec, declared=declared, annotations=annotations, units=units)


def restrict(
    spec: PermutationSpec, part: str | Iterable[str], *, keep_prefix: bool = False
) -> PermutationSpec:
    """The specification of some tensors: of a module, by its name, whose prefix is then removed, or
    of the tensors named.

    Groups that do not act there are dropped. A family's parent stands in every product with it, and
    so is always kept.
    """
    module = part.removesuffix(".") if isinstance(part, str) else None
    chosen = (
        [name for name in spec.axes if name.startswith(f"{module}.")]
        if module is not None
        else list(part)
    )
    if unknown := [name for name in chosen if name not in spec.axes]:
        raise SpecError(f"restrict: no tensor '{unknown[0]}'{did_you_mean(unknown[0], spec.axes)}")
    if not chosen:
        raise SpecError(f"restrict: no tensor lies in '{part}'{did_you_mean(str(part), spec.axes)}")
    cut = module is not None and not keep_prefix
    return _with_tensors(
        spec, {n: n.removeprefix(f"{module}.") if cut else n for n in spec.axes if n in set(chosen)}
    )


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


def _with_tensors(spec: PermutationSpec, names: Mapping[str, str]) -> PermutationSpec:
    """The tensors that ``names`` maps, under their new names, with the groups that act on them."""
    annotations = tuple((names[name], axes) for name, axes in spec.annotations if name in names)
    used = {
        atom for _, axes in annotations for axis in axes for segment in axis for atom in segment
    }
    places = [(*place.rpartition(" axis "), reason) for place, reason in spec.pinned.items()]
    pinned = {f"{names[name]} axis {i}": reason for name, _, i, reason in places if name in names}
    declared = tuple(group for group in spec.declared if group.name in used)
    units = tuple(unit for old in spec.units if (unit := _unit_of(old, names)))
    return dataclasses.replace(
        spec, declared=declared, annotations=annotations, pinned=pinned, units=units
    )


def _unit_of(unit: UnitSymmetry, names: Mapping[str, str]) -> UnitSymmetry | None:
    """A unit symmetry as it acts on some tensors; of a phase whose shifts are elsewhere, the flips
    are signs.
    """
    places = tuple(
        place._replace(tensor=names[place.tensor]) for place in unit.places if place.tensor in names
    )
    if unit.kind == "phase" and places and all(place.exponent < 0 for place in places):
        return UnitSymmetry(
            "sign", unit.group, tuple(place._replace(exponent=1) for place in places)
        )
    return dataclasses.replace(unit, places=places) if places else None


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
