"""Negative controls: changes that break the function, unless the specification lacks something.

``loose`` moves a group everywhere but at one occurrence. If the function survives, that occurrence
did not need to be tied to the others: the specification is not the largest.

``strict`` exchanges two positions of a fixed axis and does nothing else. If the function survives,
that axis did not need to be fixed: the specification is not the finest.

A control is as strong as the weights drawn. Only positions with a gradient are exchanged: two rows
of an embedding that no input reads can be exchanged without there being a symmetry. That no control
finds anything does not prove that nothing is missing: symmetries that move several fixed axes at
once are not tried.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from wsl.symmetry.elements import Permutation
from wsl.symmetry.spec import Occurrence, PermutationSpec
from wsl.symmetry.verify.calls import Example
from wsl.symmetry.verify.evidence import fixed_places
from wsl.symmetry.verify.function import Function
from wsl.symmetry.verify.moves import Moves, moves_of
from wsl.symmetry.verify.untie import untied

BROKEN = 1e-6
"""A control must change the output by more than this, relatively.

It is far above rounding and far below what one unit does.
"""
_EXCHANGES = 3
"""Pairs of positions that are tried on each fixed axis."""


def loose(
    f: Function,
    spec: PermutationSpec,
    example: Example,
    *,
    alone: Mapping[str, Permutation],
    generator: torch.Generator,
) -> tuple[int, tuple[Occurrence, ...]]:
    """How many occurrences there are, and those that do not need their tie.

    Two draws of the weights are tried, since one may be blind by a unit that is dead. A family
    stands still together with the parent that is untied; two names of one tensor are untied
    together.
    """
    suspects = every = _moving(spec)
    for _ in range(2):
        f.randomize(generator, example)
        reference = f.reference(example)
        moves = {o: moves_of(untied(spec, alone, sharing(f, o))) for o in suspects}
        suspects = [o for o in suspects if f.error(example, moves[o], reference) <= BROKEN]
    return len(every), tuple(suspects)


def _moving(spec: PermutationSpec) -> list[Occurrence]:
    """Where groups stand that hold more than the identity."""
    moving = [name for name, size in spec.groups.items() if size > 1]
    return [o for name in moving for o in spec.occurrences(name)]


def strict(
    f: Function, spec: PermutationSpec, example: Example, *, generator: torch.Generator
) -> tuple[list[Occurrence], list[Occurrence], list[Occurrence]]:
    """Fixed axes that were tried, those where an exchange has no effect, those out of reach.

    Several exchanges are drawn for each; all of them must change the function. An axis is out of
    reach if the output depends on less than two of its positions.
    """
    gradients = f(Example(example.args, example.kwargs, gradients=True)).tensors
    reference = f.reference(example)
    tried, without_effect, unreached = [], [], []
    for o in _candidates(f, spec):
        live = _live(spec, o, gradients.get(o.tensor))
        if len(live) < 2 or not _one_layout(f, o):
            unreached.append(o)
            continue
        tried.append(o)
        exchanges = _exchanges(f, spec, o, live=live, generator=generator)
        if any(f.error(example, move, reference) <= BROKEN for move in exchanges):
            without_effect.append(o)
    return tried, without_effect, unreached


def _candidates(f: Function, spec: PermutationSpec) -> list[Occurrence]:
    """Fixed axes of the weights that the network uses; a tensor with two names counts once."""
    first_names = {names[0] for names in f.memories}
    return [
        o
        for o in fixed_places(spec)
        if o.tensor in first_names
        and f.state[o.tensor].dtype.is_floating_point
        and spec.pinned.get(f"{o.tensor} axis {o.axis}") != "unused"
    ]


def sharing(f: Function, occurrence: Occurrence) -> frozenset[Occurrence]:
    """The occurrence under all names of its memory, since a tensor cannot be untied from itself."""
    own = f.state[occurrence.tensor]
    return frozenset(
        occurrence._replace(tensor=name)
        for name, t in f.state.items()
        if t.data_ptr() == own.data_ptr() and t.shape == own.shape
    )


def _one_layout(f: Function, o: Occurrence) -> bool:
    """All names of the tensor's memory show it in the same way."""
    names = next(names for names in f.memories if o.tensor in names)
    return len(names) == len(sharing(f, o))


def _factors(spec: PermutationSpec, o: Occurrence) -> tuple[int, int, int]:
    """The size of what is outside the factor, of the factor, and of what is inside it."""
    segment = spec.axes[o.tensor][o.axis][o.segment]
    sizes = [spec.segment_size((atom,)) for atom in segment]
    return math.prod(sizes[: o.factor]), sizes[o.factor], math.prod(sizes[o.factor + 1 :])


def _segment_start(spec: PermutationSpec, o: Occurrence) -> int:
    return sum(map(spec.segment_size, spec.axes[o.tensor][o.axis][: o.segment]))


def _live(spec: PermutationSpec, o: Occurrence, gradient: Tensor | None) -> Tensor:
    """Positions of the factor on which the output depends, as far as a gradient tells."""
    outer, size, inner = _factors(spec, o)
    if gradient is None:
        return torch.arange(size)
    part = gradient.narrow(o.axis, _segment_start(spec, o), outer * size * inner).movedim(o.axis, 0)
    return (part.reshape(outer, size, -1) != 0).any(2).any(0).nonzero()[:, 0].cpu()


def _exchanges(
    f: Function,
    spec: PermutationSpec,
    o: Occurrence,
    *,
    live: Tensor,
    generator: torch.Generator,
) -> Iterator[Moves]:
    """Exchanges of two live positions of a factor, as an index of the whole axis."""
    outer, size, inner = _factors(spec, o)
    start = _segment_start(spec, o)
    index = torch.arange(f.state[o.tensor].shape[o.axis])
    inside = index[start : start + outer * size * inner].reshape(outer, size, inner)
    for _ in range(_EXCHANGES):
        moved = index.clone()
        exchanged = _exchanged(inside, live, generator)
        moved[start : start + inside.numel()] = exchanged.flatten()
        yield {shared.tensor: {o.axis: moved} for shared in sharing(f, o)}


def _exchanged(inside: Tensor, live: Tensor, generator: torch.Generator) -> Tensor:
    """Positions (outer, size, inner) with two of the live ones exchanged."""
    pair = live[torch.randperm(len(live), generator=generator)[:2]]
    exchanged = inside.clone()
    exchanged[:, pair] = inside[:, pair.flip(0)]
    return exchanged
