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
import functools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeVar

import torch

from wsl.symmetry.spec.axes_to_perm import AxesToPerm, from_axes_to_perm, to_axes_to_perm
from wsl.symmetry.spec.exchange import from_json, to_json
from wsl.symmetry.spec.fit import batch_of, check_names
from wsl.symmetry.spec.grammar import Axes, Axis, Segment
from wsl.symmetry.spec.keys import KeyReport, align_keys, compare
from wsl.symmetry.spec.names import Renaming, rename, rename_groups, restrict
from wsl.symmetry.spec.parts import (
    Annotations,
    Group,
    Occurrence,
    Parts,
    atoms_of,
    axis_size,
    check,
    segment_size,
)
from wsl.symmetry.spec.text import read, write
from wsl.symmetry.spec.units import UnitSymmetry

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class PermutationSpec:
    """One annotation per tensor, over named groups.

    Build it with `parse` or `wsl.permutation_spec`. ``pinned`` maps ``"tensor axis i"`` to the
    reason why that axis could not move; it is a note, not part of the value. ``units`` are the
    symmetries of units beyond permutations, as `wsl.symmetry.symmetry_spec` finds them. Raises
    `SpecError` when an annotation names an undeclared group, or a group is used nowhere.
    """

    declared: tuple[Group, ...]
    annotations: Annotations
    pinned: Mapping[str, str] = dataclasses.field(default_factory=dict, compare=False, repr=False)
    units: tuple[UnitSymmetry, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "pinned", MappingProxyType(dict(self.pinned)))
        check(self._parts)

    def __reduce__(self) -> tuple[type, tuple[object, ...]]:
        return type(self), (self.declared, self.annotations, dict(self.pinned), self.units)

    def __hash__(self) -> int:
        return self._hash

    @functools.cached_property
    def _hash(self) -> int:
        # What is derived from a specification is cached by it, so it is hashed again and again.
        return hash((self.declared, self.annotations, self.units))

    @property
    def _parts(self) -> Parts:
        return Parts(self.declared, self.annotations, self.pinned, self.units)

    @classmethod
    def parse(cls, text: str) -> PermutationSpec:
        """Read a specification from its text, in which ``#`` starts a comment.

        Raises `SpecError` naming the line.
        """
        return cls(*read(text))

    def __str__(self) -> str:
        return write(self._parts)

    def without_units(self) -> PermutationSpec:
        """The same permutations, and nothing else."""
        return dataclasses.replace(self, units=())

    @functools.cached_property
    def groups(self) -> Mapping[str, int]:
        """Size of each group, by name."""
        return MappingProxyType(self._parts.sizes)

    @functools.cached_property
    def axes(self) -> Mapping[str, Axes]:
        """Annotation of each tensor, by name, in state-dict order."""
        return MappingProxyType(self._parts.axes)

    @functools.cached_property
    def _shapes(self) -> Mapping[str, torch.Size]:
        return {name: torch.Size(map(self.axis_size, axes)) for name, axes in self.annotations}

    @property
    def shapes(self) -> dict[str, torch.Size]:
        """Shape of each tensor, by name."""
        return dict(self._shapes)

    @property
    def log10_order(self) -> float:
        """log10 of the number of elements of the whole group."""
        count = {g.name: self.groups[g.per] if g.per else 1 for g in self.declared}
        return sum(count[g.name] * math.lgamma(g.size + 1) for g in self.declared) / math.log(10)

    @property
    def copies(self) -> int:
        """How many permutations an element consists of; a family has one for each index."""
        return sum(self.groups[group.per] if group.per else 1 for group in self.declared)

    @property
    def movable(self) -> float:
        """Share of all entries that lie on tensors with an axis on which a group acts."""
        sizes = {name: shape.numel() for name, shape in self._shapes.items()}
        moving = {place.tensor for group in self.groups for place in self.occurrences(group)}
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
        return axis_size(axis, self.groups)

    def segment_size(self, segment: Segment) -> int:
        """Length of one product of atoms."""
        return segment_size(segment, self.groups)

    def occurrences(self, group: str) -> Iterator[Occurrence]:
        """Every place where ``group`` acts, in the order of the tensors."""
        return iter(self._occurrences.get(group, ()))

    @functools.cached_property
    def _occurrences(self) -> Mapping[str, list[Occurrence]]:
        found: dict[str, list[Occurrence]] = {name: [] for name in self.groups}
        for place, atom in atoms_of(self.annotations):
            if isinstance(atom, str):
                found[atom].append(place)
        return found

    def rename(self, names: Renaming) -> PermutationSpec:
        """Other names of tensors or modules: a mapping, or a function of each name.

        Raises `SpecError` if two become one.
        """
        return PermutationSpec(*rename(self._parts, names))

    def rename_groups(self, names: Renaming) -> PermutationSpec:
        """Other names of groups. Raises `SpecError` if two become one."""
        return PermutationSpec(*rename_groups(self._parts, names))

    def restrict(self, part: str | Iterable[str], *, keep_prefix: bool = False) -> PermutationSpec:
        """How the group acts on a submodule, by its name, or on the tensors named.

        The module's name is removed from those of its tensors unless ``keep_prefix``. An element
        still is a symmetry of the whole network only: a group that acts outside too must move there
        as well, and the part, taken alone, may have symmetries that the whole does not have.
        """
        return PermutationSpec(*restrict(self._parts, part, keep_prefix=keep_prefix))

    def compare(self, params: Mapping[str, Any]) -> KeyReport:
        """Which names are missing in ``params``, which there are unknown, and what may help."""
        return compare(self.axes, params)

    def align_keys(self, params: Mapping[str, T]) -> dict[str, T]:
        """``params`` under the specification's names, where only a wrapper changed them.

        Wrappers add ``module.``, ``_orig_mod.`` or the like; other names stay as they are.
        """
        return align_keys(self.axes, params)

    def to_axes_to_perm(self, *, strict: bool = False) -> AxesToPerm:
        """Git Re-Basin's dictionary, one name or None for each axis.

        ``strict`` raises `SpecError` at an axis that needs more than one name. The form is that of
        `wsl.symmetry.spec.axes_to_perm`.
        """
        return to_axes_to_perm(self._parts, strict=strict)

    @classmethod
    def from_axes_to_perm(
        cls,
        mapping: Mapping[str, Sequence[str | None]],
        shapes: Mapping[str, Sequence[int]],
        *,
        sizes: Mapping[str, int] | None = None,
    ) -> PermutationSpec:
        """Read Git Re-Basin's dictionary, for tensors of these shapes.

        ``sizes`` of groups are needed only where the shapes leave a choice. Raises `SpecError` if
        the dictionary and the shapes do not go together.
        """
        return cls(*from_axes_to_perm(mapping, shapes, sizes=sizes))

    def to_json(self) -> str:
        """The whole value as JSON text, with the reasons of pinned axes."""
        return to_json(self._parts)

    @classmethod
    def from_json(cls, text: str) -> PermutationSpec:
        """Read what `to_json` wrote; raises `SpecError` if the text is something else."""
        return cls(*from_json(text))

    def validate(self, params: Mapping[str, torch.Tensor]) -> torch.Size:
        """Check names and shapes of ``params``.

        Leading axes, equal for all tensors, are batch and are returned. Raises `SpecError`, for
        example ``2.weight: axis 1 has size 9, but group 'h1' has size 8 (from 0.weight)``.
        """
        check_names(self.axes, params)
        return batch_of(self._parts, self._shapes, params)
