"""What a merge method acts on: the learned tensors of all members, one at a time or as one vector.

    combined    theta = rule(theta_1, ..., theta_T)                     tensor by tensor
    from_base   theta = theta_0 + rule(theta_1 - theta_0, ..., theta_T - theta_0)

A rule sees the stacked tensors of all members, or it is `Passes`: it looks at their entries block
by block, as often as it needs, and answers block by block. Then tensors may lie in files, of which
no more than a block is held.

The unit over which a rule sorts, elects or normalises changes its result, so it is a field of the
methods that have one: a tensor, or the vector of all learned tensors in the order of the first
member. Rules compute in float32, or in float64 where a member has it, and the result is cast once.

What is not learned has no task vector: running statistics of batch norm become the mean of the
members, whose variances stay positive, and integers (counters, masks) are those of the first
member. Complex tensors are seen as pairs of real numbers.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from wsl.connectivity import check_alike
from wsl.matching import large
from wsl.merging.pieces.entries import Entries, as_real, one_thread, wide_type
from wsl.params import Params, check_range, is_learned, unravel

Members = Sequence[Mapping[str, Tensor]]
"""Weights of one architecture."""
Statistics = Sequence[Mapping[str, Any]]
"""What was measured of each member, by the names of its tensors."""
Unit = Literal["tensor", "vector"]
"""Over what a rule sorts and normalises."""
Stacked = Callable[[Tensor, str], Tensor]
"""Stacked tensors (T, *shape) of all members and their name to one tensor (*shape)."""


@dataclasses.dataclass(frozen=True)
class Passes:
    """A rule that sees a few entries at a time.

    part: a block (T, k), the name of the tensor and what is known of it to (k,).
    learn: what must be known of all entries before, from as many passes as that takes.
    rows: blocks are (T, units, k), of whole rows of what has two axes or more.
    """

    part: Callable[[Tensor, str, Any], Tensor]
    learn: Callable[[Entries], Any] = lambda _: None
    rows: bool = False


Rule = Stacked | Passes


def combined(members: Members, rule: Rule, *, unit: Unit = "tensor") -> Params:
    """``rule`` over every learned tensor of ``members``.

    Raises ValueError for no members, for members that differ in names or shapes, and for a result
    that leaves the range of its type.
    """
    return _ruled(members, None, rule, unit=unit)


def from_base(
    members: Members, base: Mapping[str, Tensor] | None, rule: Rule, *, unit: Unit = "tensor"
) -> Params:
    """The base plus ``rule`` over the task vectors of ``members``; raises ValueError as `combined`.

    A base has running statistics of its own, which are not those of any member.
    """
    if base is None:
        raise ValueError("a base is needed: the weights that all members started from")
    return _ruled(members, base, rule, unit=unit)


def _ruled(
    members: Members, base: Mapping[str, Tensor] | None, rule: Rule, *, unit: Unit
) -> Params:
    every = [*members, *([] if base is None else [base])]
    _check(members, every)
    first = members[0]
    names = [name for name, tensor in first.items() if _is_learned(name, tensor)]
    groups = [names] if unit == "vector" and names else [[name] for name in names]
    found = {name: _shared(members, name) for name in first if name not in names}
    for group in groups:
        found |= _merged(every, group, rule, based=base is not None)
    merged = {name: _like(found[name], tensor.dtype) for name, tensor in first.items()}
    # what lies in files was looked at when it was read
    in_memory = all(isinstance(tensor, Tensor) for one in every for tensor in one.values())
    check_range(merged, *(every if in_memory else []), what="the merge")
    return merged


def _merged(
    every: Members, names: Sequence[str], rule: Rule, *, based: bool
) -> Mapping[str, Tensor]:
    """One tensor, or all tensors of a vector, whose rule sees no name."""
    columns = [[one[name] for one in every] for name in names]
    label = names[0] if len(names) == 1 else ""
    if isinstance(rule, Passes):
        return _in_passes(dict(zip(names, columns, strict=True)), rule, based=based, label=label)
    stacked = _stacked(columns)
    if based:
        # in place: the stack is nobody else's, and a second one costs as much again
        stacked[:-1].sub_(stacked[-1])
        found = stacked[-1] + rule(stacked[:-1], label)
    else:
        found = rule(stacked, label)
    shapes = {name: _real_shape(row[0]) for name, row in zip(names, columns, strict=True)}
    return {names[0]: found} if len(names) == 1 else unravel(found, shapes)


def _in_passes(
    columns: Mapping[str, Sequence[large.TensorSlices]], rule: Passes, *, based: bool, label: str
) -> Params:
    entries = Entries(list(columns.values()), based=based, rows=rule.rows, label=label)
    found = {
        name: torch.empty(tuple(row[0].shape), dtype=row[0].dtype, device=entries.device)
        for name, row in columns.items()
    }
    outs = [as_real(tensor).view(-1) for tensor in found.values()]
    with one_thread():
        known = rule.learn(entries) if entries.size else None  # of nothing nothing is known
        entries.into(outs, lambda block: rule.part(block, label, known))
    return found


def per_statistic(
    members: Members,
    statistics: Statistics | None,
    rule: Callable[[Tensor, list[Any], str], Tensor],
) -> Params:
    """``rule`` over every learned tensor with its statistics, one of each member.

    A tensor without statistics is averaged. Raises ValueError if their number does not fit.
    """
    if statistics is None or len(statistics) != len(members):
        raise ValueError(
            f"{len(members)} members need as many statistics, one mapping each, got "
            f"{0 if statistics is None else len(statistics)}; see wsl.merging.statistics"
        )

    def told(tensors: Tensor, name: str) -> Tensor:
        known = [one.get(name) for one in statistics]
        return tensors.mean(0) if any(s is None for s in known) else rule(tensors, known, name)

    return combined(members, told)


def shares(weights: Sequence[float] | None, count: int) -> list[float]:
    """Weights that sum to one, uniform unless told; raises ValueError if they cannot."""
    told = [1.0] * count if weights is None else [float(w) for w in weights]
    if len(told) != count or sum(told) == 0:
        raise ValueError(
            f"got {len(told)} weights that sum to {sum(told):g} for {count} members; one weight "
            "for each member and a sum other than 0 are needed"
        )
    return [weight / sum(told) for weight in told]


def weighted(weights: Sequence[float] | None, tensors: Tensor) -> Tensor:
    """Tensors (T, *shape), each times its weight, as it is given; raises ValueError for others."""
    if weights is None:
        return tensors
    if len(weights) != len(tensors):
        raise ValueError(
            f"got {len(weights)} weights for {len(tensors)} members; give one for each"
        )
    factors = torch.tensor([float(w) for w in weights], dtype=tensors.dtype, device=tensors.device)
    return tensors * factors.view(-1, *[1] * (tensors.dim() - 1))


def summed(tensors: Tensor) -> Tensor:
    """The sum of stacked tensors (T, *shape), added one after the other.

    The order of torch's own sum depends on where an entry stands, so parts of a tensor would differ
    from the whole in the last bit.
    """
    total = tensors[0].clone()
    for tensor in tensors[1:]:
        total += tensor
    return total


def _check(members: Members, every: Members) -> None:
    if not members:
        raise ValueError("got 0 members; at least one is needed")
    for other in every[1:]:
        check_alike(members[0], other)


def _is_learned(name: str, tensor: large.TensorSlices) -> bool:
    return is_learned(name, torch.empty(0, dtype=tensor.dtype))


def _stacked(columns: Sequence[Sequence[large.TensorSlices]]) -> Tensor:
    """(T, *shape) of one tensor, or (T, P) of several, in float32 or wider.

    Filled in place: at this size every copy of all members costs as much as the rule itself.
    """
    shapes = [_real_shape(row[0]) for row in columns]
    sizes = [math.prod(shape) for shape in shapes]
    first = columns[0][0]
    device = first.device if isinstance(first, Tensor) else None
    kind = wide_type([tensor.dtype for row in columns for tensor in row])
    stacked = torch.empty(len(columns[0]), sum(sizes), dtype=kind, device=device)
    for part, row in zip(stacked.split(sizes, 1), columns, strict=True):
        for into, tensor in zip(part, row, strict=True):
            into.copy_(as_real(tensor[...].detach()).reshape(-1))
    return stacked if len(columns) > 1 else stacked.view(len(stacked), *shapes[0])


def _real_shape(tensor: large.TensorSlices) -> torch.Size:
    """With the last axis of two that complex numbers have."""
    return torch.Size((*tensor.shape, 2) if tensor.dtype.is_complex else tensor.shape)


def _shared(members: Members, name: str) -> Tensor:
    """What is not learned: the mean of running statistics, the first of everything else."""
    first = members[0][name][...]
    if not first.is_floating_point():
        return first.clone()
    every = torch.stack([member[name][...].to(first.device).double() for member in members])
    return summed(every) / len(members)


def _like(tensor: Tensor, kind: torch.dtype) -> Tensor:
    if kind.is_complex and not tensor.is_complex():
        tensor = torch.view_as_complex(tensor.contiguous())
    return tensor.to(kind)
