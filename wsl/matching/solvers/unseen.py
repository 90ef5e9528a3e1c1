"""The blocks that a matcher has left open, by weight matching with all others as they were found.

g = h (g_found),    h = argmax_h <W_a, h.g_found.W_b>    over the groups that are open
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from wsl.matching.solvers.weight import WeightMatching
from wsl.symmetry import Axis, Permutation, PermutationSpec, normal_axis


def complete(
    spec: PermutationSpec,
    pair: tuple[Mapping[str, Tensor], Mapping[str, Tensor]],
    found: Mapping[str, Tensor],
) -> Permutation:
    """The element with the indices ``found`` and, for all other groups, those of the weights.

    ``pair`` are the weights of the reference and of the network that is to be moved.
    """
    still = Permutation.identity(spec).indices
    partial = Permutation(spec, {**still, **found})
    rest = without(spec, found)
    if not rest.groups:
        return partial
    a, b = pair
    matched = WeightMatching(seed=None).solve(rest, a, partial(b)).permutation
    assert isinstance(matched, Permutation)
    own = {name: matched.indices[name].to(still[name].device) for name in rest.groups}
    return Permutation(spec, {**still, **own}) @ partial


def without(spec: PermutationSpec, groups: Mapping[str, object]) -> PermutationSpec:
    """The specification with some groups fixed."""
    sizes = spec.groups

    def fixed(axis: Axis) -> Axis:
        return normal_axis(
            [tuple(sizes[str(a)] if a in groups else a for a in segment) for segment in axis]
        )

    return PermutationSpec(
        tuple(group for group in spec.declared if group.name not in groups),
        tuple((name, tuple(map(fixed, axes))) for name, axes in spec.annotations),
    )
