"""What a generator is trained for beside weights: what decoded networks answer, and how well.

    behaviour    of a member that went through the code, against the member itself
    task loss    of networks that drawn codes decode to, on labelled data of the members' task
    own task     of the clean networks predicted of members, on examples of each one's own task

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
from wsl.generative.models.own_task import OwnTaskLoss
from wsl.generative.models.vectors import CleanPenalty, Predicted
from wsl.generative.problem import TrainingMembers
from wsl.params import Params


@dataclasses.dataclass(frozen=True, eq=False)
class FunctionTerms:
    """The terms of one fit; ``weights`` makes networks (n, ...) of standardised vectors."""

    weights: Callable[[Tensor], Params]
    behaviour: Behaviour | None = None
    task: TaskLoss | None = None
    own: OwnTaskLoss | None = None

    @classmethod
    def of(
        cls,
        members: TrainingMembers,
        weights: Callable[[Tensor], Params],
        *,
        behaviour: Behaviour | float | None,
        task_loss: TaskLoss | OwnTaskLoss | float | None,
        measured: bool,
        by_task: bool = False,
    ) -> Self:
        """Terms as given; a number is the weight of one on the members' own model and data.

        A number of 0 leaves a term out. measured: whether networks are recalibrated. by_task: each
        member has a task of its own.
        Raises ValueError naming the term that the members lack something for.
        """
        if isinstance(behaviour, int | float):
            behaviour = _behaviour(members, behaviour) if behaviour else None
        if not isinstance(task_loss, TaskLoss | OwnTaskLoss):
            make = _own_task if by_task else _one_task
            task_loss = make(members, task_loss, measured) if task_loss else None
        elif not task_loss.weight:
            task_loss = None
        if isinstance(task_loss, OwnTaskLoss):
            return cls(weights, behaviour, own=task_loss)
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

    def through(self, decode: Callable[[Tensor], Tensor]) -> CleanPenalty | None:
        """All of them, of codes that a distribution predicts, beside those of the members."""
        terms = [term for term in (self._where_sure(decode), self._where_told(decode)) if term]
        if not terms:
            return None

        def penalty(predicted: Predicted, rng: torch.Generator) -> Tensor:
            return torch.stack([term(predicted, rng) for term in terms]).sum()

        return penalty

    def _where_sure(self, decode: Callable[[Tensor], Tensor]) -> CleanPenalty | None:
        """Where noise is all that is seen, the clean vector is a mean of members, which need not
        act like any: rows count by their share of signal.
        """
        members, draws = self.of_members, self.of_draws
        if members is None and draws is None:
            return None

        def of_seen(seen: Predicted, rng: torch.Generator) -> Tensor:
            decoded, total = decode(seen.clean), seen.trust.new_zeros(())
            if members is not None:
                total = total + members(decoded, decode(seen.true), rng)
            return total if draws is None else total + draws.loss(decoded, rng)

        return _of_some(_sure, of_seen)

    def _where_told(self, decode: Callable[[Tensor], Tensor]) -> CleanPenalty | None:
        """Of a task that is told a network can be asked for at any noise: what is drawn starts from
        noise alone, and a term that leaves that out trains the last steps of the way only.
        """
        own = self.own
        if own is None:
            return None

        def of_seen(seen: Predicted, rng: torch.Generator) -> Tensor:
            return own(self.weights(decode(seen.clean)), seen.rows, rng)

        return _of_some(lambda predicted, _: predicted.told, of_seen)


def _sure(predicted: Predicted, rng: torch.Generator) -> Tensor:
    trust = predicted.trust
    return trust > torch.rand(len(trust), generator=rng).to(trust)


def _of_some(which: CleanPenalty, penalty: CleanPenalty) -> CleanPenalty:
    """The penalty of those rows that ``which`` gives a mask of, 0 where these are none."""

    def of_those(predicted: Predicted, rng: torch.Generator) -> Tensor:
        seen = predicted.at(which(predicted, rng))
        return penalty(seen, rng) if len(seen.rows) else seen.trust.new_zeros(())

    return of_those


def _behaviour(members: TrainingMembers, weight: float) -> Behaviour:
    if members.model is None or members.inputs is None:
        raise ValueError("behaviour: the training members come without model and inputs")
    return Behaviour(members.model, members.inputs, weight=weight)


def _one_task(members: TrainingMembers, weight: float, measured: bool) -> TaskLoss:
    if members.model is None or members.inputs is None or members.labels is None:
        raise ValueError("task_loss: the training members come without model, inputs and labels")
    return TaskLoss(members.model, members.inputs, members.labels, weight=weight, measured=measured)


def _own_task(members: TrainingMembers, weight: float, measured: bool) -> OwnTaskLoss:
    if members.model is None or members.examples is None:
        raise ValueError("task_loss: the training members come without model and examples")
    return OwnTaskLoss(members.model, members.examples, weight=weight, measured=measured)
