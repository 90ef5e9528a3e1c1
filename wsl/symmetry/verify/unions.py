"""Does each group hang together, or is it the union of two that could move apart?

A union keeps the function as well, and untying a single occurrence breaks it all the same, since
the occurrence belongs to one of the two parts. Only pairs of occurrences show the difference. Let t
be a transposition of two units, and t_a the same exchange at the occurrence a alone. The weights
theta' are made equal in these two units everywhere but at a and b. Then

    f(t_a theta') != f(theta')    only if a and b have to move together.

For if they did not, t_a would amount to exchanging the units in all of a's part: what else belongs
to that part is the same before and after. Pairs that are found join the occurrences to parts, and
the group hangs together if one part is left. A pair that is found is certain; a pair that shows
only where three tensors are asymmetric at once is missed, so parts that are reported are to be
looked at.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from wsl.symmetry.elements import Permutation
from wsl.symmetry.spec import Occurrence, PermutationSpec
from wsl.symmetry.verify.calls import Example
from wsl.symmetry.verify.controls import BROKEN, sharing
from wsl.symmetry.verify.function import Function
from wsl.symmetry.verify.moves import Moves, moved, moves_of
from wsl.symmetry.verify.untie import untied

Parts = tuple[tuple[Occurrence, ...], ...]
Shared = frozenset[Occurrence]
"""One occurrence under all names of its tensor."""


def apart(
    f: Function, spec: PermutationSpec, example: Example, *, generator: torch.Generator
) -> dict[str, Parts]:
    """The groups whose occurrences fall into several parts of two or more, with those parts.

    An occurrence that needs no tie at all is left to `loose`.
    """
    found: dict[str, Parts] = {}
    for name in (name for name, size in spec.groups.items() if size > 1):
        tied = [
            part for part in _parts(f, spec, example, name=name, generator=generator) if part[1:]
        ]
        if len(tied) > 1:
            found[name] = tuple(tuple(min(shared) for shared in part) for part in tied)
    return found


def _parts(
    f: Function, spec: PermutationSpec, example: Example, *, name: str, generator: torch.Generator
) -> list[list[Shared]]:
    """Occurrences of one group, joined where two have to move together.

    Two draws of weights and transposition are tried: one may be blind by a unit that is dead.
    """
    parts = [[shared] for shared in dict.fromkeys(sharing(f, o) for o in spec.occurrences(name))]
    for _ in range(2):
        f.randomize(generator, example)
        pairs = _Pairs(f, example, _exchanges(f, spec, name, generator=generator))
        parts = _joined(parts, pairs.tied)
        pairs.put_back()
    return parts


def _joined(
    parts: list[list[Shared]], tied: Callable[[Shared, Shared], bool]
) -> list[list[Shared]]:
    """Connected components, asking about pairs in different parts only."""
    parts, components = list(parts), []
    while parts:
        component = parts.pop(0)
        for a in component:  # it grows while it is walked over
            for other in [part for part in parts if any(tied(a, b) for b in part)]:
                parts.remove(other)
                component.extend(other)
        components.append(component)
    return components


def _exchanges(
    f: Function, spec: PermutationSpec, name: str, *, generator: torch.Generator
) -> dict[Shared, Moves]:
    """A transposition of the group at each single occurrence, where all others stand still."""
    identity = Permutation.identity(spec)
    index = _transposition(identity.indices[name], generator)
    alone = {name: Permutation(spec, {**identity.indices, name: index})}
    every = frozenset(spec.occurrences(name))
    return {
        shared: moves_of(untied(spec, alone, every - shared) if every - shared else alone[name])
        for shared in dict.fromkeys(sharing(f, o) for o in spec.occurrences(name))
    }


def _transposition(identity: Tensor, generator: torch.Generator) -> Tensor:
    """Two random units exchanged; of a family, two in each member."""
    index = identity.clone()
    for row in index.view(-1, identity.shape[-1]):
        i, j = torch.randperm(len(row), generator=generator)[:2].tolist()
        row[[i, j]] = row[[j, i]]
    return index


class _Pairs:
    """Asks whether two occurrences have to move together, at the present weights."""

    def __init__(self, f: Function, example: Example, exchanges: dict[Shared, Moves]) -> None:
        self.f, self.example, self.exchanges = f, example, exchanges
        self.kept = {
            name: f.state[name].detach().clone() for moves in exchanges.values() for name in moves
        }

    def tied(self, a: Shared, b: Shared) -> bool:
        self.put_back()
        self._symmetrize(moves for c, moves in self.exchanges.items() if c not in (a, b))
        return (
            BROKEN < self.f.error(self.example, self.exchanges[a], self.f(self.example)) < math.inf
        )

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
