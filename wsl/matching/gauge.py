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

Order of a merge: match, then this with ``one_sided=False``, then the average, then repair. It is
not a matcher: permutations stay as they are. A step that does not bring the two closer is not
taken, so the result is a local minimum. Phases stay as they are, linear maps too (`linear`), and so
does a gain that nothing but a running variance pays for: measuring it anew would undo that.
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
    one_sided: bool = True,
    sweeps: int = 100,
    tolerance: float = 1e-12,
) -> Rescaling:
    """The rescaling that brings ``b`` closest to ``a``: ``align_scales(spec, a, b)(b)``.

    spec: with its unit symmetries, as `wsl.symmetry.symmetry_spec` finds them; without any, the
    identity. a, b: one checkpoint each, already in the same order of units.
    norms: give b's units the norms of a's, as far as scales can, instead of the least distance.
        Where a and b agree little, the least distance says nothing of a: it is where b's own
        incoming and outgoing weights are small.
    one_sided: also scales that nothing pays for, such as those of weights before a batch norm.
        Before the average of trained networks leave them out: it was better where it was measured.
    sweeps: at most so many passes over the symmetries; it ends when one gains less than
    ``tolerance`` of the distance that was there. Raises `SpecError` when weights do not fit the
    specification, ValueError when one is NaN or infinite.
    """
    for params, which in ((a, "a"), (b, "b")):
        check_single(spec, params, which=which)
    solved = [_Solved(spec, i, unit, norms=norms) for i, unit in _learned(spec)]
    solved = [each for each in solved if one_sided or each.two_sided or each.unit.kind == "sign"]
    weights = _doubled(spec, a), _doubled(spec, b)
    distances = [_distance(*weights)]
    for sweep in range(sweeps):
        for each in solved:
            each.visit(*weights)
        distances.append(_distance(*weights))
        # Steps that make norms equal may lead away, so what counts is whether they still move.
        if sweep and abs(distances[-2] - distances[-1]) <= tolerance * distances[0]:
            break
    return _element(spec, solved)


def _element(spec: PermutationSpec, solved: Sequence[_Solved]) -> Rescaling:
    values = list(Rescaling.identity(spec).values)
    for each in solved:
        values[each.number] = each.factor.cpu().view_as(values[each.number])
    return Rescaling(spec, tuple(values))


def check_single(
    spec: PermutationSpec, params: Mapping[str, Tensor], *, which: str, who: str = "align_scales"
) -> None:
    """Raise `SpecError` for weights with batch axes, ValueError for NaN or infinite ones."""
    if lead := spec.validate(params):
        raise SpecError(
            f"{which}: has batch axes {tuple(lead)}, but {who} takes one checkpoint; "
            "index or unstack it first"
        )
    check_finite(params, which)


def _learned(spec: PermutationSpec) -> list[tuple[int, UnitSymmetry]]:
    """The symmetries that are solved for, each with its place among the values of a `Rescaling`."""
    acting = [unit for unit in spec.units if not unit.mixes]
    return [
        (i, unit)
        for i, unit in enumerate(acting)
        if unit.kind != "phase" and any(map(_counts, unit.places)) and not _undone(unit)
    ]


class _Solved:
    """One symmetry: its value is solved for, and b's weights are moved, in its own tensors alone.

    ``number`` is its place among the values of a `Rescaling`, ``factor`` (units,) what was found.
    """

    def __init__(
        self, spec: PermutationSpec, number: int, unit: UnitSymmetry, *, norms: bool
    ) -> None:
        self.number, self.unit = number, unit
        self.places = [(place, unit_index(spec, place)) for place in unit.places]
        learned = [place for place in unit.places if _counts(place)]
        self.learned = {place.tensor for place in learned}
        self.two_sided = len({place.exponent > 0 for place in learned}) == 2
        self.closest = self.two_sided and not norms
        # Where no distance pays for a scale, the step is taken whatever it does to it.
        self.free = unit.kind == "scale" and not self.closest
        self.factor = torch.ones(int(self.places[0][1].max()) + 1).double()

    def visit(self, target: Params, moved: Params) -> None:
        """Move ``moved`` by what is best for this symmetry alone, unless that would be farther."""
        factor = self._solution(target, moved)
        fresh = {place.tensor: moved[place.tensor] for place, _ in self.places}
        for place, index in self.places:
            fresh[place.tensor] = _scaled(fresh[place.tensor], place, index, factor=factor)
        if self.free or self._distance(target, fresh) <= self._distance(target, moved):
            moved.update(fresh)
            self.factor = self.factor.to(factor) * factor

    def _distance(self, target: Params, moved: Params) -> float:
        """Over the symmetry's own tensors."""
        return _distance(*({name: each[name] for name in self.learned} for each in (target, moved)))

    def _solution(self, target: Params, moved: Params) -> Tensor:
        terms = _terms(
            [
                _term(place, index, (target[place.tensor], moved[place.tensor]))
                for place, index in self.places
                if _counts(place)
            ]
        )
        if self.unit.kind == "sign":
            return torch.where(terms.both.sum(0) < 0, -1.0, 1.0).double()
        return _closest(terms) if self.closest else _equal_norms(terms)


def _scaled(tensor: Tensor, place: Place, index: Tensor, *, factor: Tensor) -> Tensor:
    """A tensor with the units of a place multiplied by their factors to the place's exponent."""
    index = index.to(tensor.device)
    each = torch.where(index < 0, 1.0, factor[index.clamp(min=0)] ** place.exponent)
    each = each.view([-1 if i == place.axis else 1 for i in range(tensor.dim())])
    return (tensor + place.offset) * each - place.offset if place.offset else tensor * each


class _Terms(NamedTuple):
    """By places: exponents (places, 1), and |a|^2, |b|^2 and <a, b> of each unit, (places, units).

    Places of one exponent are one.
    """

    exponent: Tensor
    target: Tensor
    moved: Tensor
    both: Tensor


def _terms(each: Sequence[tuple[int, Tensor]]) -> _Terms:
    """The sums of places, those of one exponent together."""
    exponents = sorted({exponent for exponent, _ in each})
    sums = [
        torch.stack([found for exponent, found in each if exponent == chosen]).sum(0)
        for chosen in exponents
    ]
    powers = torch.tensor(exponents).to(sums[0]).unsqueeze(1)
    return _Terms(powers, *torch.stack(sums, 1))


def _term(place: Place, index: Tensor, weights: tuple[Tensor, Tensor]) -> tuple[int, Tensor]:
    """A place's exponent, and |a|^2, |b|^2 and <a, b> of each unit, (3, units)."""
    a, b = (tensor + place.offset if place.offset else tensor for tensor in weights)
    products = torch.stack([_by_position(p, q, place.axis) for p, q in ((a, a), (b, b), (a, b))])
    return place.exponent, _by_unit(products, index.to(a.device))


def _by_position(a: Tensor, b: Tensor, axis: int) -> Tensor:
    """Inner products of the slices at each position of an axis."""
    return (a * b).movedim(axis, 0).flatten(1).sum(1) if a.dim() > 1 else a * b


def _by_unit(products: Tensor, index: Tensor) -> Tensor:
    """Sums over the positions of each unit; ``index`` says whose each is, -1 none's."""
    here, units = index >= 0, int(index.max()) + 1
    return products.new_zeros(len(products), units).index_add(1, index[here], products[:, here])


def _closest(terms: _Terms) -> Tensor:
    """The factor of each unit with the least distance: Newton from the best of a grid."""
    u = _start(terms)
    for _ in range(_STEPS):
        tried = u + _newton(terms, u).clamp(-0.1, 0.1)
        lower = _height(terms, tried) <= _height(terms, u)
        still = torch.equal(torch.where(lower, tried, u), u)
        u = torch.where(lower, tried, u)
        if still:
            break
    stays = _height(terms, torch.zeros_like(u)) <= _height(terms, u)
    return torch.where(stays, 0.0, u).exp()


def _start(terms: _Terms) -> Tensor:
    """Where on a grid of log d the distance of each unit is least."""
    grid = torch.linspace(-_WIDEST, _WIDEST, _STARTS).to(terms.both)
    return grid[_height(terms, grid.view(-1, 1, 1)).argmin(0)]


def _newton(terms: _Terms, u: Tensor) -> Tensor:
    """The step downhill: - slope / |bend|."""
    e = terms.exponent
    once, twice = terms.both * (e * u).exp(), terms.moved * (2 * e * u).exp()
    slope = (2 * e * (twice - once)).sum(0)
    bend = (2 * e.square() * (2 * twice - once)).sum(0)
    return -slope / bend.abs().clamp(min=1e-300)


def _height(terms: _Terms, u: Tensor) -> Tensor:
    """The squared distance of each unit at factor exp(u), but for a constant.

    u is (units,), or (points, 1, 1) for the same points at all units: (points, units).
    """
    factor = (terms.exponent * u).exp()
    return (terms.moved * factor.square() - 2 * terms.both * factor).sum(-2)


def _equal_norms(terms: _Terms) -> Tensor:
    """The factor with which b's units are closest to a's in the logarithm of their norms.

    Weights of one exponent count as one vector; those that are zero in either do not count.
    """
    alive = (terms.target > 0) & (terms.moved > 0)
    a, b = (torch.where(alive, each, 1.0) for each in (terms.target, terms.moved))
    total = (terms.exponent * (a.log() - b.log()) / 2).sum(0)
    weight = (terms.exponent.square() * alive).sum(0)
    return (total / weight.clamp(min=1.0)).exp()


def _undone(unit: UnitSymmetry) -> bool:
    """Whether measuring batch-norm statistics anew would undo it: it scales a variance, but not
    what the variance is of.
    """
    names = {place.tensor for place in unit.places}
    mean, variance, _ = BATCH_NORM_BUFFERS
    prefixes = [name.removesuffix(variance) for name in names if name.endswith(variance)]
    return any(prefix + mean not in names for prefix in prefixes)


def _counts(place: Place) -> bool:
    """Whether a place is learned: what batch norm measures follows, and is not brought closer."""
    return not is_running_statistic(place.tensor)


def _doubled(spec: PermutationSpec, params: Mapping[str, Tensor]) -> Params:
    return {
        name: params[name].double() if params[name].is_floating_point() else params[name]
        for name in spec.axes
    }


def _distance(a: Params, b: Params) -> float:
    kept = [n for n in a if not is_running_statistic(n)]
    return float(sum((a[n] - b[n]).square().sum() for n in kept if a[n].is_floating_point()))
