"""`CircuitMatching`: transformers, whose heads allow more than being permuted.

    minimise over g   |theta_a - g theta_b|^2,      g = m p,  p permutations, m matrices of units

by turns: the heads by their circuits (`heads`) with the best matrix inside each, orthogonal or
general, or under rotary positions one complex number for each pair of positions (`gauges`); then
an orthogonal map of the residual stream, where the specification has one (`folded`); last all
permutations by weight matching. Theus et al. (2025), arXiv 2506.22712; heads by circuits: arXiv
2606.17830, Verma & Elbayad (2024).

It starts from the tensors that have no heads, since circuits can only be compared in a stream that
stands where that of a does. Guarantees: a step is kept only if the distance falls, so it never
rises from sweep to sweep, and is never above that of standing still. Without matrices in the
specification it is `WeightMatching`. Scales and signs of single units are not matched; a global
optimum is not promised.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from wsl.matching.result import Match
from wsl.matching.solvers.gauges import (
    Grams,
    centred_procrustes,
    general,
    phases,
    procrustes,
    stretched_phases,
)
from wsl.matching.solvers.heads import (
    Ends,
    HeadBlock,
    Networks,
    ends,
    head_blocks,
    matched_heads,
    turning,
)
from wsl.matching.solvers.sums import squared_distance, squared_norm
from wsl.matching.solvers.weight import WeightMatching, aligned_tensors
from wsl.params import Params
from wsl.symmetry import (
    Axes,
    LinearMaps,
    Permutation,
    PermutationSpec,
    Rescaling,
    SymmetryElement,
    UnitSymmetry,
    centred_basis,
    heads_of,
    mixing,
)

Gauge = Literal["orthogonal", "general"]
_SMALLEST_GAIN = 1e-7
"""A sweep that lowers the distance by less than this share of the norms is the last one."""


@dataclasses.dataclass(frozen=True)
class CircuitMatching:
    """Heads by circuits, matrices in closed form, everything else by weight matching.

    gauge: "orthogonal" keeps all lengths; "general" takes any invertible matrix inside a head, and
    rotations that stretch.
    max_sweeps: rounds over all kinds of steps.
    weights: how permutations are matched, and which tensors are left out.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"weights"})
    searches: ClassVar[frozenset[str]] = frozenset(
        {"permutation", "linear", "rotation", "orthogonal"}
    )
    many: ClassVar[bool] = False

    gauge: Gauge = "orthogonal"
    max_sweeps: int = 20
    weights: WeightMatching = dataclasses.field(default_factory=WeightMatching)

    def __post_init__(self) -> None:
        if self.max_sweeps < 1:
            raise ValueError(
                f"CircuitMatching: max_sweeps is {self.max_sweeps}, but at least one is needed"
            )
        if self.gauge not in get_args(Gauge):
            raise ValueError(
                f"CircuitMatching: gauge is '{self.gauge}'; it must be 'orthogonal' or 'general'"
            )

    @torch.no_grad()
    def solve(
        self, spec: PermutationSpec, a: Mapping[str, Tensor], b: Mapping[str, Tensor], /
    ) -> Match:
        """The element that brings ``b`` to ``a``; see `wsl.match`, which checks its inputs first.

        The objective is (|a|^2 + |b|^2 - |a - g.b|^2) / 2 over the tensors that are matched, which
        is <a, g.b> where g keeps lengths. The element is a `SymmetryElement` of the specification
        without scales, signs and phases. Raises `SpecError` where two matrices act at one place.
        """
        start = time.perf_counter()
        if not mixing(spec):
            return self.weights.solve(spec, a, b)
        walk = Walk(dataclasses.replace(spec, units=mixing(spec)), (a, b), self)
        walk.begin()
        trace, converged = self._swept(walk)
        element = walk.best()
        return Match(
            Permutation(spec, element.permutation.indices),
            walk.value_of(element(b)),
            len(trace),
            converged,
            element=element,
            trace=torch.tensor(trace, dtype=torch.float64).clamp_min(walk.still),
            seconds={"total": time.perf_counter() - start},
        )

    def _swept(self, walk: Walk) -> tuple[list[float], bool]:
        """The objective after each sweep, and whether the last one gained nothing any more."""
        trace: list[float] = []
        for _ in range(self.max_sweeps):
            before = walk.value
            walk.sweep()
            trace.append(walk.value)
            if walk.value - before <= _SMALLEST_GAIN * walk.norms:
                return trace, True
        return trace, False


class Walk:
    """Where b stands, and the element that brought it there.

    value: (|a|^2 + |b|^2 - |a - g.b|^2) / 2, in float64. norms: |a|^2 + |b|^2.
    """

    def __init__(
        self,
        spec: PermutationSpec,
        pair: tuple[Mapping[str, Tensor], Mapping[str, Tensor]],
        matcher: CircuitMatching,
    ) -> None:
        self.spec, self.matcher, self.a = spec, matcher, pair[0]
        self.b: Params = {name: t.to(self.a[name].device) for name, t in pair[1].items()}
        self.names = aligned_tensors(self.a, matcher.weights.ignore)
        self.blocks = head_blocks(spec)
        self.alone = _alone(spec, self.blocks)
        self.norms = sum(squared_norm(theta, self.names) for theta in (self.a, self.b))
        self.element = SymmetryElement.identity(spec)
        self.still = self.value = self.value_of(self.b)

    def value_of(self, theta: Mapping[str, Tensor]) -> float:
        """The objective if b stood there."""
        return (self.norms - squared_distance(self.a, theta, self.names)) / 2

    def best(self) -> SymmetryElement:
        """The element found, or the identity where that is no worse."""
        found = self.value > self.still
        return self.element if found else SymmetryElement.identity(self.spec)

    def begin(self) -> None:
        """Bring to a what can be compared before any head: first what nothing else acts on.

        It may cost distance elsewhere, so it is kept until all else has followed.
        """
        groups = {name: _groups(axes) for name, axes in self.spec.annotations}
        for unit in self.alone:
            names = frozenset(name for name in self.names if groups[name] == {unit.group})
            if any(place.tensor in names for place in unit.places):
                self._step(self._maps((unit,), names))
        heads = self._groups_of_heads()
        outside = [name for name in self.names if groups[name] and not groups[name] & heads]
        if outside:
            self._step(self._permuting(self._matched_on(outside)))

    def _groups_of_heads(self) -> set[str]:
        """The groups that the blocks match, with the families inside them."""
        heads = {name for block in self.blocks for name in block.groups}
        return heads | {group.name for group in self.spec.declared if group.per in heads}

    def _matched_on(self, names: Sequence[str]) -> Mapping[str, Tensor]:
        """The indices of weight matching on some tensors alone."""
        part = self.spec.without_units().restrict(names)
        pair = ({name: theta[name] for name in part.axes} for theta in (self.a, self.b))
        return self.matcher.weights.solve(part, *pair).permutation.indices

    def sweep(self) -> None:
        """Heads, then maps of whole streams, then all permutations; each is kept if it gains."""
        for block in self.blocks:
            self._keep_heads(block)
        for unit in self.alone:
            self._keep(self._maps((unit,)))
        weights = dataclasses.replace(self.matcher.weights, anchored=False)
        found = weights.solve(self.spec.without_units(), self.a, self.b).permutation
        self._keep(self._permuting(found.indices))

    def _keep_heads(self, block: HeadBlock) -> None:
        """Move the heads with the best maps inside them; the maps alone where that loses."""
        moved = self._permuting(matched_heads(self.spec, block, (self.a, self.b)))
        inside = self._maps(block.units, theta=moved(self.b))
        if not self._keep(inside @ moved):
            self._keep(self._maps(block.units))

    def _keep(self, step: SymmetryElement) -> bool:
        """Make the step if it gains, and say so."""
        moved = step(self.b)
        value = self.value_of(moved)
        if value > self.value:
            self.b, self.value, self.element = moved, value, step @ self.element
            return True
        return False

    def _step(self, step: SymmetryElement) -> None:
        self.b, self.element = step(self.b), step @ self.element
        self.value = self.value_of(self.b)

    def _permuting(self, indices: Mapping[str, Tensor]) -> SymmetryElement:
        still = Permutation.identity(self.spec).indices
        moved = {name: index.cpu() for name, index in indices.items()}
        permutation = Permutation(self.spec, {**still, **moved})
        return SymmetryElement(permutation, Rescaling.identity(self.spec))

    def _maps(
        self,
        units: Sequence[UnitSymmetry],
        names: frozenset[str] | None = None,
        *,
        theta: Mapping[str, Tensor] | None = None,
    ) -> SymmetryElement:
        """The best matrices of some units, each alone, as seen on the tensors ``names``."""
        pair = (self.a, self.b if theta is None else theta)
        values = list(LinearMaps.identity(self.spec).values)
        for i, unit in enumerate(self.spec.units):
            if unit in units:
                value = self._best_map(unit, pair, names)
                values[i] = value.reshape(values[i].shape).cpu().to(values[i].dtype)
        one = Permutation.identity(self.spec), Rescaling.identity(self.spec)
        return SymmetryElement(*one, LinearMaps(self.spec, tuple(values)))

    def _best_map(self, unit: UnitSymmetry, pair: Networks, names: frozenset[str] | None) -> Tensor:
        mine, theirs = (ends(self.spec, unit, theta, names=names) for theta in pair)
        return best_map(unit, mine, theirs, gauge=self.matcher.gauge)


def best_map(unit: UnitSymmetry, mine: Ends, theirs: Ends, *, gauge: Gauge) -> Tensor:
    """The matrices (heads, n, n), or numbers (heads, n / 2), that bring ``theirs`` to ``mine``."""
    x, y = ((p, q.to(p)) for p, q in zip(mine, theirs, strict=True))
    if unit.kind == "rotation":
        return best_rotation(unit, x, y, gauge=gauge)
    grams = Grams.of(*((_columns(p), _columns(q)) for p, q in (x, y)))
    if unit.kind == "linear" and gauge == "general":
        return general(grams)
    products = grams.x + grams.y
    if unit.kind == "orthogonal" and unit.form:
        return centred_procrustes(products, centred_basis(products.shape[-1]).to(products))
    return procrustes(products)


def _columns(end: Tensor) -> Tensor:
    """The columns of all members of a head beside each other."""
    return end.transpose(1, 2).flatten(2)


def best_rotation(
    unit: UnitSymmetry, queries: Ends, keys: Ends, *, gauge: Gauge = "orthogonal"
) -> Tensor:
    """The numbers c (heads, n / 2) of pairs (a, b) of queries, and of keys.

    Each is (heads, members, n, columns); members and columns of one head are summed over.
    """
    both = [[turning(unit, end.double()) for end in pair] for pair in (queries, keys)]
    products = [(a * b.conj()).sum((1, 3)) for a, b in both]
    if gauge == "orthogonal":
        return phases(products[0] + products[1])
    sizes = [b.abs().square().sum((1, 3)) for _, b in both]
    return stretched_phases(products, sizes)


def _alone(spec: PermutationSpec, blocks: Sequence[HeadBlock]) -> tuple[UnitSymmetry, ...]:
    """The maps that belong to no head, such as that of a residual stream."""
    inside = {unit for block in blocks for unit in block.units}
    return tuple(u for u in spec.units if u not in inside and heads_of(spec, u) is None)


def _groups(axes: Axes) -> set[str]:
    return {atom for axis in axes for term in axis for atom in term if isinstance(atom, str)}
