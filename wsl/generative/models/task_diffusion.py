"""`TaskDiffusion`: diffusion of weights told, on the axes they belong to, what is known of a task.

    a_c = [mean_s x_{c,s}, std_s x_{c,s}],   (h, t) = embed(a),   u_j = [mean_c, std_c, mean_c] of a
    v(x, tau | h, t, u)  with h_c on entry c of the class axis, u_j on entry j of the input axis

The class axis is a group like the hidden units, in the denoiser as in the standardisation: noise
whose classes are moved, told of a task whose classes are moved alike, becomes the network with its
outputs moved. A generator that has seen some label sets so answers for any other, and no order of
hidden units is learned either. Sets of labelled examples as conditions: D2NWG, Soro et al. (2024),
arXiv 2402.18153, which has one vector for them all. Learns from trained members, each with examples
of its task; nothing is aligned.

The error in weights says little of what they do: ``fit(task_loss=)`` adds a term through each
member's own task, `OwnTaskLoss`, without which draws for unseen tasks hardly work.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from wsl.generative.codes import WholeVector
from wsl.generative.conditions import (
    AxisFeatures,
    DatasetEncoder,
    LabelledExamples,
    class_statistics,
)
from wsl.generative.models.coded import COPIED, CodedGenerator, GeneratorParts
from wsl.generative.models.equivariant import EquivariantDenoiser
from wsl.generative.models.noise import P_DIFF, NoiseSchedule
from wsl.generative.models.vector_diffusion import VectorDiffusion
from wsl.params import Params
from wsl.symmetry import PermutationSpec


class TaskDiffusion(CodedGenerator):
    """A generator for the architecture of ``spec``, asked with `LabelledExamples`; aligns nothing.

    features: how many numbers an input has; by default the size of the input axis. width: of what
    is told of a class and of the task. channels, blocks: size of the `EquivariantDenoiser`.
    schedule: of the noise.
    common: ``copied``, ``watch``, ``recalibrate`` and ``seed`` of `CodedGenerator`.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"examples"})

    def __init__(
        self,
        spec: PermutationSpec,
        *,
        features: int | None = None,
        width: int = 32,
        channels: int = 32,
        blocks: int = 3,
        schedule: NoiseSchedule | Mapping[str, Any] = P_DIFF,
        **common: Any,
    ) -> None:
        noise = NoiseSchedule(**schedule) if isinstance(schedule, Mapping) else schedule
        axes, copied = AxisFeatures(spec), common.get("copied", COPIED)
        generated = [name for name in spec.axes if name.rpartition(".")[2] not in copied]
        features = axes.input_size if features is None else features
        size = {"width": width, "channels": channels, "blocks": blocks}

        def prior(length: int) -> VectorDiffusion:
            told = AxisFeatures(spec.restrict(generated))
            network = AxisDenoiser(told, features, **size)
            return _OneScale(
                length,
                conditions=axes.count * 2 * features,
                schedule=noise,
                denoiser=network,
            )

        config = {**size, "features": features, "schedule": asdict(noise)}
        parts = GeneratorParts(
            None, WholeVector, prior, config, symmetry=axes.class_spec, tell=_flat_statistics
        )
        super().__init__(spec, parts, **common)


class AxisDenoiser(nn.Module):
    """v (n, P) of weights x (n, P) of ``axes.spec``, whose condition is `class_statistics`, flat.

    features: how many numbers an input has; where the input axis has as many, each of its entries
    is told its own. width: of what is told of a class and of the task.
    """

    equivariance = "equivariant"

    def __init__(
        self, axes: AxisFeatures, features: int, *, width: int, channels: int, blocks: int
    ) -> None:
        super().__init__()
        self.axes, self.features = axes, features
        self.on_inputs = bool(axes.inputs) and axes.input_size == features
        self.embed = DatasetEncoder(2 * features, width=width)
        self.net = EquivariantDenoiser(
            axes.class_spec,
            channels=channels,
            blocks=blocks,
            extra=2 * width + 3 * self.on_inputs,
        )

    @property
    def lower(self) -> nn.ModuleList:
        """The last maps, which are zero in a new network."""
        return self.net.lower

    def forward(self, x: Tensor, t: Tensor, condition: Tensor, *, known: Tensor) -> Tensor:
        """``condition`` (n, classes * 2 * features) counts where ``known`` (n,) is 1."""
        told = condition.unflatten(1, (self.axes.count, 2 * self.features))
        # one example of each class, which is its statistics
        embedded = self.embed(LabelledExamples(told.unsqueeze(2)))
        extra = self.axes(embedded, _of_inputs(told) if self.on_inputs else None)
        none = x.new_zeros(len(x), 0)
        return self.net(x, t, none, known=known, extra=_shown(extra, known))


class _OneScale(VectorDiffusion):
    """Standardises all numbers of the condition alike, so that the order of classes is none."""

    def _measure(self, condition: Tensor) -> None:
        self.condition_mean.fill_(condition.mean())
        self.condition_std.fill_(condition.std(correction=0).clamp_min(1e-6))


def _shown(extra: Params, known: Tensor) -> Params:
    """What is told, zero where it is hidden."""
    return {name: known.view(-1, *[1] * (u.dim() - 1)) * u for name, u in extra.items()}


def _of_inputs(told: Tensor) -> Tensor:
    """Of each input coordinate (n, features, 3), whatever the order of the classes."""
    mean, spread = told.chunk(2, -1)
    return torch.stack([mean.mean(1), mean.std(1, correction=0), spread.mean(1)], -1)


def _flat_statistics(examples: LabelledExamples) -> Tensor:
    return class_statistics(examples).flatten(1)
