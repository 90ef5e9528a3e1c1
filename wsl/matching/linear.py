"""The gauge inside linear maps: bring b's factors to a's by the best invertible matrix.

    M = argmin_M |X_a - M X_b|^2 + |Y_a - M^-T Y_b|^2,      Y_b^T X_b = (M^-T Y_b)^T (M X_b)

Where one linear map meets another with nothing between them, as values and outputs of a head of
attention, a linear bottleneck, low-rank factors, or a stream without nonlinearity, only their
product is seen, and their means are of unequal things. X are all tensors that write the units, Y
all that read them. The matrix of one symmetry: `solvers.gauges`; symmetries that share tensors are
visited in turn until nothing is gained.

Guarantees: b's function stays; a step that does not bring b closer is not taken; a planted matrix
is undone, if a's factors have full rank. It is a local minimum otherwise. The mean of the products
themselves, which needs no gauge: `wsl.connectivity.average_products`. Rotations, orthogonal maps
and permutations stay as they are: see `CircuitMatching`.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from wsl.matching.gauge import check_single
from wsl.matching.solvers import best_map, ends
from wsl.params import Params
from wsl.symmetry import LinearMaps, PermutationSpec, UnitSymmetry, mixing


@torch.no_grad()
def align_linear(
    spec: PermutationSpec,
    a: Mapping[str, Tensor],
    b: Mapping[str, Tensor],
    *,
    sweeps: int = 20,
    tolerance: float = 1e-9,
) -> LinearMaps:
    """The linear maps that bring ``b`` closest to ``a``: ``align_linear(spec, a, b)(b)``.

    spec: with its unit symmetries, as `wsl.symmetry.symmetry_spec` finds them; without any that are
    linear, the identity. a, b: one checkpoint each, already in the same order of units.
    sweeps: at most so many passes; it ends when one gains less than ``tolerance`` of the distance.
    Raises `SpecError` for weights that do not fit, ValueError for values that are NaN or infinite.
    """
    for params, which in ((a, "a"), (b, "b")):
        check_single(spec, params, which=which, who="align_linear")
    target, moved = _doubled(spec, a), _doubled(spec, b)
    found = LinearMaps.identity(spec)
    for _ in range(sweeps):
        before = _distance(target, moved)
        for number, unit in enumerate(mixing(spec)):
            if unit.kind == "linear":
                found, moved = _visited(number, found, (target, moved), unit=unit)
        if before - _distance(target, moved) <= tolerance * before:
            break
    return found


def _visited(
    number: int, found: LinearMaps, weights: tuple[Params, Params], *, unit: UnitSymmetry
) -> tuple[LinearMaps, Params]:
    """The element and b's weights after one symmetry was solved for; as before if that is worse."""
    target, moved = weights
    mine, theirs = (ends(found.spec, unit, params) for params in weights)
    each = list(LinearMaps.identity(found.spec).values)
    each[number] = best_map(unit, mine, theirs, gauge="general").view(each[number].shape).cpu()
    step = LinearMaps(found.spec, tuple(each))
    closer = step(moved)
    if _distance(target, closer) >= _distance(target, moved):
        return found, moved
    return step @ found, closer


def _doubled(spec: PermutationSpec, params: Mapping[str, Tensor]) -> Params:
    return {name: params[name].double() for name in spec.axes}


def _distance(a: Params, b: Params) -> float:
    return float(sum((a[name] - b[name]).square().sum() for name in a))
