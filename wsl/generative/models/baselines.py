"""Generators that learn nothing: what a generator that learns has to beat.

    retrieval   theta_n, a random member as it is
    noise       theta_n + s std(theta_n) eps,   std of each tensor of the member
    gaussian    mean_n theta_n + std_n theta_n eps,  entry by entry, of aligned members
    mean        (theta_1 + ... + theta_m) / m,  of m random aligned members

Zeng et al. (2025), arXiv 2506.07998, find that generators of weights often do not beat noise added
to a member. A function draws from the members it is given; the class of the same name is a
generator that keeps its training members and draws from those that reach the condition.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import safetensors.torch
import torch
from torch import Tensor

from wsl.base import Progress
from wsl.generative.codes import Canonicalizer
from wsl.generative.models.files import read_about, write_whole
from wsl.generative.models.members import check_members
from wsl.generative.problem import FitReport, TrainingMembers, aligner
from wsl.params import Params
from wsl.symmetry import PermutationSpec
from wsl.zoo import Checkpoints


def noise_baseline(
    zoo: Mapping[str, Tensor], n: int, *, scale: float, generator: torch.Generator | None = None
) -> Params:
    """Random members with Gaussian noise of ``scale`` times each tensor's own deviation.

    Variances stay non-negative.
    """
    members = retrieval_baseline(zoo, n, generator=generator)

    def noisy(tensor: Tensor) -> Tensor:
        std = tensor.flatten(1).std(1, correction=0).view(-1, *[1] * (tensor.dim() - 1))
        return tensor + scale * std * _normal(tensor, generator)

    return {
        name: _legal(name, noisy(t)) if t.is_floating_point() else t for name, t in members.items()
    }


def gaussian_baseline(
    zoo: Mapping[str, Tensor], n: int, *, generator: torch.Generator | None = None
) -> Params:
    """Every weight drawn on its own from a normal fitted to the (aligned) zoo.

    Variances stay non-negative.
    """

    def drawn(tensor: Tensor) -> Tensor:
        return tensor.mean(0) + tensor.std(0, correction=0) * _normal(_repeat(tensor, n), generator)

    return {
        name: _legal(name, drawn(t)) if t.is_floating_point() else _repeat(t, n)
        for name, t in zoo.items()
    }


def mean_baseline(
    zoo: Mapping[str, Tensor],
    n: int,
    *,
    members: int = 16,
    generator: torch.Generator | None = None,
) -> Params:
    """Averages of ``members`` random (aligned) members each."""
    rows = torch.stack(
        [
            torch.randperm(len(next(iter(zoo.values()))), generator=generator)[:members]
            for _ in range(n)
        ]
    )
    return {
        name: t[rows].mean(1) if t.is_floating_point() else _repeat(t, n) for name, t in zoo.items()
    }


def retrieval_baseline(
    zoo: Mapping[str, Tensor], n: int, *, generator: torch.Generator | None = None
) -> Params:
    """Random members as they are: the quality of a memoriser."""
    rows = torch.randint(len(next(iter(zoo.values()))), (n,), generator=generator)
    return {name: t[rows] for name, t in zoo.items()}


@dataclasses.dataclass(eq=False)
class _Baseline(abc.ABC):
    """Keeps its training members; conditions: numbers that a member must reach to be drawn from."""

    spec: PermutationSpec
    _: dataclasses.KW_ONLY
    conditions: int = 1
    seed: int = 0
    """Of no effect: nothing is initialised at random. Every generator is made with one."""

    needs: ClassVar[frozenset[str]] = frozenset()
    aligns: ClassVar[bool] = False
    canonicalizer: Canonicalizer | None = dataclasses.field(default=None, init=False)
    members: Params = dataclasses.field(default_factory=dict, init=False)
    condition: Tensor = dataclasses.field(default_factory=lambda: torch.zeros(0, 0), init=False)

    @abc.abstractmethod
    def _draw(self, members: Params, n: int, generator: torch.Generator | None) -> Params: ...

    def fit(
        self,
        zoo: TrainingMembers | Checkpoints | Mapping[str, Tensor],
        condition: Tensor | None = None,
        *,
        seed: int = 0,  # noqa: ARG002 - what every generator takes; nothing is trained here
        progress: Progress | None = None,
    ) -> FitReport:
        """Keep the members, aligned if the baseline mixes them."""
        members = TrainingMembers.of(zoo, condition)
        count = check_members(self.spec, members.params)
        self.condition = self._checked(members.condition, count)
        self.canonicalizer = aligner(members, self.spec) if self.aligns else None
        align = self.canonicalizer or dict
        self.members = {name: tensor.clone() for name, tensor in align(members.params).items()}
        if progress is not None:
            progress(1, 0.0)
        return FitReport(count)

    def sample(
        self,
        n: int,
        *,
        condition: Tensor | float | None = None,
        generator: torch.Generator | None = None,
    ) -> Params:
        """``n`` networks (n, ...) from members that reach ``condition``, one number or (K,)."""
        if not self.members:
            raise ValueError(f"{type(self).__name__}: fit it before sampling")
        if condition is None:
            return self._draw(self.members, n, generator)
        wanted = torch.as_tensor(condition, dtype=self.condition.dtype)
        good = (self.condition >= wanted).all(1)
        if not good.any():
            best = self.condition.amax(0).tolist()
            raise ValueError(f"condition: no member reaches {wanted.tolist()}; the best has {best}")
        return self._draw({name: t[good] for name, t in self.members.items()}, n, generator)

    def save(self, path: str | Path) -> None:
        """Write the members and all that `load` needs as one safetensors file."""
        tensors = {f"members/{name}": tensor for name, tensor in self.members.items()}
        if self.canonicalizer is not None:
            reference = self.canonicalizer.reference
            tensors |= {f"reference/{name}": tensor for name, tensor in reference.items()}
        write_whole(self, {**tensors, "condition": self.condition}, path, config=self._config())

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what `save` wrote; raises ValueError if the file is something else."""
        about = read_about(path, cls.__name__)
        tensors = safetensors.torch.load_file(path)
        made = cls(PermutationSpec.parse(about["spec"]), **about["config"])
        made.condition = tensors["condition"]
        made.members = {name: tensors[f"members/{name}"] for name in made.spec.axes}
        if cls.aligns:
            reference = {name: tensors[f"reference/{name}"] for name in made.spec.axes}
            made.canonicalizer = Canonicalizer(made.spec, reference)
        return made

    def _config(self) -> dict[str, Any]:
        return {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.init and field.name != "spec"
        }

    def _checked(self, condition: Tensor | None, count: int) -> Tensor:
        if condition is None and not self.conditions:
            return torch.zeros(count, 0)
        shape = None if condition is None else tuple(condition.shape)
        if condition is None or shape != (count, self.conditions):
            raise ValueError(
                f"condition: shape {shape}, but {(count, self.conditions)} is needed: as many "
                "numbers per member as the generator was made for"
            )
        return condition.clone()


class RetrievalGenerator(_Baseline):
    """Members as they are."""

    def _draw(self, members: Params, n: int, generator: torch.Generator | None) -> Params:
        return retrieval_baseline(members, n, generator=generator)


@dataclasses.dataclass(eq=False)
class NoiseGenerator(_Baseline):
    """Members with noise of ``scale`` times the deviation of each tensor."""

    _: dataclasses.KW_ONLY
    scale: float = 0.5

    def _draw(self, members: Params, n: int, generator: torch.Generator | None) -> Params:
        return noise_baseline(members, n, scale=self.scale, generator=generator)


class GaussianGenerator(_Baseline):
    """Every weight on its own from a normal, after alignment."""

    aligns = True

    def _draw(self, members: Params, n: int, generator: torch.Generator | None) -> Params:
        return gaussian_baseline(members, n, generator=generator)


@dataclasses.dataclass(eq=False)
class MeanGenerator(_Baseline):
    """Averages of ``averaged`` random members, after alignment."""

    _: dataclasses.KW_ONLY
    averaged: int = 16

    aligns = True

    def _draw(self, members: Params, n: int, generator: torch.Generator | None) -> Params:
        return mean_baseline(members, n, members=self.averaged, generator=generator)


def _legal(name: str, tensor: Tensor) -> Tensor:
    return tensor.clamp_min(0) if name.endswith("running_var") else tensor


def _normal(like: Tensor, generator: torch.Generator | None) -> Tensor:
    return torch.randn(like.shape, generator=generator).to(like)


def _repeat(tensor: Tensor, n: int) -> Tensor:
    return tensor[:1].expand(n, *tensor.shape[1:]).clone()
