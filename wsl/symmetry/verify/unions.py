"""Does each group hang together? A group that is the union of two, which could move apart, keeps
the function all the same.

Untying one occurrence breaks the function even then, since the occurrence belongs to one of the two
parts. So pairs are looked at. For a transposition t of the group, make theta symmetric under t at
every occurrence but two, a and b, and move a alone:

    f(t_a . theta') != f(theta')    only if a and b have to move together

for if a's part did not hold b, all other occurrences of that part would not see t, and moving a
would be moving the whole part. Pairs join the occurrences to parts; the group hangs together if one
part is left. A pair that is found is certain; a pair that shows only with three asymmetric tensors
at once is missed, so parts that are reported are to be looked at.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch

from wsl.symmetry.elements import Permutation
from wsl.symmetry.spec import Occurrence, PermutationSpec
from wsl.symmetry.verify.calls import Example
from wsl.symmetry.verify.controls import BROKEN, sharing
from wsl.symmetry.verify.function import Function
from wsl.symmetry.verify.moves import Moves, moved, moves_of
from wsl.symmetry.verify.untie import untied

Parts = tuple[tuple[Occurrence, ...], ...]
Place = frozenset[Occurrence]
"""One place under all names of its tensor."""


def apart(
    f: Function, spec: PermutationSpec, example: Example, generator: torch.Generator
) -> dict[str, Parts]:
    """The groups whose occurrences fall into several parts of two occurrences or more, with those
    parts.

    An occurrence that needs no tie at all is left to `loose`. Two draws of weights and
    transposition are tried: one may be blind by a unit that is dead.
    """
    found: dict[str, Parts] = {}
    for name in (name for name, size in spec.groups.items() if size > 1):
        parts = [[place] for place in dict.fromkeys(sharing(f, o) for o in spec.occurrences(name))]
        for _ in range(2):
            f.randomize(generator, example)
            pairs = _Pairs(f, example, _steps(f, spec, name, generator))
            parts = _joined(parts, pairs.tied)
            pairs.put_back()
        tied = [part for part in parts if len(part) > 1]
        if len(tied) > 1:
            found[name] = tuple(tuple(min(place) for place in part) for part in tied)
    return found


def _joined(parts: list[list[Place]], tied: Callable[[Place, Place], bool]) -> list[list[Place]]:
    """Connected components, asking about pairs in different parts only; a component grows while it
    is walked over.
    """
    parts, components = list(parts), []
    while parts:
        component = parts.pop(0)
        for a in component:
            for other in [part for part in parts if any(tied(a, b) for b in part)]:
                parts.remove(other)
                component.extend(other)
        components.append(component)
    return components


def _steps(
    f: Function, spec: PermutationSpec, name: str, generator: torch.Generator
) -> dict[Place, Moves]:
    """A transposition of the group at each single place, where all others stand still."""
    identity = Permutation.identity(spec)
    index = identity.indices[name].clone()
    for row in index.view(-1, spec.groups[name]):
        i, j = torch.randperm(len(row), generator=generator)[:2].tolist()
        row[[i, j]] = row[[j, i]]
    alone = {name: Permutation(spec, {**identity.indices, name: index})}
    every = frozenset(spec.occurrences(name))
    places = dict.fromkeys(sharing(f, o) for o in spec.occurrences(name))
    return {
        place: moves_of(untied(spec, alone, every - place) if every - place else alone[name])
        for place in places
    }


class _Pairs:
    """Asks whether two places have to move together, at the weights that the function has now."""

    def __init__(self, f: Function, example: Example, steps: dict[Place, Moves]) -> None:
        self.f, self.example, self.steps = f, example, steps
        self.kept = {
            name: f.state[name].detach().clone() for moves in steps.values() for name in moves
        }

    def tied(self, a: Place, b: Place) -> bool:
        self.put_back()
        self._symmetrize(moves for place, moves in self.steps.items() if place not in (a, b))
        return BROKEN < self.f.error(self.example, self.steps[a], self.f(self.example)) < math.inf

    @torch.no_grad()
    def put_back(self) -> None:
        for name, tensor in self.kept.items():
            self.f.state[name].copy_(tensor)

    @torch.no_grad()
    def _symmetrize(self, transpositions: Iterator[Moves]) -> None:
        for moves in transpositions:
            for name, axes in moves.items():
                tensor = self.f.state[name]
                tensor.copy_((tensor + moved(tensor, axes)) / 2)
