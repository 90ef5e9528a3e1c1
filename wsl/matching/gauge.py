"""The gauge before an average: bring the scales and signs of b's units to those of a's.

    r = argmin_r |a - r.b|^2      over the scales and signs that the specification declares

Two networks that compute nearly the same may differ by factors that change neither, and their mean
would be of unequal things. For a unit with factor d on what enters and 1/d on what leaves it is the
root of a quartic,

    d^4 |b_in|^2 - d^3 <a, b>_in + d <a, b>_out - |b_out|^2 = 0

which has several places per unit and other exponents in general: the summed squared distance is
minimised in log d, for all units of a group at once, by Newton's method from the best of a grid.
A sign is that of <a, b>. Groups share tensors, so they are visited in turn until nothing is gained.
Before a batch norm the scale is free: no place pays for it, and the closest scale would be zero
where a and b do not agree. There b's units get the norm of a's, so that directions are averaged,
and with ``norms`` they do so everywhere.

Order of a merge: match, then this, then the average, then repair. It is not a matcher: permutations
stay as they are. A step that does not bring the two closer is not taken, so the result is a local
minimum. Phases and linear maps stay as they are, and so does a gain that nothing but a running
variance pays for: measuring the variance anew would undo that.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from wsl.matching.problem import check_finite
from wsl.params import BATCH_NORM_BUFFERS, Params, is_running_statistic
from wsl.symmetry import PermutationSpec, Place, Rescaling, SpecError, UnitSymmetry, unit_index

_WIDEST, _STARTS, _STEPS = math.log(1e4), 81, 30


@torch.no_grad()
def align_scales(
    spec: PermutationSpec,
    a: Mapping[str, Tensor],
    b: Mapping[str, Tensor],
    *,
    norms: bool = False,
    sweeps: int = 100,
    tolerance: float = 1e-12,
) -> Rescaling:
    """The rescaling that brings ``b`` closest to ``a``: ``align_scales(spec, a, b)(b)``.

    spec: with its unit symmetries, as `wsl.symmetry.symmetry_spec` finds them; without any, the
    identity. a, b: one checkpoint each, already in the same order of units.
    norms: give b's units the norms of a's, as far as scales can, instead of the least distance.
        Where a and b agree little, the least distance says nothing of a: it is where b's own
        incoming and outgoing weights are small.
    sweeps: at most so many passes over the symmetries; it ends when one gains less than
    ``tolerance`` of the distance that was there. Raises `SpecError` when weights do not fit the
    specification, ValueError when one is NaN or infinite.
    """
    _check(spec, a, "a")
    _check(spec, b, "b")
    found = Rescaling.identity(spec)
    target, moved = _doubled(spec, a), _doubled(spec, b)
    start = before = _distance(target, moved)
    for sweep in range(sweeps):
        for number in range(len(found.values)):
            found, moved = _visited(number, found, (target, moved), norms=norms)
        after = _distance(target, moved)
        # Steps that make norms equal may lead away, so what counts is whether they still move.
        if sweep and abs(before - after) <= tolerance * start:
            break
        before = after
    return found


def _check(spec: PermutationSpec, params: Mapping[str, Tensor], which: str) -> None:
    if lead := spec.validate(params):
        raise SpecError(
            f"{which}: has batch axes {tuple(lead)}, but align_scales takes one checkpoint; "
            "index or unstack it first"
        )
    check_finite(params, which)


def _visited(
    number: int, found: Rescaling, weights: tuple[Params, Params], *, norms: bool
) -> tuple[Rescaling, Params]:
    """The element and b's weights after one symmetry was solved for; as before if that is worse."""
    target, moved = weights
    unit = _acting(found.spec)[number]
    if unit.kind == "phase" or not any(map(_counts, unit.places)) or _undone(unit):
        return found, moved
    step = _alone(found.spec, number, _solved(found.spec, unit, weights, norms=norms))
    closer = step(moved)
    if not _is_free(unit, norms) and _distance(target, closer) > _distance(target, moved):
        return found, moved
    return step @ found, closer


def _is_free(unit: UnitSymmetry, norms: bool) -> bool:
    """Whether the step is taken whatever it does to the distance."""
    return unit.kind == "scale" and (norms or not _two_sided(unit))


def _alone(spec: PermutationSpec, number: int, values: Tensor) -> Rescaling:
    """The rescaling by one symmetry, with 1 for all others."""
    each = list(Rescaling.identity(spec).values)
    each[number] = values.view(each[number].shape).to(each[number])
    return Rescaling(spec, tuple(each))


def _solved(
    spec: PermutationSpec, unit: UnitSymmetry, weights: tuple[Params, Params], *, norms: bool
) -> Tensor:
    """The value of each unit, (units,)."""
    terms = [_term(spec, place, *weights) for place in unit.places if _counts(place)]
    if unit.kind == "sign":
        return torch.where(torch.stack([t.both for t in terms]).sum(0) < 0, -1.0, 1.0)
    return _closest(terms) if _two_sided(unit) and not norms else _equal_norms(terms)


class _Term(NamedTuple):
    """At one place: its exponent, and |a|^2, |b|^2 and <a, b> of each unit."""

    exponent: int
    target: Tensor
    moved: Tensor
    both: Tensor


def _term(spec: PermutationSpec, place: Place, *weights: Params) -> _Term:
    a, b = (params[place.tensor] + place.offset for params in weights)
    products = (a * a, b * b, a * b)
    index = unit_index(spec, place).to(a.device)
    return _Term(place.exponent, *(_by_unit(each, place.axis, index) for each in products))


def _by_unit(products: Tensor, axis: int, index: Tensor) -> Tensor:
    """Sums over the slices of each unit along ``axis``; ``index`` says whose each is, -1 none's."""
    here = index >= 0
    each = products.movedim(axis, 0).reshape(len(index), -1).sum(1)[here]
    return each.new_zeros(int(index.max()) + 1).index_add(0, index[here], each)


def _closest(terms: Sequence[_Term]) -> Tensor:
    """The factor of each unit with the least distance: Newton from the best of a grid."""
    u = _start(terms)
    for _ in range(_STEPS):
        tried = u + _newton(terms, u).clamp(-0.1, 0.1)
        u = torch.where(_height(terms, tried) <= _height(terms, u), tried, u)
    stays = _height(terms, torch.zeros_like(u)) <= _height(terms, u)
    return torch.where(stays, 0.0, u).exp()


def _start(terms: Sequence[_Term]) -> Tensor:
    """Where on a grid of log d the distance of each unit is least."""
    grid = torch.linspace(-_WIDEST, _WIDEST, _STARTS, dtype=torch.float64)
    heights = torch.stack([_height(terms, u) for u in grid.to(terms[0].both.device)])
    return grid.to(heights.device)[heights.argmin(0)]


def _newton(terms: Sequence[_Term], u: Tensor) -> Tensor:
    """The step downhill: - slope / |bend|."""
    slope = sum(2 * t.exponent * _parts(t, u, 1) for t in terms)
    bend = sum(2 * t.exponent**2 * _parts(t, u, 2) for t in terms)
    return -torch.as_tensor(slope) / torch.as_tensor(bend).abs().clamp(min=1e-300)


def _parts(term: _Term, u: Tensor, order: int) -> Tensor:
    """What the derivatives by u share: order |b|^2 s^2e - <a, b> s^e."""
    factor = (term.exponent * u).exp()
    return order * term.moved * factor.square() - term.both * factor


def _height(terms: Sequence[_Term], u: Tensor) -> Tensor:
    """The squared distance of each unit at factor exp(u), but for a constant."""
    total = torch.zeros_like(terms[0].both)
    for term in terms:
        factor = (term.exponent * u).exp()
        total = total + term.moved * factor.square() - 2 * term.both * factor
    return total


def _equal_norms(terms: Sequence[_Term]) -> Tensor:
    """The factor with which b's units are closest to a's in the logarithm of their norms.

    Weights of one exponent count as one vector; those that are zero in either do not count.
    """
    total, weight = [], []
    for exponent in sorted({term.exponent for term in terms}):
        log, alive = _log_ratio([term for term in terms if term.exponent == exponent])
        total.append(exponent * log / 2)
        weight.append(exponent**2 * alive.double())
    return (torch.stack(total).sum(0) / torch.stack(weight).sum(0).clamp(min=1.0)).exp()


def _log_ratio(terms: Sequence[_Term]) -> tuple[Tensor, Tensor]:
    """log |a|^2 / |b|^2 of each unit over some places, and where neither is zero; 0 elsewhere."""
    a = torch.stack([term.target for term in terms]).sum(0)
    b = torch.stack([term.moved for term in terms]).sum(0)
    alive = (a > 0) & (b > 0)
    return torch.where(alive, a, 1.0).log() - torch.where(alive, b, 1.0).log(), alive


def _undone(unit: UnitSymmetry) -> bool:
    """Whether measuring batch-norm statistics anew would undo it: it scales a variance, but not
    what the variance is of.
    """
    names = {place.tensor for place in unit.places}
    mean, variance, _ = BATCH_NORM_BUFFERS
    prefixes = [name.removesuffix(variance) for name in names if name.endswith(variance)]
    return any(prefix + mean not in names for prefix in prefixes)


def _two_sided(unit: UnitSymmetry) -> bool:
    """Whether what one place gains in size another loses."""
    exponents = {place.exponent > 0 for place in unit.places if _counts(place)}
    return len(exponents) == 2


def _counts(place: Place) -> bool:
    """Whether a place is learned: what batch norm measures follows, and is not brought closer."""
    return not is_running_statistic(place.tensor)


def _acting(spec: PermutationSpec) -> list[UnitSymmetry]:
    return [unit for unit in spec.units if unit.kind != "linear"]


def _doubled(spec: PermutationSpec, params: Mapping[str, Tensor]) -> Params:
    return {
        name: params[name].double() if params[name].is_floating_point() else params[name]
        for name in spec.axes
    }


def _distance(a: Params, b: Params) -> float:
    kept = [n for n in a if not is_running_statistic(n)]
    return float(sum((a[n] - b[n]).square().sum() for n in kept if a[n].is_floating_point()))
