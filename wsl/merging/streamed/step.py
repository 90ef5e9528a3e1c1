"""A merge as steps, one for each tensor of the result, which read their inputs where they lie.

    theta[name] = method(theta_1[name], ..., theta_T[name])

Right for methods that do not look at all tensors at once, which is a law of every method that does
not say ``whole``. Inputs are anything that is read by slices: tensors, or tensors in files.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from types import EllipsisType
from typing import Any

import torch
from torch import Tensor

from wsl.base import did_you_mean
from wsl.matching import large
from wsl.merging.measured import Measured, WithStatistics
from wsl.merging.methods import MergeMethod
from wsl.merging.pieces import entries_from
from wsl.params import is_learned


@dataclasses.dataclass(frozen=True, eq=False)
class Step:
    """One tensor of the result: the method, its members and base, and the type it is written in.

    ``dtype`` is that of the first member unless told.
    """

    name: str
    method: MergeMethod
    members: Sequence[large.TensorSlices]
    base: large.TensorSlices | None = None
    dtype: torch.dtype | None = None

    @property
    def inputs(self) -> list[large.TensorSlices]:
        """The members, and the base if there is one."""
        return [*self.members, *([] if self.base is None else [self.base])]

    @property
    def shape(self) -> torch.Size:
        """Of the result and of every input."""
        return torch.Size(self.members[0].shape)

    @property
    def kind(self) -> torch.dtype:
        """The type of the result."""
        return self.dtype or self.members[0].dtype

    @property
    def is_statistic(self) -> bool:
        """Whether it is no weight but a running statistic, which is averaged."""
        empty = torch.empty(0, dtype=self.members[0].dtype)
        return empty.is_floating_point() and not is_learned(self.name, empty)

    @property
    def can_be_cut(self) -> bool:
        """Whether parts of its rows can be merged by themselves, with the same result."""
        unit = getattr(self.method, "cut", None)
        return len(self.shape) >= {"entries": 1, "rows": 2}.get(str(unit), len(self.shape) + 1)

    @property
    def reads(self) -> bool:
        """Whether the method reads its inputs itself, part by part."""
        return getattr(self.method, "cut", None) == "passes"

    def read(self, rows: slice | EllipsisType = ...) -> list[Tensor]:
        """The inputs, or some of their rows."""
        return [tensor[rows] for tensor in self.inputs]

    def solve(self, inputs: Sequence[large.TensorSlices], first: int = 0) -> Tensor:
        """The result, from what `read` gives; ``first`` is where the part's entries begin.

        A method that `reads` may be given the inputs where they lie.
        """
        own: list[Any] = [{self.name: tensor} for tensor in inputs]
        base = None if self.base is None else own[-1]
        with entries_from(first):
            found = self.method.solve(own[: len(self.members)], base=base)[self.name]
        return found.to(self.kind)


def by_tensor(method: MergeMethod) -> bool:
    """Whether a method merges each tensor for itself, with what it has been given."""
    if isinstance(method, Measured):
        return False
    inner = method.method if isinstance(method, WithStatistics) else method
    return not getattr(inner, "whole", False) or getattr(inner, "unit", None) == "tensor"


def steps(
    members: Sequence[large.Source],
    method: MergeMethod,
    *,
    base: large.Source | None = None,
    names: Sequence[str] | None = None,
) -> list[Step]:
    """One step for each tensor of the first member; ``names`` of the members, then of the base.

    Raises ValueError for a method that looks at all tensors at once, for one that lacks its base,
    and for members that differ in the names or shapes of their tensors.
    """
    if not by_tensor(method):
        raise ValueError(
            f"{type(method).__name__} looks at all tensors at once and cannot merge them one by "
            "one; merge in memory"
        )
    if base is None and "base" in method.needs:
        raise ValueError(f"{type(method).__name__} needs a base, from which all members started")
    every = [*members, *([] if base is None else [base])]
    names = names or [f"input {i + 1}" for i in range(len(every))]
    for name, other in zip(names[1:], every[1:], strict=True):
        if more := sorted(set(other) - set(every[0])):
            raise ValueError(f"{name}: {more[0]}: {names[0]} has no such tensor, which it must")
    return [
        Step(tensor, method, found[: len(members)], None if base is None else found[-1])
        for tensor in every[0]
        for found in [alike([(n, one, tensor) for n, one in zip(names, every, strict=True)])]
    ]


def alike(sources: Sequence[tuple[str, large.Source, str]]) -> list[large.TensorSlices]:
    """The tensors that are merged to one: of each source, by what it is called, and by its name.

    Raises ValueError unless all are there and have one shape.
    """
    found = [_found(*source) for source in sources]
    for (label, _, there), tensor in zip(sources, found, strict=True):
        if tuple(tensor.shape) != tuple(found[0].shape):
            raise ValueError(
                f"{label}: {there}: has shape {tuple(tensor.shape)}, but it is merged with "
                f"{tuple(found[0].shape)} of {sources[0][0]}"
            )
    return found


def _found(label: str, source: Mapping[str, large.TensorSlices], name: str) -> large.TensorSlices:
    if name not in source:
        raise ValueError(
            f"{label}: has no tensor {name}{did_you_mean(name, source)}; members must be of one "
            "architecture, under the same names"
        )
    return source[name]
