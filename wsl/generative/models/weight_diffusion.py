"""`WeightDiffusion`: diffusion of the weights themselves, whatever the order of their units.

    theta -> standardised x -> p(x | condition),   p(g.x) = p(x) for every permutation g

The denoiser is equivariant and the standardisation is too, so that noise moved by g becomes the
network moved by g: no reference, no alignment, no code, and every sample's permuted copies are
equally likely. Cost is linear in the number of weights. Networks as data of diffusion: Erkoç et al.
(2023), HyperDiffusion, arXiv 2303.17015, which one permutation of units breaks.

Not promised: that samples are new, or as good as the population; see `judge`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from wsl.generative.codes import WholeVector
from wsl.generative.models.coded import COPIED, CodedGenerator, GeneratorParts
from wsl.generative.models.equivariant import EquivariantDenoiser
from wsl.generative.models.noise import P_DIFF, NoiseSchedule
from wsl.generative.models.vector_diffusion import VectorDiffusion
from wsl.symmetry import PermutationSpec


class WeightDiffusion(CodedGenerator):
    """A generator of weights for the architecture of ``spec`` that aligns nothing.

    conditions: how many numbers describe a member, 0 for none. channels, blocks: size of the
    `EquivariantDenoiser`. schedule: of the noise.
    common: the keyword arguments of `CodedGenerator`.
    """

    def __init__(
        self,
        spec: PermutationSpec,
        *,
        conditions: int = 0,
        channels: int = 32,
        blocks: int = 3,
        schedule: NoiseSchedule | Mapping[str, Any] = P_DIFF,
        **common: Any,
    ) -> None:
        noise = NoiseSchedule(**schedule) if isinstance(schedule, Mapping) else schedule
        copied = common.get("copied", COPIED)
        generated = [name for name in spec.axes if name.rpartition(".")[2] not in copied]
        size: dict[str, Any] = {"conditions": conditions, "channels": channels, "blocks": blocks}

        def prior(features: int) -> VectorDiffusion:
            denoiser = EquivariantDenoiser(spec.restrict(generated), **size)
            return VectorDiffusion(
                features, conditions=conditions, schedule=noise, denoiser=denoiser
            )

        config = {**size, "schedule": asdict(noise)}
        super().__init__(spec, GeneratorParts(None, WholeVector, prior, config), **common)
