"""What a merge method acts on: the learned tensors of all members, one at a time or as one vector.

    combined    theta = rule(theta_1, ..., theta_T)                     tensor by tensor
    from_base   theta = theta_0 + rule(theta_1 - theta_0, ..., theta_T - theta_0)

The unit over which a rule sorts, elects or normalises changes its result, so it is a field of the
methods that have one: a tensor, or the vector of all learned tensors in the order of the first
member. Rules compute in float32, or in float64 where a member has it, and the result is cast once.

What is not learned has no task vector: running statistics of batch norm become the mean of the
members, whose variances stay positive, and integers (counters, masks) are those of the first
member. Complex tensors are seen as pairs of real numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from wsl.connectivity import check_alike
from wsl.params import Params, check_range, is_learned, unravel

Members = Sequence[Mapping[str, Tensor]]
"""Weights of one architecture."""
Statistics = Sequence[Mapping[str, Any]]
"""What was measured of each member, by the names of its tensors."""
Unit = Literal["tensor", "vector"]
"""Over what a rule sorts and normalises."""
Rule = Callable[[Tensor, str], Tensor]
"""Stacked tensors (T, *shape) of all members and their name to one tensor (*shape)."""


def combined(members: Members, rule: Rule, *, unit: Unit = "tensor") -> Params:
    """``rule`` over every learned tensor of ``members``.

    Raises ValueError for no members, for members that differ in names or shapes, and for a result
    that leaves the range of its type.
    """
    _check(members)
    first = members[0]
    names = [name for name, tensor in first.items() if is_learned(name, tensor)]
    found = {name: _shared(members, name) for name in first if name not in names}
    if unit == "vector":
        found |= _as_vector(members, names, rule)
    else:
        found |= {name: rule(_stacked(members, name), name) for name in names}
    merged = {name: _like(found[name], tensor) for name, tensor in first.items()}
    check_range(merged, *members, what="the merge")
    return merged


def from_base(
    members: Members, base: Mapping[str, Tensor] | None, rule: Rule, *, unit: Unit = "tensor"
) -> Params:
    """The base plus ``rule`` over the task vectors of ``members``; raises ValueError as `combined`.

    The base is given to the rule as one more member, so that nothing else need be the same.
    """
    if base is None:
        raise ValueError("a base is needed: the weights that all members started from")

    def moved(tensors: Tensor, name: str) -> Tensor:
        start = tensors[-1]
        return start + rule(tensors[:-1] - start, name)

    _check(members)
    found = combined([*members, base], moved, unit=unit)
    # A base has statistics of its own, which are not those of any member.
    kept = [name for name, tensor in members[0].items() if not is_learned(name, tensor)]
    return found | {name: _like(_shared(members, name), members[0][name]) for name in kept}


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


def _check(members: Members) -> None:
    if not members:
        raise ValueError("got 0 members; at least one is needed")
    for other in members[1:]:
        check_alike(members[0], other)


def _stacked(members: Members, name: str) -> Tensor:
    """(T, *shape) in float32 or wider; complex numbers gain a last axis of two."""
    device = members[0][name].device
    tensors = [_real(member[name].detach().to(device)) for member in members]
    wide = _wide([tensor.dtype for tensor in tensors])
    return torch.stack([tensor.to(wide) for tensor in tensors])


def _as_vector(members: Members, names: Sequence[str], rule: Rule) -> Params:
    """The rule over all learned tensors at once, (T, P)."""
    if not names:
        return {}
    rows = [{name: _real(member[name].detach()) for name in names} for member in members]
    shapes = {name: tensor.shape for name, tensor in rows[0].items()}
    first = rows[0][names[0]]
    kinds = [tensor.dtype for row in rows for tensor in row.values()]
    size = sum(tensor.numel() for tensor in rows[0].values())
    # filled in place: at this size every copy of all members costs as much as the rule itself
    vectors = torch.empty(len(rows), size, dtype=_wide(kinds), device=first.device)
    for vector, row in zip(vectors, rows, strict=True):
        parts = vector.split([tensor.numel() for tensor in row.values()])
        for part, tensor in zip(parts, row.values(), strict=True):
            part.copy_(tensor.flatten())
    return unravel(rule(vectors, ""), shapes)


def _real(tensor: Tensor) -> Tensor:
    """Complex numbers gain a last axis of two."""
    return torch.view_as_real(tensor) if tensor.is_complex() else tensor


def _wide(kinds: Sequence[torch.dtype]) -> torch.dtype:
    return torch.float64 if torch.float64 in kinds else torch.float32


def _shared(members: Members, name: str) -> Tensor:
    """What is not learned: the mean of running statistics, the first of everything else."""
    first = members[0][name]
    if not first.is_floating_point():
        return first.clone()
    every = torch.stack([member[name].to(first.device).double() for member in members])
    return summed(every) / len(members)


def _like(tensor: Tensor, first: Tensor) -> Tensor:
    if first.is_complex() and not tensor.is_complex():
        tensor = torch.view_as_complex(tensor.contiguous())
    return tensor.to(first.dtype)
