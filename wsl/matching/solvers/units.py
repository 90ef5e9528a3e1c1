"""Where activations show the units of a block: which sites count, and units as rows of a matrix.

    z (.., u, .., s, ..)   ->   Z (units, samples)

A site counts for a group if a layer reads it: a convolution, a product, attention, a recurrent
layer. That is the value after the nonlinearity where there is one, and each stage of a residual
stream that some block reads. What a layer reads through a mean over positions, or in another
layout, counts before it, where there are more samples; a maximum changes what a unit says, and
counts after it. Jordan et al. (2023), arXiv 2211.08403, take one site for each group. Every axis
but those of the units is a sample: members of the batch, positions in space and time, fixed factors
of a product.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from torch import Tensor

from wsl.matching.blocks import GroupBlock
from wsl.symmetry import ActivationSite, Atom, Axes, PermutationSpec, Segment

READERS = """
linear matmul mm bmm addmm baddbmm addbmm mv einsum conv1d conv2d conv3d convolution
_convolution conv_transpose1d conv_transpose2d conv_transpose3d bilinear
scaled_dot_product_attention lstm gru rnn_tanh rnn_relu lstm_cell gru_cell
"""
"""Operations that read the units of a layer, by name."""
PASSES = """
view reshape _unsafe_view flatten unflatten squeeze unsqueeze permute transpose t numpy_T
movedim contiguous clone alias detach to _to_copy dropout feature_dropout expand select
slice mean avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d
adaptive_avg_pool3d
"""
"""Operations that show the same units again, at fewer positions or in another layout."""

_READERS, _PASSES = frozenset(READERS.split()), frozenset(PASSES.split())


class UnitRows(NamedTuple):
    """A part of a value in which the units of a block stand.

    ``window`` holds (start, length) on each axis, ``shape`` the sizes of the atoms there, ``units``
    the axis of the group and, for ``family``, of its member; ``name`` is that of the innermost.
    """

    block: str
    name: str
    window: tuple[tuple[int, int], ...]
    shape: tuple[int, ...]
    units: tuple[int, ...]

    def cut(self, value: Tensor) -> Tensor:
        """The units against all samples, (units, samples)."""
        for axis, (start, length) in enumerate(self.window):
            value = value.narrow(axis, start, length)
        front = value.reshape(self.shape).movedim(self.units, tuple(range(len(self.units))))
        return front.flatten(0, len(self.units) - 1).flatten(1)


def sites_that_count(
    spec: PermutationSpec, sites: Sequence[ActivationSite], blocks: Mapping[str, GroupBlock]
) -> dict[str, frozenset[str]]:
    """The blocks for which each site counts, by its name.

    A block that no layer reads is seen at all its sites; one that is seen nowhere is in no value.
    """
    by_name = {site.name: site for site in sites}
    read = [by_name[name] for name in dict.fromkeys(_read_by_layers(sites))]
    everything = [site for site in sites if site.op not in _PASSES]
    counts: dict[str, frozenset[str]] = {}
    for block in blocks:
        for site in _showing(spec, read, block) or _showing(spec, everything, block):
            counts[site.name] = counts.get(site.name, frozenset()) | {block}
    return counts


def _showing(
    spec: PermutationSpec, sites: Sequence[ActivationSite], block: str
) -> list[ActivationSite]:
    return [site for site in sites if _shows(spec, site, block)]


def _shows(spec: PermutationSpec, site: ActivationSite, block: str) -> bool:
    return any(rows.block == block for rows in unit_rows(spec, site.axes))


def _read_by_layers(sites: Sequence[ActivationSite]) -> Iterator[str]:
    """What layers read, before it was pooled or laid out otherwise."""
    by_name = {site.name: site for site in sites}
    for site in sites:
        for source in site.sources if site.op in _READERS else ():
            here = by_name[source]
            while here.op in _PASSES and len(here.sources) == 1:
                before = by_name[here.sources[0]]
                if set(before.groups) != set(here.groups):
                    break
                here = before
            yield here.name


@functools.lru_cache(maxsize=4096)
def unit_rows(spec: PermutationSpec, axes: Axes) -> tuple[UnitRows, ...]:
    """The parts of a value in which the units of some block can be compared one by one.

    Those are the parts where a group stands once, with at most one of its families, and no other
    group does: other groups move the samples too.
    """
    choices = itertools.product(*(_windows(spec, axis) for axis in axes))
    found = (_unit_rows(spec, choice) for choice in choices)
    return tuple(rows for rows in found if rows is not None)


def _unit_rows(spec: PermutationSpec, choice: Sequence[tuple[int, Segment]]) -> UnitRows | None:
    """One part: a product of each axis, and where it starts."""
    atoms = tuple(itertools.chain.from_iterable(segment for _, segment in choice))
    units = _units(spec, atoms)
    if not units:
        return None
    window = tuple((start, spec.segment_size(segment)) for start, segment in choice)
    sizes = tuple(spec.segment_size((atom,)) for atom in atoms)
    return UnitRows(str(atoms[units[0]]), str(atoms[units[-1]]), window, sizes, units)


def _windows(spec: PermutationSpec, axis: tuple[Segment, ...]) -> list[tuple[int, Segment]]:
    """The products of an axis with where they start."""
    lengths = [spec.segment_size(segment) for segment in axis]
    starts = [0, *itertools.accumulate(lengths)]
    return list(zip(starts, axis, strict=False))


def _units(spec: PermutationSpec, atoms: tuple[Atom, ...]) -> tuple[int, ...]:
    """The axes of the one group that acts and of its family; empty where there are others."""
    per = {group.name: group.per for group in spec.declared}
    parents = {i: per[atom] for i, atom in enumerate(atoms) if isinstance(atom, str)}
    outer = [i for i, parent in parents.items() if parent is None]
    inner = [i for i, parent in parents.items() if parent is not None]
    alone = len(outer) == 1 and len(inner) <= 1
    own = alone and all(parents[i] == atoms[outer[0]] for i in inner)
    return (*outer, *inner) if own else ()
