"""`SymmetryElement`: a permutation and a rescaling, an element of a specification's whole group.

    g = r p, the permutation first
    (r p)(r' p') = (r . p r' p^-1)(p p')
    (r p)^-1     = (p^-1 r^-1 p) p^-1

The semidirect product: permutations carry the values of the units along.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import torch
from torch import Tensor

from wsl.params import Params
from wsl.symmetry.elements.permutation import Permutation
from wsl.symmetry.elements.rescaling import Rescaling
from wsl.symmetry.spec import PermutationSpec, SpecError


@dataclasses.dataclass(frozen=True, eq=False)
class SymmetryElement:
    """A permutation, then a rescaling; both of one specification."""

    permutation: Permutation
    rescaling: Rescaling

    def __post_init__(self) -> None:
        if self.permutation.spec != self.rescaling.spec:
            raise SpecError(
                "the permutation and the rescaling belong to two different specifications"
            )

    @property
    def spec(self) -> PermutationSpec:
        """The specification of both."""
        return self.permutation.spec

    @classmethod
    def identity(cls, spec: PermutationSpec) -> SymmetryElement:
        """The element that changes nothing."""
        return cls(Permutation.identity(spec), Rescaling.identity(spec))

    @classmethod
    def random(
        cls, spec: PermutationSpec, generator: torch.Generator | None = None
    ) -> SymmetryElement:
        """A uniformly random permutation and a `Rescaling.random`."""
        return cls(Permutation.random(spec, generator), Rescaling.random(spec, generator))

    def __call__(self, params: Mapping[str, Tensor]) -> Params:
        """Act on weights; leading axes of the tensors are batch.

        Raises `SpecError` if they do not fit the specification.
        """
        return self.rescaling(self.permutation(params))

    def __matmul__(self, other: SymmetryElement) -> SymmetryElement:
        """The product: ``(g @ h)(theta) == g(h(theta))`` to rounding."""
        moved = other.rescaling.permuted(self.permutation)
        return SymmetryElement(self.permutation @ other.permutation, self.rescaling @ moved)

    def __invert__(self) -> SymmetryElement:
        """The inverse: ``(~g @ g)`` is the identity, to rounding."""
        back = ~self.permutation
        return SymmetryElement(back, (~self.rescaling).permuted(back))
