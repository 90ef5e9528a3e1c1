"""`match_sources`: weight matching of checkpoints that do not fit into memory.

    match_sources(spec, a, b)        finds what        match(spec, a, b)        finds

with the same algorithm (Ainsworth et al. 2023, arXiv 2209.04836), over tensors that are read where
they lie. Memory: a few of the largest tensors and scores of the groups. Not done: other matchers,
signs, stacks of checkpoints, accelerators.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from types import EllipsisType

import torch
from torch import Tensor

from wsl.matching.blocks import plan
from wsl.matching.large.files import Source, structure
from wsl.matching.large.weights import PART, StreamedWeights, check_finite_part
from wsl.matching.large.write import moved_parts
from wsl.matching.result import Match, Matcher
from wsl.matching.solvers import WeightMatching, aligned_tensors
from wsl.symmetry import Permutation, PermutationSpec


@torch.no_grad()
def match_sources(
    spec: PermutationSpec, a: Source, b: Source, *, matcher: Matcher | None = None
) -> Match:
    """Align ``b`` to ``a``, tensors by name that are read in slices: dicts, or `open_files`.

    Raises `SpecError` when the weights do not fit the specification, ValueError when a weight is
    NaN or infinite, or for a matcher other than `WeightMatching` without odd groups.
    """
    matcher = matcher or WeightMatching()
    if not isinstance(matcher, WeightMatching) or matcher.odd:
        raise ValueError(
            f"{type(matcher).__name__}: out of core only weight matching without odd groups is "
            "done; leave out --stream where the checkpoints fit into memory"
        )
    shapes = structure(a)
    _check_single(spec, shapes, "a")
    _check_single(spec, structure(b), "b")
    names = aligned_tensors(shapes, matcher.ignore)
    rest = [name for name in spec.axes if name not in names]
    _check_finite(a, rest, "a")
    _check_finite(b, rest, "b")
    cut = plan(spec, names)
    return matcher.solve_over(spec, cut, StreamedWeights(cut, a, b))


def _check_single(spec: PermutationSpec, found: dict[str, Tensor], which: str) -> None:
    if batch := spec.validate(found):
        raise ValueError(f"{which}: has batch axes {tuple(batch)}, but one checkpoint is taken")


def _check_finite(source: Source, names: Iterable[str], which: str) -> None:
    for name in names:
        check_finite_part(source[name][...], name, which)


def distances(a: Source, b: Source, element: Permutation) -> tuple[float, float]:
    """L2 distance of ``b`` from ``a`` over the floating tensors, before and after ``element``."""
    before = after = 0.0
    for name, axes in element.spec.axes.items():
        if a[name].dtype.is_floating_point:
            for rows, moved in _in_portions(moved_parts(b[name], axes, element)):
                reference = a[name][rows].double()
                before += float((reference - b[name][rows].double()).square().sum())
                after += float((reference - moved.double()).square().sum())
    return before**0.5, after**0.5


def _in_portions(
    parts: Iterable[Tensor],
) -> Iterator[tuple[slice | EllipsisType, Tensor]]:
    """The parts of a tensor in portions, with their rows; a single number is all of it."""
    first = 0
    for part in itertools.chain.from_iterable(map(_portions, parts)):
        count = len(part) if part.dim() else 0
        yield slice(first, first + count) if part.dim() else ..., part
        first += count


def _portions(tensor: Tensor) -> Iterator[Tensor]:
    """A tensor in portions of its rows that are small also in float64."""
    if not tensor.dim():
        return iter([tensor])
    step = max(1, PART * len(tensor) // max(1, 4 * tensor.numel()))
    return itertools.chain(tensor.split(step))
