"""Checkpoints with rotary positions out of core: heads by circuits, phases in closed form.

    1   p <- weight matching on the tensors that no rotation touches
    2   heads by circuits that no phase changes, layer by layer (`solvers.heads`):
            QK_f = sum of q_f k_f^* for each frequency,   OV = O V,   compared by n x n products
    3   c_f = S_f / |S_f|,  S_f = sum q_a q_b^* + sum k_a k_b^*      for each head of keys
    4   p <- weight matching on everything, from where p is, with c applied as b is read

Steps 3 and 4 are repeated until no unit moves. Where step 2 disagrees with step 1 both are followed
and the better end is taken. Verma & Elbayad (2024); heads of rotary networks: arXiv 2606.17830.

Guarantees: no repetition lowers the objective, and its end is never below that of standing still.
In memory are one layer's queries, keys, values and outputs of both at a time, and the scores. Not
done: matrices on units other than rotations, which stand still; rotations that stretch.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Collection
from types import EllipsisType
from typing import NamedTuple

import torch
from torch import Tensor

from wsl.matching.blocks import MatchingPlan, plan
from wsl.matching.large.files import Source, TensorSlices, structure
from wsl.matching.large.moves import Element, Turn, moved_tensor, own_move, turned, turning_of
from wsl.matching.large.weights import StreamedWeights
from wsl.matching.result import Match
from wsl.matching.solvers import (
    CircuitMatching,
    HeadBlock,
    WeightMatching,
    aligned_tensors,
    best_rotation,
    ends,
    head_blocks,
    matched_heads,
)
from wsl.params import Params
from wsl.symmetry import (
    LinearMaps,
    Permutation,
    PermutationBatch,
    PermutationSpec,
    Place,
    Rescaling,
    SymmetryElement,
    UnitSymmetry,
    window_of,
)


class TurnedTensor:
    """A tensor with matrices on it, in at least float32, turned whenever it is read."""

    def __init__(self, tensor: TensorSlices, turns: list[Turn]) -> None:
        self.tensor, self.turns = tensor, turns
        self.shape, self.dtype = tensor.shape, torch.promote_types(tensor.dtype, torch.float32)

    def __getitem__(self, rows: slice | EllipsisType, /) -> Tensor:
        return turned(self.tensor[...].to(self.dtype), self.turns)[rows]


class _Stand(NamedTuple):
    """Where b stands: permuted, then turned; and what that is worth."""

    permutation: Permutation
    maps: LinearMaps
    value: float
    sweeps: int
    converged: bool


def with_rotations_only(spec: PermutationSpec) -> PermutationSpec:
    """The specification without what else its units allow."""
    units = tuple(unit for unit in spec.units if unit.kind == "rotation")
    return dataclasses.replace(spec, units=units)


def match_phases(spec: PermutationSpec, a: Source, b: Source, *, matcher: CircuitMatching) -> Match:
    """Permutation and phases that bring ``b`` to ``a``; the element is a `SymmetryElement`.

    For specifications with rotations; inputs have been checked by `match_sources`.
    """
    start = time.perf_counter()
    walk = _Phases(with_rotations_only(spec), (a, b), matcher)
    found = walk.best()
    still = Rescaling.identity(walk.spec)
    element = SymmetryElement(found.permutation, still, found.maps)
    return Match(
        Permutation(spec, found.permutation.indices),
        found.value,
        found.sweeps,
        found.converged,
        element=element,
        seconds={"total": time.perf_counter() - start},
    )


class _Phases:
    """The steps of the search over two sources; ``spec`` has rotations and nothing else."""

    def __init__(
        self, spec: PermutationSpec, pair: tuple[Source, Source], matcher: CircuitMatching
    ) -> None:
        self.spec, (self.a, self.b), self.matcher = spec, pair, matcher
        self.names = aligned_tensors(structure(self.a), matcher.weights.ignore)
        self.turned = {place.tensor for unit in spec.units for place in unit.places}

    def best(self) -> _Stand:
        """The better of what follows from the first step and from the heads by circuits."""
        first = self._matched(self.matcher.weights, without=self.turned)
        begin = self._own(first.permutation)
        heads = self._heads(begin)
        starts = [begin] if heads == begin else [begin, heads]
        stands = [self._followed(each, int(first.sweeps)) for each in starts]
        best = max(stands, key=lambda stand: stand.value)
        identity = Permutation.identity(self.spec), LinearMaps.identity(self.spec)
        still = float(StreamedWeights(self._plan(), self.a, self.b).value())
        return best if best.value > still else _Stand(*identity, still, best.sweeps, best.converged)

    def _followed(self, permutation: Permutation, sweeps: int) -> _Stand:
        """Phases, then permutations, until no unit moves."""
        weights = dataclasses.replace(self.matcher.weights, anchored=False)
        identity = Permutation.identity(self.spec)
        maps, value, converged = LinearMaps.identity(self.spec), 0.0, False
        for _ in range(self.matcher.max_sweeps):
            maps = self._phases(permutation)
            found = self._matched(weights, (permutation, maps))
            step = self._own(found.permutation)
            permutation, maps = step @ permutation, maps.permuted(step)
            value, sweeps = float(found.objective), sweeps + int(found.sweeps)
            if converged := step == identity and bool(found.converged):
                break
        return _Stand(permutation, maps, value, sweeps, converged)

    def _matched(
        self,
        weights: WeightMatching,
        stand: tuple[Permutation, LinearMaps] | None = None,
        *,
        without: Collection[str] = (),
    ) -> Match:
        """Weight matching from where b stands; what is found is the step alone."""
        cut, b = self._plan(without), self.b if stand is None else self._turning(*stand)
        streamed = StreamedWeights(cut, self.a, b)
        if stand is not None:
            for name, index in stand[0].indices.items():
                streamed.found.indices[name] = index[None].clone()
        return weights.solve_over(self.spec.without_units(), cut, streamed)

    def _plan(self, without: Collection[str] = ()) -> MatchingPlan:
        names = tuple(name for name in self.names if name not in without)
        return plan(self.spec.without_units(), names)

    def _own(self, permutation: Permutation | PermutationBatch) -> Permutation:
        """The same of the specification with rotations."""
        assert isinstance(permutation, Permutation)
        return Permutation(self.spec, permutation.indices)

    def _turning(self, at: Permutation, maps: LinearMaps) -> Source:
        """b turned as it lies, so that maps are what it has undergone once it is permuted."""
        before = maps.permuted(~at)
        found = dict(self.b)
        for name in self.turned & set(self.names):
            turns = turning_of(before, own_move(name, self.spec.axes[name]))
            found[name] = TurnedTensor(self.b[name], turns) if turns else self.b[name]
        return found

    def _heads(self, at: Permutation) -> Permutation:
        """The permutation after heads are assigned by their circuits."""
        step = dict(Permutation.identity(self.spec).indices)
        for block in head_blocks(self.spec):
            whole = _with_values(self.spec, block)
            names = {place.tensor for unit in whole.units for place in unit.places}
            names |= {place.tensor for place in whole.others}
            found = matched_heads(self.spec, whole, self._read(names, at))
            step |= {name: index.cpu() for name, index in found.items()}
        return Permutation(self.spec, step) @ at

    def _phases(self, at: Permutation) -> LinearMaps:
        """The best phases of all heads where b is permuted."""
        values = list(LinearMaps.identity(self.spec).values)
        for i, unit in enumerate(self.spec.units):
            names = {place.tensor for place in unit.places} & set(self.names)
            if names:
                pair, only = self._read(names, at), frozenset(names)
                mine, theirs = (ends(self.spec, unit, each, names=only) for each in pair)
                queries, keys = zip(mine, theirs, strict=True)
                values[i] = best_rotation(unit, queries, keys).reshape(values[i].shape)
        return LinearMaps(self.spec, tuple(values))

    def _read(self, names: set[str], at: Permutation) -> tuple[Params, Params]:
        """Some tensors of a, and those of b where it stands."""
        mine: dict[str, Tensor] = {name: self.a[name][...] for name in names}
        return mine, {name: _moved(self.b[name], name, element=at) for name in names}


def _moved(tensor: TensorSlices, name: str, *, element: Element) -> Tensor:
    return moved_tensor(tensor, own_move(name, element.spec.axes[name]), element)


def _with_values(spec: PermutationSpec, block: HeadBlock) -> HeadBlock:
    """The block with a circuit for each family inside its heads that only permutations move."""
    mixed = {unit.group for unit in block.units} | {block.members}
    families = [
        group.name
        for group in spec.declared
        if block.group and group.per == block.group and group.name not in mixed
    ]
    units = tuple(_circuit(spec, name, block.members) for name in families)
    return dataclasses.replace(block, units=(*block.units, *units))


def _circuit(spec: PermutationSpec, family: str, members: str | None) -> UnitSymmetry:
    """The units of a family as those of a circuit: what writes them, and what reads them."""
    places = [Place(*each[:4]) for each in spec.occurrences(family)]
    inside = [members is not None and members in window_of(spec, each).atoms for each in places]
    reads = inside if len(set(inside)) == 2 else [place.axis > 0 for place in places]
    turned = [
        place._replace(exponent=-1 if read else 1)
        for place, read in zip(places, reads, strict=True)
    ]
    return UnitSymmetry("linear", family, tuple(turned))


def has_rotations(spec: PermutationSpec) -> bool:
    """Whether units of a specification may be turned by phases."""
    return any(unit.kind == "rotation" for unit in spec.units)
