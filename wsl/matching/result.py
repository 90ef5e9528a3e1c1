"""What a matcher is and what it returns: a group element with its evidence."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from wsl.params import Params, stack, unstack
from wsl.symmetry import (
    Permutation,
    PermutationBatch,
    PermutationSpec,
    SignedBatch,
)


@dataclasses.dataclass(frozen=True)
class Match:
    """An element that brings b to a: ``found(b)`` is close to a.

    permutation: the permutation alone; of N stacked checkpoints a `PermutationBatch`.
    objective: sum over the matched tensors of <W_a, element.W_b>, summed in float64; of a matcher
    that knows a loss, minus the loss half way.
    sweeps: passes over all groups that were made.
    converged: no group alone can be improved any more; False means the limit of sweeps came first.
    element: the whole group element, where signs or scales take part; otherwise the permutation.
    trace: the objective after each sweep, float64, to the rounding of the steps' gains.
    seconds: what the matching took: ``total``, and of that ``assignment`` and ``products``. On an
    accelerator products are counted where their results are awaited.
    groups: by the name of a group its share of the objective for each of its units and sites, where
    the matcher can tell: the mean correlation of matched units, for activation matching.
    notes: by the name of a group what is to be known of how it was matched.
    losses: the loss at every step, where the element was trained.

    For N stacked checkpoints objective, sweeps and converged are tensors (N,), ``trace`` is
    (N, sweeps), the values of ``groups`` are (N,), and an element has a row for each checkpoint.
    """

    permutation: Permutation | PermutationBatch
    objective: float | Tensor
    sweeps: int | Tensor
    converged: bool | Tensor
    element: Any = dataclasses.field(default=None, compare=False, repr=False)
    trace: Tensor | None = dataclasses.field(default=None, compare=False, repr=False)
    seconds: Mapping[str, float] = dataclasses.field(default_factory=dict, compare=False)
    groups: Mapping[str, Any] = dataclasses.field(default_factory=dict, compare=False, repr=False)
    notes: Mapping[str, str] = dataclasses.field(default_factory=dict, compare=False)
    losses: Tensor | None = dataclasses.field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.element is None:
            object.__setattr__(self, "element", self.permutation)

    def __call__(self, params: Mapping[str, Tensor]) -> Params:
        """Apply the element to weights like those that were matched."""
        if isinstance(self.element, SignedBatch) and isinstance(self.permutation, Permutation):
            moved = self.element({name: tensor[None] for name, tensor in params.items()})
            return {name: tensor[0] for name, tensor in moved.items()}
        return self.element(params)


class Matcher(Protocol):
    """A method of matching, with its settings; inputs have been checked by `match`.

    needs: what it works from, of "weights", "inputs" and "loss".
    searches: the kinds of group elements among which it looks, such as "permutation", "sign" and
    "scale". The class says what it can search; an instance may search less.
    many: whether ``solve`` takes a stacked ``b`` (N, ...); if not, `match` calls it row by row.
    """

    needs: ClassVar[frozenset[str]]
    searches: ClassVar[frozenset[str]]
    many: ClassVar[bool]

    def solve(
        self, spec: PermutationSpec, a: Mapping[str, Tensor], b: Mapping[str, Tensor], /
    ) -> Match:
        """Find an element that brings ``b`` to ``a``."""
        ...


@dataclasses.dataclass(frozen=True)
class ElementRows:
    """One element of any kind for each row of stacked weights."""

    elements: tuple[Any, ...]

    def __len__(self) -> int:
        return len(self.elements)

    def __getitem__(self, rows: Tensor | slice) -> ElementRows:
        """The elements of some rows."""
        numbers = torch.arange(len(self))[rows].tolist()
        return ElementRows(tuple(self.elements[row] for row in numbers))

    def __call__(self, params: Mapping[str, Tensor]) -> Params:
        """Act on weights (rows, *shape), each row by its own element."""
        rows = zip(self.elements, unstack(params), strict=True)
        return stack([element(theta) for element, theta in rows])


def stack_matches(found: Sequence[Match]) -> Match:
    """The results of N checkpoints as the result of their stack."""
    permutation = PermutationBatch.stack([_one(match.permutation) for match in found])
    plain = all(match.element is match.permutation for match in found)
    return Match(
        permutation,
        _float64([match.objective for match in found]),
        torch.tensor([match.sweeps for match in found]),
        torch.tensor([match.converged for match in found]),
        element=None if plain else ElementRows(tuple(map(_acting, found))),
        trace=_stacked_traces([match.trace for match in found]),
        seconds=_added([match.seconds for match in found]),
        groups={name: _float64([m.groups[name] for m in found]) for name in found[0].groups},
        notes={name: note for match in found for name, note in match.notes.items()},
    )


def _float64(values: Sequence[Any]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def _added(seconds: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The sum of each entry over the checkpoints, of which some may lack it."""
    keys = dict.fromkeys(key for each in seconds for key in each)
    return {key: sum(each.get(key, 0.0) for each in seconds) for key in keys}


def _one(permutation: Permutation | PermutationBatch) -> Permutation:
    if isinstance(permutation, Permutation):
        return permutation
    raise TypeError("only results of single checkpoints can be stacked")


def _acting(match: Match) -> Any:
    """What moves the weights: a signed element of one checkpoint acts through its match."""
    return match if isinstance(match.element, SignedBatch) else match.element


def _stacked_traces(traces: Sequence[Tensor | None]) -> Tensor | None:
    """(N, longest), each row continued with its last value."""
    known = [trace for trace in traces if trace is not None and len(trace)]
    if len(known) < len(traces):
        return None
    longest = max(len(trace) for trace in known)
    return torch.stack([torch.cat([t, t[-1:].expand(longest - len(t))]) for t in known])
