"""Starts that keep the size of signals by the shape of each matrix alone.

    Kaiming      W_ij ~ N(0, 2 / fan_in)
    orthogonal   W = gain Q,   Q^T Q = I  or  Q Q^T = I

He et al. (2015), arXiv 1502.01852; Saxe et al. (2014), arXiv 1312.6120. Biases are zero. Guaranteed
is the law of the matrices, not that of the signals: residual sums, norms and attention are not
looked at. See `lsuv` for a start that measures.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import torch
from torch import nn

from wsl.generative.problem import Start
from wsl.generative.starts.layers import refilled
from wsl.params import Params


@dataclasses.dataclass(frozen=True)
class KaimingStart:
    """Normal weights of variance 2 / fan_in, for networks of ReLUs."""

    needs: ClassVar[frozenset[str]] = frozenset()

    def draw(self, start: Start, n: int, *, generator: torch.Generator) -> Params:
        """Norms and embeddings keep the network's own initialisation."""
        return refilled(
            start,
            n,
            lambda part: nn.init.kaiming_normal_(part, nonlinearity="relu", generator=generator),
        )


@dataclasses.dataclass(frozen=True)
class OrthogonalStart:
    """Random orthogonal weights times ``gain``; kernels of convolutions as flattened matrices."""

    gain: float = 1.0

    needs: ClassVar[frozenset[str]] = frozenset()

    def draw(self, start: Start, n: int, *, generator: torch.Generator) -> Params:
        """Norms and embeddings keep the network's own initialisation."""
        return refilled(
            start, n, lambda part: nn.init.orthogonal_(part, gain=self.gain, generator=generator)
        )
