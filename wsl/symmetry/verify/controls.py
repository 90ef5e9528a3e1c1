"""Is a specification the finest and the largest? Negative controls, which must break the function,
and do not where it is not.

    loose     a group moves everywhere but at one occurrence: an occurrence that does not need its
              tie
    strict    two positions of a fixed axis are exchanged and nothing else: an axis that need not be
              fixed

The power of a control is that of the weights drawn. An exchange is tried between positions with a
gradient, since rows of an embedding that no input reads, say, may be exchanged without any
symmetry. That no control finds anything does not prove that nothing is missing: symmetries that
move several fixed axes at once are not tried.
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
"""A control must change the output by more than this, relatively: far above rounding, far below
what one unit does.
"""
_DRAWS = 3


def loose(
    f: Function,
    spec: PermutationSpec,
    example: Example,
    alone: Mapping[str, Permutation],
    generator: torch.Generator,
) -> tuple[int, tuple[Occurrence, ...]]:
    """How many occurrences there are, and those that do not need their tie.

    Two draws of the weights are tried, since one may be blind by a unit that is dead. A family
    stands still together with the parent that is untied; two names of one tensor are untied
    together.
    """
    suspects = every = [
        o for name, size in spec.groups.items() if size > 1 for o in spec.occurrences(name)
    ]
    for _ in range(2):
        f.randomize(generator, example)
        reference = f.reference(example)
        errors = {
            o: f.error(example, moves_of(untied(spec, alone, sharing(f, o))), reference)
            for o in suspects
        }
        suspects = [o for o, error in errors.items() if error <= BROKEN]
    return len(every), tuple(suspects)


def strict(
    f: Function, spec: PermutationSpec, example: Example, generator: torch.Generator
) -> tuple[list[Occurrence], list[Occurrence], list[Occurrence]]:
    """Fixed axes that were tried; those where an exchange has no effect; those that could not be
    tried.

    Several exchanges are drawn for each; all of them must change the function. Unused tensors are
    left out.
    """
    places = [
        o
        for o in fixed_places(spec)
        if _first_name(f, o.tensor) and f.state[o.tensor].dtype.is_floating_point
    ]
    places = [o for o in places if spec.pinned.get(f"{o.tensor} axis {o.axis}") != "unused"]
    gradients = f(Example(example.args, example.kwargs, gradients=True)).tensors
    reference = f.reference(example)
    tried, without_effect, unreached = [], [], []
    for o in places:
        live = _live(spec, o, gradients.get(o.tensor))
        if len(live) < 2 or not _one_layout(f, o):
            unreached.append(o)
            continue
        tried.append(o)
        if any(
            f.error(example, move, reference) <= BROKEN
            for move in _exchanges(f, spec, o, live, generator)
        ):
            without_effect.append(o)
    return tried, without_effect, unreached


def sharing(f: Function, occurrence: Occurrence) -> frozenset[Occurrence]:
    """The same place in every tensor that shares the memory: one tensor cannot be untied from
    itself.
    """
    own = f.state[occurrence.tensor]
    return frozenset(
        occurrence._replace(tensor=name)
        for name, t in f.state.items()
        if t.data_ptr() == own.data_ptr() and t.shape == own.shape
    )


def _first_name(f: Function, tensor: str) -> bool:
    return any(names[0] == tensor for names in f.memories)


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
    f: Function, spec: PermutationSpec, o: Occurrence, live: Tensor, generator: torch.Generator
) -> Iterator[Moves]:
    outer, size, inner = _factors(spec, o)
    start = _segment_start(spec, o)
    for _ in range(_DRAWS):
        i, j = live[torch.randperm(len(live), generator=generator)[:2]].tolist()
        exchange = torch.arange(size)
        exchange[[i, j]] = exchange[[j, i]]
        inside = (
            torch.arange(outer * size * inner).reshape(outer, size, inner)[:, exchange].flatten()
        )
        index = torch.arange(f.state[o.tensor].shape[o.axis])
        index[start : start + len(inside)] = inside + start
        yield {place.tensor: {o.axis: index} for place in sharing(f, o)}
