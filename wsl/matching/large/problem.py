"""`match_sources`: weight matching of checkpoints that do not fit into memory.

    match_sources(spec, a, b)        finds what        match(spec, a, b)        finds

with the same algorithm (Ainsworth et al. 2023, arXiv 2209.04836), over tensors that are read where
they lie. Memory: a few of the largest tensors and scores of the groups. Where the specification has
rotations, `CircuitMatching` finds phases as well (`phases`). Not done: other matchers, signs, other
matrices, stacks of checkpoints, accelerators.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator

import torch
from torch import Tensor

from wsl.matching.blocks import plan
from wsl.matching.large.cuts import PART
from wsl.matching.large.experts import part_move
from wsl.matching.large.files import Source, TensorSlices, structure
from wsl.matching.large.joined import JoinedTensor
from wsl.matching.large.moves import Element, moved_parts, own_move
from wsl.matching.large.phases import has_rotations, match_phases
from wsl.matching.large.weights import StreamedWeights, check_finite_part
from wsl.matching.result import Match, Matcher
from wsl.matching.solvers import CircuitMatching, WeightMatching, aligned_tensors
from wsl.symmetry import PermutationSpec, mixing


@torch.no_grad()
def match_sources(
    spec: PermutationSpec, a: Source, b: Source, *, matcher: Matcher | None = None
) -> Match:
    """Align ``b`` to ``a``, tensors by name that are read in slices: dicts, or `open_files`.

    Raises `SpecError` when the weights do not fit the specification, ValueError when a weight is
    NaN or infinite, or for a matcher other than `WeightMatching` without odd groups and
    `CircuitMatching` that keeps lengths. Unless told, a specification with rotations is matched by
    the latter.
    """
    circuits = has_rotations(spec)
    matcher = matcher or (CircuitMatching() if circuits else WeightMatching())
    weights = _weights_of(matcher)
    shapes = structure(a)
    for which, found in (("a", shapes), ("b", structure(b))):
        if batch := spec.validate(found):
            raise ValueError(f"{which}: has batch axes {tuple(batch)}, but one checkpoint is taken")
    names = aligned_tensors(shapes, weights.ignore)
    for which, source in (("a", a), ("b", b)):
        for name in (name for name in spec.axes if name not in names):
            check_finite_part(source[name][...], name, which)
    if circuits and isinstance(matcher, CircuitMatching):
        found = match_phases(spec, a, b, matcher=matcher)
    else:
        cut = plan(spec, names)
        found = weights.solve_over(spec, cut, StreamedWeights(cut, a, b))
    return dataclasses.replace(found, notes=_standing(spec, matcher))


def _standing(spec: PermutationSpec, matcher: Matcher) -> dict[str, str]:
    """What a matcher would mix in memory and does not here, by the group of its units."""
    mixed = mixing(spec) if isinstance(matcher, CircuitMatching) else ()
    return {
        unit.group: f"{unit.kind} maps stand still, since out of core only rotations are found"
        for unit in mixed
        if unit.kind != "rotation"
    }


def _weights_of(matcher: Matcher) -> WeightMatching:
    """How a matcher permutes; raises ValueError where it cannot do so out of core."""
    weights = matcher
    if isinstance(matcher, CircuitMatching) and matcher.gauge == "orthogonal":
        weights = matcher.weights
    if not isinstance(weights, WeightMatching) or weights.odd:
        raise ValueError(
            f"{type(matcher).__name__}: out of core only weight matching without odd groups is "
            "done, and circuits with the orthogonal gauge; leave out --stream where the "
            "checkpoints fit into memory"
        )
    return weights


def distances(a: Source, b: Source, element: Element) -> tuple[float, float]:
    """L2 distance of ``b`` from ``a`` over the floating tensors, before and after ``element``."""
    before = after = 0.0
    for name in element.spec.axes:
        if not a[name].dtype.is_floating_point:
            continue
        for mine, theirs, moved in _compared(name, a[name], b[name], element=element):
            first = 0
            for part in itertools.chain.from_iterable(map(_portions, moved)):
                rows = slice(first, first + len(part)) if part.dim() else ...
                reference = mine[rows].double()
                before += float((reference - theirs[rows].double()).square().sum())
                after += float((reference - part.double()).square().sum())
                first += len(part) if part.dim() else 0
    return before**0.5, after**0.5


_Compared = tuple[TensorSlices, TensorSlices, Iterator[Tensor]]


def _compared(
    name: str, a: TensorSlices, b: TensorSlices, *, element: Element
) -> Iterator[_Compared]:
    """A weight of both, and that of b as it is moved, expert by expert where it has any."""
    axes = element.spec.axes[name]
    if not (isinstance(a, JoinedTensor) and isinstance(b, JoinedTensor)):
        yield a, b, moved_parts(b, own_move(name, axes), element)
        return
    for number, (mine, theirs) in enumerate(zip(a.parts, b.parts, strict=True)):
        move = part_move(name, axes, b, number=number)
        origin = b.parts[b.names.index(move.origin(b.names[number], element))]
        yield mine, theirs, moved_parts(origin, move, element)


def _portions(tensor: Tensor) -> Iterator[Tensor]:
    """A tensor in portions of its rows that are small also in float64."""
    if not tensor.dim():
        return iter([tensor])
    step = max(1, PART * len(tensor) // max(1, 4 * tensor.numel()))
    return itertools.chain(tensor.split(step))
