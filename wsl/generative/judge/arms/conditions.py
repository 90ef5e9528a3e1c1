"""The generator asked for something else: what its condition is worth.

    wrong     another task's examples; of numbers, the members' farthest from those wanted
    random    noise of the examples' mean and deviation; of numbers, uniform in the members' range
    mean      the mean over the members

Adapter generators have been found to do as well on random descriptions, and to draw the mean of
their training adapters; a conditional generator counts only above all three.
"""

from __future__ import annotations

import abc
import dataclasses
from typing import ClassVar

import torch
from torch import Tensor

from wsl.generative.conditions import LabelledExamples
from wsl.generative.problem import Generator, Start, TrainingMembers
from wsl.params import Params


class _AskedOtherwise(abc.ABC):
    """Draws from the fitted generator at another condition than the one wanted."""

    needs: ClassVar[frozenset[str]] = frozenset({"asked", "fitted", "members"})

    def draw(self, start: Start, n: int, *, generator: torch.Generator) -> Params:
        """Networks for as many conditions, made with ``generator``, which samples too."""
        fitted, asked, members = start.fitted, start.asked, start.members
        if fitted is None or asked is None or members is None:
            raise ValueError(f"{type(self).__name__} needs asked, but Start has none")
        if isinstance(asked, LabelledExamples):
            other = self.examples(asked, members, n=n, generator=generator)
            return fitted.sample(n, condition=other, generator=generator)
        known = _numbers(members)
        wanted = torch.as_tensor(asked, dtype=known.dtype).expand(n, known.shape[1])
        return _each(fitted, self.numbers(wanted, known, generator), generator)

    @abc.abstractmethod
    def examples(
        self,
        asked: LabelledExamples,
        members: TrainingMembers,
        *,
        n: int,
        generator: torch.Generator,
    ) -> LabelledExamples: ...

    @abc.abstractmethod
    def numbers(self, wanted: Tensor, known: Tensor, generator: torch.Generator) -> Tensor: ...


@dataclasses.dataclass(frozen=True)
class WrongConditionStart(_AskedOtherwise):
    """For another task than the one that is scored, or numbers far from those wanted."""

    def examples(
        self,
        asked: LabelledExamples,
        members: TrainingMembers,
        *,
        n: int,
        generator: torch.Generator,
    ) -> LabelledExamples:
        """Of several tasks asked for, each gets the next; of one, a task of the members."""
        if len(asked) > 1:
            return asked.of(torch.arange(len(asked)).roll(-1))
        if members.examples is not None:
            rows = torch.randint(len(members.examples), (n,), generator=generator)
            return members.examples.of(rows)
        if members.tasks is not None:
            return members.tasks.draw(n, generator=generator).support
        # right images of the wrong class
        turned = torch.arange(asked.classes).roll(-1)
        return asked.ordered(turned.expand(len(asked), -1))

    def numbers(
        self,
        wanted: Tensor,
        known: Tensor,
        generator: torch.Generator,  # noqa: ARG002
    ) -> Tensor:
        """The members' numbers farthest from those wanted, in deviations."""
        apart = (known - wanted[:1]) / known.std(0, correction=0).clamp_min(1e-12)
        return known[apart.square().sum(1).argmax()].expand_as(wanted)


@dataclasses.dataclass(frozen=True)
class RandomConditionStart(_AskedOtherwise):
    """For no task at all: noise instead of examples, or any of the numbers that members have."""

    def examples(
        self,
        asked: LabelledExamples,
        members: TrainingMembers,  # noqa: ARG002
        *,
        n: int,
        generator: torch.Generator,
    ) -> LabelledExamples:
        """Normal, with mean and deviation of what was asked."""
        x = asked.inputs if len(asked) > 1 else asked.inputs.expand(n, *asked.inputs.shape[1:])
        noise = torch.randn(x.shape, generator=generator).to(x)
        return LabelledExamples(asked.inputs.mean() + asked.inputs.std() * noise)

    def numbers(self, wanted: Tensor, known: Tensor, generator: torch.Generator) -> Tensor:
        """Uniform between the members' least and largest."""
        low, high = known.amin(0), known.amax(0)
        return low + (high - low) * torch.rand(wanted.shape, generator=generator).to(known)


@dataclasses.dataclass(frozen=True)
class MeanConditionStart(_AskedOtherwise):
    """For the mean of all conditions."""

    def examples(
        self,
        asked: LabelledExamples,
        members: TrainingMembers,
        *,
        n: int,  # noqa: ARG002
        generator: torch.Generator,  # noqa: ARG002
    ) -> LabelledExamples:
        """The mean over the members' tasks, else over those asked for, classes and all."""
        known = members.examples
        if known is not None and known.inputs.shape[1:] == asked.inputs.shape[1:]:
            mean = known.inputs.mean(0, keepdim=True)
        else:
            mean = asked.inputs.mean((0, 1), keepdim=True)
        return LabelledExamples(mean.expand_as(asked.inputs).clone())

    def numbers(
        self,
        wanted: Tensor,
        known: Tensor,
        generator: torch.Generator,  # noqa: ARG002
    ) -> Tensor:
        """The members' mean."""
        return known.mean(0).expand_as(wanted)


def _numbers(members: TrainingMembers) -> Tensor:
    if members.condition is None:
        raise ValueError("condition: none is known of the members, so no other can be asked for")
    return members.condition


def _each(fitted: Generator, conditions: Tensor, generator: torch.Generator) -> Params:
    """A network for each row of (n, K); one call where all rows are equal."""
    if (conditions == conditions[:1]).all():
        return fitted.sample(len(conditions), condition=conditions[0], generator=generator)
    drawn = [fitted.sample(1, condition=row, generator=generator) for row in conditions]
    return {name: torch.cat([one[name] for one in drawn]) for name in drawn[0]}
