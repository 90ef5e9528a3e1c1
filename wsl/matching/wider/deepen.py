"""Give a residual network more blocks that do nothing, so that unequal depths can be merged.

    x + B(x)  with  B(x) = 0

What a new block writes into the stream is zero, its inner weights are those of the deeper network.
Chen et al., Net2Net (2016), arXiv 1511.05641; zero branches: Goyal et al. (2017), arXiv 1706.02677.

Guarantees: the same function, where a block adds to the stream, or adds and then applies what
leaves the stream as it is (ReLU after ReLU). Not for blocks that replace the stream.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from wsl.matching.wider.checks import check_single
from wsl.matching.wider.sides import axis_written
from wsl.params import Params, is_running_statistic
from wsl.symmetry import PermutationSpec, SpecError


@torch.no_grad()
def deepen(
    spec: PermutationSpec,
    shallow: Mapping[str, Tensor],
    deep: Mapping[str, Tensor],
    *,
    written: Mapping[str, int] | None = None,
) -> Params:
    """``shallow`` with the blocks that only ``deep`` has, doing nothing; ``spec`` is of ``deep``.

    A tensor that is new and written along a group of the shallow network's tensors writes into the
    stream. Raises `SpecError` for weights that do not fit, and where no new tensor writes into it.
    """
    check_single(spec, deep, "deep")
    spec.restrict([name for name in spec.axes if name in shallow]).validate(shallow)
    silent = _silent(spec, shallow, written)
    return {
        name: shallow[name]
        if name in shallow
        else torch.zeros_like(deep[name])
        if name in silent
        else deep[name].clone()
        for name in spec.axes
    }


def _silent(
    spec: PermutationSpec, shallow: Mapping[str, Tensor], written: Mapping[str, int] | None
) -> set[str]:
    """The new weights that write into the stream; raises `SpecError` where none does."""
    new = [name for name in spec.axes if name not in shallow]
    old = {atom for name in shallow for atom in _written_groups(spec, name, written)}
    stream = {name for name in new if old.intersection(_written_groups(spec, name, written))}
    if new and not stream:
        raise SpecError(
            f"{new[0]} and {len(new) - 1} more are new, but none of them is written along a group "
            "of the other tensors; only blocks of a residual stream can be added"
        )
    return {name for name in stream if not is_running_statistic(name)}


def _written_groups(
    spec: PermutationSpec, name: str, written: Mapping[str, int] | None
) -> set[str]:
    """The groups of the axis that a tensor is written along."""
    axes = spec.axes[name]
    if not axes:
        return set()
    axis = axes[axis_written(name, written)]
    return {atom for segment in axis for atom in segment if isinstance(atom, str)}
