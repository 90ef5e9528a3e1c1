"""Tasks told by examples: a few labelled inputs of every class, in the order of the outputs.

    task n  =  {x_{n,c,s}},   c = 1 ... classes (the output that says so),   s = 1 ... shots

The place of a class is the output that stands for it, so that another order of the classes is
another task with the same images: `ordered`. As in few-shot learning, Vinyals et al. (2016), arXiv
1606.04080, an episode has a support set, which is the condition, and a query set, which scores.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor


@dataclasses.dataclass(frozen=True, eq=False)
class LabelledExamples:
    """Inputs (N, classes, shots, *input) of N tasks; class c of a task is its output c.

    Raises ValueError for fewer axes, or without a single example.
    """

    inputs: Tensor

    def __post_init__(self) -> None:
        if self.inputs.dim() < 4 or not self.inputs.numel():
            raise ValueError(
                f"examples: shape {tuple(self.inputs.shape)}, but (tasks, classes, shots, *input) "
                "with at least one of each is needed"
            )

    def __len__(self) -> int:
        """How many tasks there are."""
        return len(self.inputs)

    @property
    def classes(self) -> int:
        """How many classes each task has."""
        return self.inputs.shape[1]

    @property
    def shots(self) -> int:
        """How many examples there are of each class."""
        return self.inputs.shape[2]

    def of(self, tasks: Tensor | slice) -> LabelledExamples:
        """The tasks at these positions; repeats allowed."""
        return LabelledExamples(self.inputs[tasks])

    def ordered(self, order: Tensor) -> LabelledExamples:
        """Task n with class ``order[n, c]`` in place c; ``order`` is (N, classes) int64."""
        return LabelledExamples(self.inputs[torch.arange(len(self))[:, None], order])

    def flat(self) -> tuple[Tensor, Tensor]:
        """Inputs (N, classes * shots, *input) and labels (N, classes * shots) int64."""
        labels = torch.arange(self.classes, device=self.inputs.device).repeat_interleave(self.shots)
        return self.inputs.flatten(1, 2), labels.expand(len(self), -1)


def class_statistics(examples: LabelledExamples) -> Tensor:
    """Mean and deviation of each number of a class's inputs, (N, classes, 2 * numbers)."""
    seen = examples.inputs.flatten(3)
    return torch.cat([seen.mean(2), seen.std(2, correction=0)], -1)


class Episodes(NamedTuple):
    """Tasks, each by what is told of it and by what scores: no input is in both."""

    support: LabelledExamples
    query: LabelledExamples


@runtime_checkable
class TaskSource(Protocol):
    """A distribution of tasks, from which a generator can be trained through their loss."""

    def draw(self, n: int, *, generator: torch.Generator | None = None) -> Episodes:
        """``n`` fresh tasks, the same ones for the same state of ``generator``."""
        ...
