"""`Rescaling`: an element of the group of unit symmetries, and its action on weights.

    (r.theta)[.., i, ..] = D (theta[.., i, ..] + c) - c + t

with D the product of s_i^e over the symmetries that act there, and t = k_i pi / omega where a phase
shifts. In a product ``(r @ h)(theta) = r(h(theta))`` scales and signs multiply, and

    k = k_r + sign_r k_h

since a sign also flips a shift. It preserves the function that the network computes if the
specification does (`verify_units`). Products agree with composition to rounding. What mixes units
by matrices is `LinearMaps`.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from wsl.params import Params
from wsl.symmetry.elements.action import DeviceCopies, UnitAction, along
from wsl.symmetry.elements.permutation import Permutation
from wsl.symmetry.spec import PermutationSpec, Place, SpecError, UnitSymmetry

_MOST_TURNS = 4


@dataclasses.dataclass(frozen=True, eq=False)
class Rescaling:
    """``values[i]`` belongs to the i-th unit symmetry that does not mix units.

    It has shape (size,), or (size of per, size) for a family: factors s > 0 of a scale or -1 and 1
    of a sign, float64, or numbers k of half turns of a phase, int64. Raises `SpecError` otherwise.
    """

    spec: PermutationSpec
    values: tuple[Tensor, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", tuple(self.values))
        units = _acting(self.spec)
        if len(self.values) != len(units):
            raise SpecError(
                f"{len(self.values)} values given, but the specification has {len(units)} scales, "
                "signs and phases"
            )
        for unit, value in zip(units, self.values, strict=True):
            _check_value(self.spec, unit, value)

    @classmethod
    def identity(cls, spec: PermutationSpec) -> Rescaling:
        """The element that changes nothing."""
        return cls._build(
            spec, lambda unit, shape: (torch.zeros if unit.kind == "phase" else torch.ones)(shape)
        )

    @classmethod
    def random(cls, spec: PermutationSpec, generator: torch.Generator | None = None) -> Rescaling:
        """Scales log-uniform in [1/2, 2], fair signs, and phases of at most four half turns."""

        def draw(unit: UnitSymmetry, shape: tuple[int, ...]) -> Tensor:
            uniform = torch.rand(shape, generator=generator, dtype=torch.float64)
            if unit.kind == "scale":
                return 4**uniform / 2
            if unit.kind == "sign":
                return uniform.mul(2).floor() * 2 - 1
            return uniform.mul(2 * _MOST_TURNS + 1).floor() - _MOST_TURNS

        return cls._build(spec, draw)

    @classmethod
    def _build(
        cls, spec: PermutationSpec, draw: Callable[[UnitSymmetry, tuple[int, ...]], Tensor]
    ) -> Rescaling:
        values = [draw(unit, _shape_of(spec, unit)).to(_dtype(unit)) for unit in _acting(spec)]
        return cls(spec, tuple(values))

    def __call__(self, params: Mapping[str, Tensor]) -> Params:
        """Act on weights; leading axes of the tensors are batch.

        Raises `SpecError` if they do not fit the specification.
        """
        self.spec.validate(params)
        moved = {name: params[name] for name in self.spec.axes}
        for name, action in self._actions.items():
            moved[name] = action(moved[name])
        return moved

    @functools.cached_property
    def _actions(self) -> dict[str, UnitAction]:
        by_tensor: dict[str, list[tuple[UnitSymmetry, Place, Tensor]]] = {}
        for unit, value in zip(_acting(self.spec), self.values, strict=True):
            for place in unit.places:
                by_tensor.setdefault(place.tensor, []).append((unit, place, value))
        return {name: self._action(each) for name, each in by_tensor.items()}

    def _action(self, acting_here: list[tuple[UnitSymmetry, Place, Tensor]]) -> UnitAction:
        factors, shifts = [], []
        for unit, place, value in acting_here:
            if unit.kind == "phase" and place.exponent > 0:
                turn = value.double() * (math.pi / (unit.omega or 1.0))
                shifts.append(DeviceCopies(along(self.spec, place, turn, elsewhere=0.0)))
            else:
                factor = _factor(unit, value) ** place.exponent
                factors.append(DeviceCopies(along(self.spec, place, factor, elsewhere=1.0)))
        # All places of one tensor have one constant; the specification has been checked for that.
        return UnitAction(acting_here[0][1].offset, tuple(factors), tuple(shifts))

    def __reduce__(self) -> tuple[type, tuple[object, ...]]:
        return type(self), (self.spec, self.values)

    def __matmul__(self, other: Rescaling) -> Rescaling:
        """The product: ``(g @ h)(theta) == g(h(theta))`` to rounding."""
        if self.spec != other.spec:
            raise SpecError("rescalings of two different specifications cannot be multiplied")

        def product(unit: UnitSymmetry, mine: Tensor, theirs: Tensor) -> Tensor:
            return mine + self._turned(unit) * theirs if unit.kind == "phase" else mine * theirs

        return self._map(product, other.values)

    def __invert__(self) -> Rescaling:
        """The inverse: ``(~g @ g)`` is the identity, to rounding."""

        def inverse(unit: UnitSymmetry, mine: Tensor, _: Tensor) -> Tensor:
            return -self._turned(unit) * mine if unit.kind == "phase" else 1 / mine

        return self._map(inverse, self.values)

    def permuted(self, permutation: Permutation) -> Rescaling:
        """The conjugate p r p^-1: what p(theta) undergoes when theta undergoes r."""
        per = {group.name: group.per for group in self.spec.declared}

        def moved(unit: UnitSymmetry, mine: Tensor, _: Tensor) -> Tensor:
            index, parent = permutation.indices[unit.group], per[unit.group]
            return (
                mine[index]
                if parent is None
                else mine[permutation.indices[parent]].gather(1, index)
            )

        return self._map(moved, self.values)

    def factors_at(self, place: Place) -> Tensor | None:
        """By what the units of a place are multiplied, float64; None where they are not."""
        found: Tensor | None = None
        for unit, value in zip(_acting(self.spec), self.values, strict=True):
            for here in unit.places:
                if here[:4] == place[:4] and unit.kind != "phase":
                    factor = value**here.exponent
                    found = factor if found is None else found * factor
        return found

    def _turned(self, phase: UnitSymmetry) -> Tensor:
        """The sign, as an integer, that this element gives to what the phase shifts."""
        shifts = {place[:4] for place in phase.places if place.exponent > 0}
        turned = torch.ones(_shape_of(self.spec, phase), dtype=torch.long)
        for unit, value in zip(_acting(self.spec), self.values, strict=True):
            if unit.kind == "sign" and shifts & {place[:4] for place in unit.places}:
                turned = turned * value.long().to(turned.device)
        return turned

    def _map(
        self, f: Callable[[UnitSymmetry, Tensor, Tensor], Tensor], others: tuple[Tensor, ...]
    ) -> Rescaling:
        units = _acting(self.spec)
        return Rescaling(
            self.spec, tuple(f(*each) for each in zip(units, self.values, others, strict=True))
        )

    def save(self, path: str | Path) -> None:
        """Write the element and its specification as JSON text."""
        content = {
            "format": "wsl.Rescaling",
            "version": 1,
            "spec": str(self.spec),
            "values": [v.tolist() for v in self.values],
        }
        Path(path).write_text(json.dumps(content))

    @classmethod
    def load(cls, path: str | Path) -> Rescaling:
        """Read what `save` wrote; raises `SpecError` if the file is something else or damaged."""
        try:
            content = json.loads(Path(path).read_text())
            _check_format(path, content)
            spec = PermutationSpec.parse(content["spec"])
            pairs = zip(_acting(spec), content["values"], strict=True)
            values = tuple(torch.tensor(value, dtype=_dtype(unit)) for unit, value in pairs)
            return cls(spec, values)
        except SpecError:
            raise
        except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, ValueError) as error:
            raise SpecError(f"{path}: not a saved rescaling ({error})") from None


def _acting(spec: PermutationSpec) -> tuple[UnitSymmetry, ...]:
    """The unit symmetries that have elements: scales, signs and phases."""
    return tuple(unit for unit in spec.units if not unit.mixes)


def _shape_of(spec: PermutationSpec, unit: UnitSymmetry) -> tuple[int, ...]:
    """One value for each unit, or for each head and unit of a family."""
    group = next(group for group in spec.declared if group.name == unit.group)
    return (group.size,) if group.per is None else (spec.groups[group.per], group.size)


def _factor(unit: UnitSymmetry, value: Tensor) -> Tensor:
    return 1.0 - 2.0 * (value % 2).double() if unit.kind == "phase" else value


def _dtype(unit: UnitSymmetry) -> torch.dtype:
    return torch.int64 if unit.kind == "phase" else torch.float64


def _check_value(spec: PermutationSpec, unit: UnitSymmetry, value: Tensor) -> None:
    shape, dtype = _shape_of(spec, unit), _dtype(unit)
    if tuple(value.shape) != shape or value.dtype != dtype:
        raise SpecError(
            f"{unit.head}: needs {dtype} values of shape {shape}, got {value.dtype} "
            f"{tuple(value.shape)}"
        )
    if unit.kind == "scale" and not bool(((value > 0) & value.isfinite()).all()):
        raise SpecError(
            f"{unit.head}: factors of a scale must be positive and finite; signs are a symmetry "
            "of their own"
        )
    if unit.kind == "sign" and not bool((value.abs() == 1).all()):
        raise SpecError(f"{unit.head}: the values of a sign must be -1 or 1")


def _check_format(path: str | Path, content: Mapping[str, object]) -> None:
    if content["format"] != "wsl.Rescaling" or content["version"] != 1:
        raise SpecError(
            f"{path}: format {content['format']!r} version {content['version']!r} is not "
            "readable here"
        )
