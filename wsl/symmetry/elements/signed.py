"""`SignedBatch`: for every row a permutation and signs of the units of odd activations.

    phi(-z) = -phi(z)   (sin, tanh)
    (g.theta)[r, .., i, ..] = s_ri theta[r, .., pi_r(i), ..],   s in {-1, 1}^n

These are elements of the hyperoctahedral group. The permutation comes first, then the signs, along
every axis on which an odd group acts: incoming weights and bias of a unit change sign together with
its outgoing weights, which leaves the function as it is. Chen, Lu & Hecht-Nielsen (1993). Exact: no
value is rounded. The caller says which groups are odd: on each tensor they must act as on a weight
or bias of a plain linear map. Nothing here checks that, nor does it reach the units of families;
`Rescaling` does, for one element.
"""

from __future__ import annotations

import dataclasses
import functools
import operator
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from wsl.params import Params
from wsl.symmetry.elements.action import DeviceCopies, across, spread
from wsl.symmetry.elements.batch import PermutationBatch
from wsl.symmetry.spec import Axis, Occurrence, PermutationSpec, SpecError


@dataclasses.dataclass(frozen=True, eq=False)
class SignedBatch:
    """``permutations``, then ``signs`` of -1 or 1, (rows, size), by the name of their group."""

    permutations: PermutationBatch
    signs: Mapping[str, Tensor]

    def __post_init__(self) -> None:
        check_odd(self.permutations.spec, list(self.signs))
        for name, signs in self.signs.items():
            shape = (len(self), self.permutations.spec.groups[name])
            if tuple(signs.shape) != shape or not bool((signs.abs() == 1).all()):
                raise SpecError(
                    f"signs of '{name}': numbers -1 and 1 of shape {shape} are needed, got "
                    f"{tuple(signs.shape)}"
                )

    @classmethod
    def random(
        cls,
        spec: PermutationSpec,
        rows: int,
        odd: Sequence[str],
        *,
        generator: torch.Generator | None = None,
    ) -> SignedBatch:
        """Independent uniformly random elements, with signs in the groups ``odd``."""
        check_odd(spec, odd)
        permutations = PermutationBatch.random(spec, rows, generator)
        signs = {
            name: 1.0 - 2 * torch.randint(2, (rows, spec.groups[name]), generator=generator)
            for name in odd
        }
        return cls(permutations, signs)

    def __len__(self) -> int:
        return len(self.permutations)

    def __getitem__(self, rows: Tensor | slice) -> SignedBatch:
        """The elements of some rows."""
        return SignedBatch(
            self.permutations[rows], {name: signs[rows] for name, signs in self.signs.items()}
        )

    def __call__(self, params: Mapping[str, Tensor]) -> Params:
        """Act on weights (rows, *shape), on any device.

        Raises `SpecError` if the numbers of rows differ.
        """
        return _flipped(self.permutations(params), self._flips)

    @functools.cached_property
    def _flips(self) -> list[tuple[str, int, DeviceCopies]]:
        return _flips(self.permutations.spec, self.signs)

    def __reduce__(self) -> tuple[type, tuple[object, ...]]:
        return type(self), (self.permutations, self.signs)


def check_odd(spec: PermutationSpec, odd: Sequence[str]) -> None:
    """Raise `SpecError` unless ``odd`` names groups that are no families."""
    known = [group.name for group in spec.declared if group.per is None]
    if wrong := [name for name in odd if name not in known]:
        raise SpecError(
            f"odd group '{wrong[0]}': signs need a group that is no family; those are {known}"
        )


def flip_signs(
    spec: PermutationSpec, params: Mapping[str, Tensor], signs: Mapping[str, Tensor]
) -> Params:
    """Act by ``signs`` (batch, units), given by group, on tensors (batch, *shape, ...).

    The action is its own inverse.
    """
    check_odd(spec, list(signs))
    return _flipped(params, _flips(spec, signs))


def _flips(
    spec: PermutationSpec, signs: Mapping[str, Tensor]
) -> list[tuple[str, int, DeviceCopies]]:
    """Tensor, axis, and the signs (batch, length) along it; axes annotated alike share theirs."""
    found = []
    for group, values in signs.items():
        known: dict[Axis, DeviceCopies] = {}
        for (tensor, i), places in _by_axis(spec.occurrences(group)).items():
            axis = spec.axes[tensor][i]
            if axis not in known:
                known[axis] = _product_of(spec, places, values)
            found.append((tensor, i, known[axis]))
    return found


def _product_of(
    spec: PermutationSpec, places: Iterable[Occurrence], values: Tensor
) -> DeviceCopies:
    """Signs along an axis on which a group stands at several places."""
    each = (spread(spec, place, values, elsewhere=1.0) for place in places)
    return DeviceCopies(functools.reduce(operator.mul, each))


def _by_axis(places: Iterable[Occurrence]) -> dict[tuple[str, int], list[Occurrence]]:
    found: dict[tuple[str, int], list[Occurrence]] = {}
    for place in places:
        found.setdefault((place.tensor, place.axis), []).append(place)
    return found


def _flipped(
    params: Mapping[str, Tensor], flips: Sequence[tuple[str, int, DeviceCopies]]
) -> Params:
    moved = dict(params)
    for name, axis, signs in flips:
        tensor = moved[name]
        moved[name] = tensor * across(signs.like(tensor), axis, tensor.dim() - 1)
    return moved
