"""Retrieval by data set: the member whose task looks most like the one wanted.

    d(task, task_n) = min_pi sum_c |mu_c - mu_{n, pi(c)}|^2,      mu_c = mean_s e(x_{c, s})

e embeds an input, as pixels unless told; pi is an order of the classes, found as a linear
assignment (Kuhn, 1955). The member's last layer is then reordered by pi, so that its output c
stands for class c of the wanted task: label sets whose order nobody has seen are served.

Guarantees: the same answer, up to the order of the outputs, for every order of the wanted classes.
Not for members with another number of classes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from wsl.generative.conditions import LabelledExamples
from wsl.generative.problem import Start
from wsl.generative.starts.asked import given
from wsl.generative.starts.head import dotted
from wsl.generative.starts.layers import output_layer
from wsl.matching import assign
from wsl.params import Params
from wsl.symmetry import copied


@dataclasses.dataclass(frozen=True)
class NearestStart:
    """The members whose data sets are nearest, the nearest first.

    Of one wanted task the n nearest members; of n wanted tasks the nearest of each. embed: inputs
    (B, *input) to (B, F). any_order: whether classes are compared in their best order.
    """

    embed: Callable[[Tensor], Tensor] | None = None
    any_order: bool = True

    needs: ClassVar[frozenset[str]] = frozenset({"examples", "wanted"})

    @torch.no_grad()
    def draw(self, start: Start, n: int, *, generator: torch.Generator) -> Params:  # noqa: ARG002
        """Raises ValueError for other numbers of tasks or classes; repeats where members end."""
        known, wanted = _asked(start, n, what=type(self).__name__)
        row, own = nearest_rows(*self.distances(wanted, known), n)
        return _relabelled(start, given(start.members).rows(row), own)

    def distances(self, wanted: LabelledExamples, known: LabelledExamples) -> tuple[Tensor, Tensor]:
        """To every member (T, N), and the member's class each class is compared with (T, N, C)."""
        ours, theirs = class_means(wanted, self.embed), class_means(known, self.embed)
        apart = torch.cdist(ours[:, None], theirs[None]).square()  # (T, N, C, C)
        if self.any_order:
            return best_order(apart)
        order = torch.arange(wanted.classes).expand(apart.shape[:3])
        return apart.diagonal(dim1=2, dim2=3).sum(-1), order


@dataclasses.dataclass(frozen=True)
class NearestMeanStart:
    """The mean of the nearest members, aligned to one reference and relabelled as each needs it.

    members: how many. spread: times each weight's deviation among them, drawn around the mean; 1 is
    a normal for every weight on its own. embed: as in `NearestStart`.
    """

    members: int = 16
    spread: float = 0.0
    embed: Callable[[Tensor], Tensor] | None = None

    needs: ClassVar[frozenset[str]] = frozenset({"canonicalizer", "examples", "wanted"})

    @torch.no_grad()
    def draw(self, start: Start, n: int, *, generator: torch.Generator) -> Params:
        """Raises ValueError for other numbers of tasks or classes; of fewer members, all."""
        known, wanted = _asked(start, n, what=type(self).__name__)
        told, align = given(start.members), given(start.canonicalizer)
        distance, order = NearestStart(self.embed).distances(wanted, known)
        near = distance.argsort(dim=1, stable=True)[:, : self.members]
        aligned = align(told.params, member=told.member)
        group = [
            _relabelled(start, {name: t[rows] for name, t in aligned.items()}, own)
            for rows, own in zip(near.T, order[torch.arange(len(near)), near.T], strict=True)
        ]
        task = torch.arange(n) % len(wanted)
        return {
            name: self._mixed(torch.stack([one[name] for one in group])[:, task], generator)
            for name in group[0]
        }

    def _mixed(self, values: Tensor, generator: torch.Generator) -> Tensor:
        """From (members, n, ...)."""
        if not values.is_floating_point():
            return values[0]
        mean = values.mean(0)
        if not self.spread or len(values) < 2:
            return mean
        return mean + self.spread * values.std(0) * torch.randn(mean.shape, generator=generator)


def class_means(
    examples: LabelledExamples, embed: Callable[[Tensor], Tensor] | None = None
) -> Tensor:
    """The mean embedding of each class, (tasks, classes, F), in float64."""
    flat = examples.inputs.flatten(0, 2)
    embedded = flat if embed is None else embed(flat)
    return embedded.double().reshape(*examples.inputs.shape[:3], -1).mean(2)


def best_order(apart: Tensor) -> tuple[Tensor, Tensor]:
    """The least sum of costs (..., C, K), K >= C, no column twice: it (...), the columns (..., C).

    Rows without costs make the problem square; what they get does not count.
    """
    wanted, known = apart.shape[-2:]
    order = assign(-F.pad(apart, (0, 0, 0, known - wanted)))[..., :wanted]
    return apart.gather(-1, order[..., None])[..., 0].sum(-1), order


def nearest_rows(distance: Tensor, order: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Of distances (T, N) the rows (n,) that are nearest, and their own ``order`` (n, C).

    Of n tasks the nearest of each; of one task the n nearest, again from the first where N ends.
    """
    tasks, known = distance.shape
    if tasks == 1:
        row = distance[0].argsort(stable=True).repeat(-(-n // known))[:n]
    else:
        row = distance.argmin(1)
    return row, order[torch.arange(n) % tasks, row]


def _asked(start: Start, n: int, *, what: str) -> tuple[LabelledExamples, LabelledExamples]:
    """What is known of the members' tasks, and of those wanted, which must fit."""
    known, wanted = given(start.examples), given(start.wanted)
    if known.classes != wanted.classes or len(wanted) not in (1, n):
        raise ValueError(
            f"{what}: {len(wanted)} tasks of {wanted.classes} classes are wanted for {n} "
            f"networks, and members have {known.classes}; give 1 or {n} tasks of as many"
        )
    return known, wanted


def _relabelled(start: Start, drawn: Params, order: Tensor) -> Params:
    """Members (n, ...) whose output c is what was their output ``order[n, c]``."""
    name = output_layer(copied(start.model), given(start.wanted).inputs[0, :, 0])
    own = (dotted(name, "weight"), dotted(name, "bias"))
    return {key: reordered(t, order) if key in own else t for key, t in drawn.items()}


def reordered(rows: Tensor, order: Tensor) -> Tensor:
    """Row c of each (n, C, ...) is the one that ``order[n, c]`` says."""
    return rows[torch.arange(len(rows))[:, None], order]
