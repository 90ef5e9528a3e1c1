"""`LatentDiffusion` and `FlowMatching`: generate weights from codes of trained ones.

    theta -> canonical -> standardised x -> code z -> p(z | condition)

`LatentDiffusion`: as in D2NWG, Soro et al. (2024), arXiv 2402.18153, on weights aligned first.
`FlowMatching`: as DeepWeightFlow, Gupta et al. (2026), arXiv 2601.05052: aligned members, linear
codes, a flow along straight lines, Runge-Kutta; its untrained flow draws the Gaussian with the
members' mean and covariance, and training goes on from there. Every part can be replaced.

Not promised: that samples are new, or differ as much as the population does. `NoveltyWatch`
stops a fit that loses its spread; `judge` measures both, beside baselines.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

from wsl.base import did_you_mean
from wsl.generative.codes import (
    Canonicalizer,
    CorrectedPCA,
    Units,
    WeightAutoencoder,
    WeightCode,
    WeightPCA,
    WeightVAE,
)
from wsl.generative.models.coded import CodedGenerator, GeneratorParts
from wsl.generative.models.noise import P_DIFF, NoiseSchedule
from wsl.generative.models.vector_diffusion import VectorDiffusion
from wsl.generative.models.vector_flow import VectorFlow
from wsl.matching import Matcher
from wsl.symmetry import PermutationSpec

Code = Callable[[int, int], WeightCode]
"""Makes the module of a code from (features, latent)."""


_CODES: Mapping[str, Code] = {
    kind.__name__: kind for kind in (WeightAutoencoder, WeightVAE, WeightPCA, CorrectedPCA)
}


def _maker(code: Code | str) -> Code:
    """Of the name of a code, as recipes say it; raises ValueError for another name."""
    if not isinstance(code, str):
        return code
    if code not in _CODES:
        hint = did_you_mean(code, _CODES)
        raise ValueError(f"code '{code}' does not exist{hint}; there are {', '.join(_CODES)}")
    return _CODES[code]


class LatentDiffusion(CodedGenerator):
    """A generator of weights for the architecture of ``spec``: diffusion of codes.

    conditions: how many numbers describe a member, for example 1 for its accuracy; 0 for none.
    latent: length of the code. code: makes the code's module from (features, latent), for example
    `WeightAutoencoder`, `CorrectedPCA` or `WeightPCA`, or the name of one.
    hidden, blocks: size of the denoiser. schedule: of the noise.
    align: bring members to one order of units first, by a `Canonicalizer` of matcher and units.
    common: the keyword arguments of `CodedGenerator`.
    """

    def __init__(
        self,
        spec: PermutationSpec,
        *,
        conditions: int = 1,
        latent: int = 64,
        hidden: int = 256,
        blocks: int = 3,
        code: Code | str = WeightAutoencoder,
        schedule: NoiseSchedule | Mapping[str, Any] = P_DIFF,
        align: bool = True,
        matcher: Matcher | None = None,
        units: Units = False,
        **common: Any,
    ) -> None:
        noise = NoiseSchedule(**schedule) if isinstance(schedule, Mapping) else schedule
        make = _maker(code)
        size: dict[str, Any] = {"conditions": conditions, "hidden": hidden, "blocks": blocks}
        parts = GeneratorParts(
            align=partial(Canonicalizer, spec, matcher=matcher, units=units) if align else None,
            code=lambda features: make(features, latent),
            prior=lambda features: VectorDiffusion(features, schedule=noise, **size),
            config={
                **size,
                "latent": latent,
                "align": align,
                "units": units,
                "schedule": asdict(noise),
            },
        )
        super().__init__(spec, parts, **common)


class FlowMatching(CodedGenerator):
    """A generator of weights for the architecture of ``spec``: a flow of codes.

    ``latent`` principal components of aligned members by default, fewer than there are members.
    Arguments are those of `LatentDiffusion`.
    """

    def __init__(
        self,
        spec: PermutationSpec,
        *,
        conditions: int = 0,
        latent: int = 64,
        hidden: int = 256,
        blocks: int = 3,
        code: Code | str = WeightPCA,
        align: bool = True,
        matcher: Matcher | None = None,
        units: Units = False,
        **common: Any,
    ) -> None:
        make = _maker(code)
        size: dict[str, Any] = {"conditions": conditions, "hidden": hidden, "blocks": blocks}
        parts = GeneratorParts(
            align=partial(Canonicalizer, spec, matcher=matcher, units=units) if align else None,
            code=lambda features: make(features, latent),
            prior=lambda features: VectorFlow(features, **size),
            config={**size, "latent": latent, "align": align, "units": units},
        )
        super().__init__(spec, parts, **common)
