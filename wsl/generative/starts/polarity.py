"""Polarity: signs of a population, magnitudes of the network's own initialisation.

    theta = sign(mean_n theta_n) |theta_own|

The mean is taken over members aligned to one reference, since signs of units in no common order
cancel. That signs carry much of what a trained network knows is the finding of Zhou et al. (2019),
arXiv 1905.01067, on lottery tickets; taken from a population it is a null arm of this library, for
what starts from a population owe to their signs alone. Nothing is guaranteed of its accuracy.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import torch

from wsl.generative.problem import Start
from wsl.generative.starts.asked import given
from wsl.generative.starts.layers import own_weights
from wsl.params import Params, is_learned


@dataclasses.dataclass(frozen=True)
class PolarityStart:
    """Signs of the mean of the aligned good members; a mean of zero keeps the own sign."""

    needs: ClassVar[frozenset[str]] = frozenset({"aligned"})

    def draw(self, start: Start, n: int, *, generator: torch.Generator) -> Params:  # noqa: ARG002
        """Running statistics stay the network's own."""
        good, drawn = given(start.aligned), own_weights(start, n)
        for name, tensor in drawn.items():
            if is_learned(name, tensor[0]):
                sign = good[name].mean(0).to(tensor).expand_as(tensor)
                drawn[name] = torch.where(sign == 0, tensor, tensor.abs().copysign(sign))
        return drawn
