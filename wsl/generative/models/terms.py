"""What a generator is trained for beside weights: what decoded networks answer, and how well.

    behaviour    of a member that went through the code, against the member itself
    task loss    of networks that drawn codes decode to, on labelled data of the members' task

A code that is trained takes both itself. Where the code is fixed, they act on the distribution of
codes, through the clean codes that it predicts: see `VectorModel`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor

from wsl.generative.codes import Behaviour, DrawnTerm, Penalty, TaskLoss
from wsl.generative.problem import TrainingMembers
from wsl.params import Params


@dataclasses.dataclass(frozen=True, eq=False)
class FunctionTerms:
    """The terms of one fit; ``weights`` makes networks (n, ...) of standardised vectors."""

    weights: Callable[[Tensor], Params]
    behaviour: Behaviour | None = None
    task: TaskLoss | None = None

    @classmethod
    def of(
        cls,
        members: TrainingMembers,
        weights: Callable[[Tensor], Params],
        *,
        behaviour: Behaviour | float | None,
        task_loss: TaskLoss | float | None,
        measured: bool,
    ) -> Self:
        """Terms as given; a number is the weight of one on the members' own model and data.

        A number of 0 leaves a term out. measured: whether networks are recalibrated.
        Raises ValueError naming the term that the members lack something for.
        """
        model, inputs, labels = members.model, members.inputs, members.labels
        if isinstance(behaviour, int | float) and behaviour:
            if model is None or inputs is None:
                raise ValueError("behaviour: the training members come without model and inputs")
            behaviour = Behaviour(model, inputs, weight=behaviour)
        behaviour = behaviour if isinstance(behaviour, Behaviour) else None
        weight = task_loss.weight if isinstance(task_loss, TaskLoss) else task_loss
        if not weight:
            return cls(weights, behaviour)
        if not isinstance(task_loss, TaskLoss):
            if model is None or inputs is None or labels is None:
                raise ValueError(
                    "task_loss: the training members come without model, inputs and labels"
                )
            task_loss = TaskLoss(model, inputs, labels, weight=weight, measured=measured)
        return cls(weights, behaviour, task_loss)

    @property
    def of_members(self) -> Penalty | None:
        """Of vectors of members that went through a code."""
        behaviour, weights = self.behaviour, self.weights
        if behaviour is None:
            return None
        return lambda decoded, target, rng: behaviour(weights(decoded), weights(target), rng)

    @property
    def of_draws(self) -> DrawnTerm | None:
        """Of vectors that drawn codes decode to."""
        task, weights = self.task, self.weights
        if task is None:
            return None
        return DrawnTerm(task.networks, lambda decoded, rng: task(weights(decoded), rng))

    def through(self, decode: Callable[[Tensor], Tensor]) -> Penalty | None:
        """Both, of codes that a distribution predicts, beside those of the members."""
        members, draws = self.of_members, self.of_draws
        if members is None and draws is None:
            return None

        def penalty(z: Tensor, target: Tensor, rng: torch.Generator) -> Tensor:
            decoded = decode(z)
            total = z.new_zeros(())
            if members is not None:
                total = total + members(decoded, decode(target), rng)
            return total if draws is None else total + draws.loss(decoded, rng)

        return penalty
