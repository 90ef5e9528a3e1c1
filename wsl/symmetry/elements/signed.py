"""`SignedBatch`: for every row a permutation and signs of units, one element of the hyperoctahedral
group of odd activations.

    phi(-z) = -phi(z)  (sin, tanh):     (g.theta)[r, .., i, ..] = s_r,i theta[r, .., pi_r(i), ..],
        s in {-1, 1}^n

The permutation comes first, then the signs, along every axis on which an odd group acts: incoming
weights and bias of a unit change sign together with its outgoing weights, which leaves the function
as it is. Chen, Lu, Hecht-Nielsen (1993). Exact: no value is rounded. The caller says which groups
are odd: on each tensor they must act as on a weight or bias of a plain linear map. Nothing here
checks that, nor does it reach the units of families; `Rescaling` does, for one element.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from wsl.params import Params
from wsl.symmetry.elements.batch import PermutationBatch
from wsl.symmetry.spec import PermutationSpec, Segment, SpecError


@dataclasses.dataclass(frozen=True, eq=False)
class SignedBatch:
    """``permutations``, then ``signs``: -1 or 1, of shape (rows, size), by the name of their
    group.
    """

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
        return cls(
            permutations,
            {
                name: 1.0 - 2 * torch.randint(2, (rows, spec.groups[name]), generator=generator)
                for name in odd
            },
        )

    def __len__(self) -> int:
        return len(self.permutations)

    def __getitem__(self, rows: Tensor | slice) -> SignedBatch:
        """The elements of some rows."""
        return SignedBatch(
            self.permutations[rows], {name: signs[rows] for name, signs in self.signs.items()}
        )

    def __call__(self, params: Mapping[str, Tensor]) -> Params:
        """Act on weights (rows, *shape), on any device; raises `SpecError` if the numbers of rows
        differ.
        """
        return flip_signs(self.permutations.spec, self.permutations(params), self.signs)


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
    """The action of ``signs`` (batch, units), given by group, on tensors (batch, *shape, ...); its
    own inverse.
    """
    moved = dict(params)
    for group, factors in signs.items():
        for tensor, axis in dict.fromkeys((o.tensor, o.axis) for o in spec.occurrences(group)):
            parts = [
                _segment_signs(spec, segment, group, factors) for segment in spec.axes[tensor][axis]
            ]
            factor = torch.cat(parts, 1).to(moved[tensor], non_blocking=True)
            shape = [1] * (moved[tensor].dim() - 1)
            shape[axis] = -1
            moved[tensor] = moved[tensor] * factor.view(len(factor), *shape)
    return moved


def _segment_signs(spec: PermutationSpec, segment: Segment, group: str, signs: Tensor) -> Tensor:
    sizes = [spec.segment_size((atom,)) for atom in segment]
    factor = signs.new_ones(len(signs), *sizes)
    for k, atom in enumerate(segment):
        if atom == group:
            factor = factor * signs.view(
                len(signs), *(n if i == k else 1 for i, n in enumerate(sizes))
            )
    return factor.flatten(1)
