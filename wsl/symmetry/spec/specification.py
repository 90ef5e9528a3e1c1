"""`PermutationSpec`: which axes of which tensors a symmetry of the architecture permutes together.

For a network f and weights theta, a specification names groups G_1 x ... x G_k of permutations and
says how they act on every axis of every parameter and buffer, so that f_{g.theta} = f_theta for
each g. It is a value: frozen, hashable, without tensors, equal to what its own text parses to.
Hecht-Nielsen (1990); Ainsworth et al. (2023), arXiv 2209.04836.

    c1 = 16, c2 = 32                     # sizes first, then one line per tensor
    conv1.weight: c1 1 3 3
    fc.weight: 10 (c2 49)

``dk = 16 per head`` declares a family: one permutation of 16 for every index of group ``head``,
carried along when ``head`` permutes (the wreath product S_16 wr S_head). This module never looks at
a network: see `discover` and `verify`.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

import torch

from wsl.symmetry.spec.grammar import (
    NAME,
    Axes,
    Axis,
    Segment,
    SpecError,
    format_axes,
    format_axis,
    parse_axes,
)
from wsl.symmetry.spec.keys import KeyReport, align_keys, compare
from wsl.symmetry.spec.names import Renaming, rename, rename_groups, restrict
from wsl.symmetry.spec.units import UnitSymmetry, check_units, is_unit_line

T = TypeVar("T")
_GROUP = re.compile(rf"\s*({NAME})\s*=\s*(\d{{1,18}})(?:\s+per\s+({NAME}))?\s*$")


class Group(NamedTuple):
    """A permutation group S_size, or with ``per`` a family of them, one for each index of the group
    named there.
    """

    name: str
    size: int
    per: str | None = None

    def __str__(self) -> str:
        return f"{self.name} = {self.size}" + (f" per {self.per}" if self.per else "")


class Occurrence(NamedTuple):
    """Where a group acts: tensor, axis, segment of the concatenation, position in the product."""

    tensor: str
    axis: int
    segment: int
    factor: int


@dataclasses.dataclass(frozen=True)
class PermutationSpec:
    """One annotation per tensor, over named groups; build it with `parse` or
    `wsl.permutation_spec`.

    ``pinned`` maps ``"tensor axis i"`` to the reason why that axis could not move; it is a note,
    not part of the value. ``units`` are the symmetries of units beyond permutations, as
    `wsl.symmetry.symmetry_spec` finds them. Raises `SpecError` when an annotation names an
    undeclared group, or a group is declared and used nowhere.
    """

    declared: tuple[Group, ...]
    annotations: tuple[tuple[str, Axes], ...]
    pinned: Mapping[str, str] = dataclasses.field(default_factory=dict, compare=False, repr=False)
    units: tuple[UnitSymmetry, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "pinned", MappingProxyType(dict(self.pinned)))
        object.__setattr__(
            self, "_groups", MappingProxyType({g.name: g.size for g in self.declared})
        )
        object.__setattr__(self, "_axes", MappingProxyType(dict(self.annotations)))
        _check(self)

    def __reduce__(self) -> tuple[type, tuple[object, ...]]:
        return type(self), (self.declared, self.annotations, dict(self.pinned), self.units)

    @classmethod
    def parse(cls, text: str) -> PermutationSpec:
        """Read a specification from its text; ``#`` starts a comment. Raises `SpecError` naming the
        line.
        """
        declared: list[Group] = []
        annotations: list[tuple[str, Axes]] = []
        units: list[UnitSymmetry] = []
        for number, line in enumerate(text.splitlines(), 1):
            line = line.split("#")[0].strip()
            try:
                if is_unit_line(line):
                    units.append(UnitSymmetry.parse(line))
                elif ":" in line:
                    name, _, axes = line.rpartition(":")
                    annotations.append((name.strip(), parse_axes(axes)))
                elif line:
                    declared.extend(_parse_groups(line))
            except SpecError as error:
                raise SpecError(f"line {number}, '{line}': {error}") from None
        return cls(tuple(declared), tuple(annotations), units=tuple(units))

    def __str__(self) -> str:
        sizes = [", ".join(map(str, self.declared))] if self.declared else []
        tensors = [f"{name}: {format_axes(axes)}".rstrip() for name, axes in self.annotations]
        return "\n".join([*sizes, *tensors, *map(str, self.units)])

    def without_units(self) -> PermutationSpec:
        """The same permutations, and nothing else."""
        return dataclasses.replace(self, units=())

    @property
    def groups(self) -> Mapping[str, int]:
        """Size of each group, by name."""
        return self._groups  # type: ignore[attr-defined]

    @property
    def axes(self) -> Mapping[str, Axes]:
        """Annotation of each tensor, by name, in state-dict order."""
        return self._axes  # type: ignore[attr-defined]

    @property
    def shapes(self) -> dict[str, torch.Size]:
        """Shape of each tensor, by name."""
        return {name: torch.Size(map(self.axis_size, axes)) for name, axes in self.annotations}

    @property
    def log10_order(self) -> float:
        """log10 of the number of elements of the whole group."""
        count = {g.name: self.groups[g.per] if g.per else 1 for g in self.declared}
        return sum(count[g.name] * math.lgamma(g.size + 1) for g in self.declared) / math.log(10)

    @property
    def copies(self) -> int:
        """How many permutations an element consists of: one for each group, and one for each member
        of a family.
        """
        return sum(self.groups[group.per] if group.per else 1 for group in self.declared)

    @property
    def movable(self) -> float:
        """Share of the entries of all tensors that lie on at least one axis which a group acts
        on.
        """
        sizes = {name: shape.numel() for name, shape in self.shapes.items()}
        moving = {
            occurrence.tensor for group in self.groups for occurrence in self.occurrences(group)
        }
        return sum(sizes[name] for name in moving) / max(1, sum(sizes.values()))

    @property
    def unused(self) -> dict[str, float]:
        """Tensors that the call did not use, with their share of all entries, as `pinned` tells."""
        reasons = ((key.rpartition(" axis ")[0], why) for key, why in self.pinned.items())
        names = dict.fromkeys(name for name, why in reasons if why == "unused")
        entries = {name: shape.numel() for name, shape in self.shapes.items()}
        return {name: entries[name] / sum(entries.values()) for name in names}

    def axis_size(self, axis: Axis) -> int:
        """Length of an axis."""
        return sum(map(self.segment_size, axis))

    def segment_size(self, segment: Segment) -> int:
        """Length of one product of atoms."""
        return math.prod(atom if isinstance(atom, int) else self.groups[atom] for atom in segment)

    def occurrences(self, group: str) -> Iterator[Occurrence]:
        """Every place where ``group`` acts, in the order of the tensors."""
        for name, axes in self.annotations:
            for i, axis in enumerate(axes):
                for j, segment in enumerate(axis):
                    for k, atom in enumerate(segment):
                        if atom == group:
                            yield Occurrence(name, i, j, k)

    def rename(self, names: Renaming) -> PermutationSpec:
        """Other names of tensors or modules: a mapping, or a function of each name. Raises
        `SpecError` if two become one.
        """
        return rename(self, names)

    def rename_groups(self, names: Renaming) -> PermutationSpec:
        """Other names of groups. Raises `SpecError` if two become one."""
        return rename_groups(self, names)

    def restrict(self, part: str | Iterable[str], *, keep_prefix: bool = False) -> PermutationSpec:
        """How the group acts on a submodule (by its name, which is removed unless ``keep_prefix``)
        or on the tensors named.

        An element still is a symmetry of the whole network only: a group that acts outside too must
        move there as well, and the part, taken alone, may have symmetries that the whole does not
        have.
        """
        return restrict(self, part, keep_prefix=keep_prefix)

    def compare(self, params: Mapping[str, Any]) -> KeyReport:
        """Which names of the specification are missing in ``params``, which names there are
        unknown, and what may help.
        """
        return compare(self, params)

    def align_keys(self, params: Mapping[str, T]) -> dict[str, T]:
        """``params`` under the specification's names where only a wrapper's ``module.``,
        ``_orig_mod.`` or the like differ.
        """
        return align_keys(self, params)

    def to_axes_to_perm(self, *, strict: bool = False) -> dict[str, list[str | None]]:
        """Git Re-Basin's dictionary, one name or None for each axis: see
        `wsl.symmetry.spec.axes_to_perm`.
        """
        from wsl.symmetry.spec.axes_to_perm import to_axes_to_perm

        return to_axes_to_perm(self, strict=strict)

    @classmethod
    def from_axes_to_perm(
        cls,
        mapping: Mapping[str, Sequence[str | None]],
        shapes: Mapping[str, Sequence[int]],
        *,
        sizes: Mapping[str, int] | None = None,
    ) -> PermutationSpec:
        """Read Git Re-Basin's dictionary, for tensors of these shapes: see
        `wsl.symmetry.spec.axes_to_perm`.
        """
        from wsl.symmetry.spec.axes_to_perm import from_axes_to_perm

        return from_axes_to_perm(mapping, shapes, sizes=sizes)

    def to_json(self) -> str:
        """The whole value as JSON text, with the reasons of pinned axes."""
        from wsl.symmetry.spec.exchange import to_json

        return to_json(self)

    @classmethod
    def from_json(cls, text: str) -> PermutationSpec:
        """Read what `to_json` wrote; raises `SpecError` if the text is something else."""
        from wsl.symmetry.spec.exchange import from_json

        return from_json(text)

    def validate(self, params: Mapping[str, torch.Tensor]) -> torch.Size:
        """Check names and shapes of ``params``; leading axes, equal for all tensors, are batch and
        are returned.

        Raises `SpecError`, for example ``2.weight: axis 1 has size 9, but group 'h1' has size 8
        (from 0.weight)``.
        """
        if not (report := compare(self, params)):
            shown = dataclasses.replace(
                report,
                hint="the specification and the weights must come from the same architecture",
            )
            raise SpecError("; ".join(filter(None, [str(shown), report.hint])))
        batch = None
        for name, axes in self.annotations:
            lead = self._validate_tensor(name, axes, params[name])
            if batch is not None and lead != batch:
                raise SpecError(
                    f"{name}: leading (batch) axes {tuple(lead)}, but the tensors before have "
                    f"{tuple(batch)}"
                )
            batch = lead
        return torch.Size() if batch is None else batch

    def _validate_tensor(self, name: str, axes: Axes, tensor: torch.Tensor) -> torch.Size:
        lead = tensor.dim() - len(axes)
        if lead < 0:
            raise SpecError(
                f"{name}: has {tensor.dim()} axes, but '{format_axes(axes)}' needs at least "
                f"{len(axes)}"
            )
        for i, axis in enumerate(axes):
            if tensor.shape[lead + i] != self.axis_size(axis):
                raise SpecError(
                    f"{name}: axis {i} has size {tensor.shape[lead + i]}, but "
                    f"{self._expected(axis, name)}"
                )
        return tensor.shape[:lead]

    def _expected(self, axis: Axis, name: str) -> str:
        text, size = format_axis(axis), self.axis_size(axis)
        if text not in self.groups:
            return f"it must have size {size}" if text == str(size) else f"'{text}' has size {size}"
        first = next(self.occurrences(text)).tensor
        return f"group '{text}' has size {size}" + (f" (from {first})" if first != name else "")


def _parse_groups(line: str) -> Iterator[Group]:
    for part in line.split(","):
        found = _GROUP.match(part)
        if not found:
            raise SpecError(
                f"'{part.strip()}' is neither 'name = size' nor 'name = size per group'; tensors "
                "need a ':'"
            )
        yield Group(found[1], int(found[2]), found[3])


def _check(spec: PermutationSpec) -> None:
    if len(spec.groups) != len(spec.declared) or len(spec.axes) != len(spec.annotations):
        raise SpecError("a group or a tensor is declared twice; keep one line for each")
    used: set[str] = set()
    per = {group.name: group.per for group in spec.declared}
    for name, axes in spec.annotations:
        for segment in (segment for axis in axes for segment in axis):
            for k, atom in enumerate(segment):
                if isinstance(atom, int):
                    continue
                if atom not in per:
                    raise SpecError(
                        f"{name}: group '{atom}' has no size; add '{atom} = SIZE' to the first line"
                    )
                if per[atom] is not None and per[atom] not in segment[:k]:
                    raise SpecError(
                        f"{name}: '{atom}' is per '{per[atom]}', which must stand before it in "
                        "the same product"
                    )
                used.add(atom)
    if unused := [group.name for group in spec.declared if group.name not in used]:
        raise SpecError(f"group '{unused[0]}' is declared but acts on no tensor; remove it")
    if empty := [group.name for group in spec.declared if group.size < 1]:
        raise SpecError(f"group '{empty[0]}' has size 0; a group needs at least one element")
    if spec.units:
        check_units(spec.units, _places(spec))


def _places(spec: PermutationSpec) -> dict[str, set[tuple[str, int, int, int]]]:
    """Every place of every group."""
    places: dict[str, set[tuple[str, int, int, int]]] = {name: set() for name in spec.groups}
    for tensor, axes in spec.annotations:
        for i, axis in enumerate(axes):
            for j, segment in enumerate(axis):
                for k, atom in enumerate(segment):
                    if isinstance(atom, str):
                        places[atom].add((tensor, i, j, k))
    return places
