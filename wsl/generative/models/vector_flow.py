"""A flow of vectors from noise to data along straight lines, conditioned on a few numbers.

    x_t = (1 - t) x_0 + t x_1,   x_0 ~ N(0, I),   dx/dt = v(x_t, t) = E[x_1 - x_0 | x_t]
    v = (2t - 1) x_t / q + out / sqrt(q),   q = t^2 + (1 - t)^2
    loss = E |out(x_t / sqrt(q), t, c) - sqrt(q) (x_1 - x_0) + (2t - 1) x_t / sqrt(q)|^2

Flow matching: Lipman et al. (2023), arXiv 2210.02747; of weights, Gupta et al. (2026), arXiv
2601.05052, whose Runge-Kutta method of order four this is, with half the steps. The network
learns what is left of v once the part that is right for a standard normal is taken off, at unit
variance for all t, as Karras et al. (2022), arXiv 2206.00364, do for diffusion: out = 0 draws a
standard normal exactly, so that training starts from the codes' own mean and covariance.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from wsl.generative.models.samplers import RungeKutta
from wsl.generative.models.vectors import Noised, VectorModel

TIMES = 1000.0
"""Times are told to the network in thousandths, the scale of its sinusoids."""


class VectorFlow(VectorModel):
    """A flow of vectors (n, features) given ``conditions`` numbers each, or none."""

    def noised(self, x: Tensor, *, generator: torch.Generator | None) -> Noised:  # noqa: D102
        t = torch.rand(len(x), 1, generator=generator).to(x)
        start = torch.randn(x.shape, generator=generator).to(x)
        size = _size(t)
        given = ((1 - t) * start + t * x) / size
        target = size * (x - start) - (2 * t - 1) * given
        return Noised(given, t[:, 0] * TIMES, target, t)

    def clean(self, noised: Noised, out: Tensor) -> Tensor:
        """x_1 = x_t + (1 - t) v."""
        t = noised.trust
        return _size(t) * noised.x + (1 - t) * _velocity(noised.x, out, t)

    def sampler(self, **settings: Any) -> RungeKutta:
        """`RungeKutta`; settings: ``steps`` and ``stages``."""
        return RungeKutta(**settings)

    def carry(  # noqa: D102
        self,
        predict: Callable[[Tensor, Tensor], Tensor],
        noise: Tensor,
        *,
        sampler: RungeKutta,
        generator: torch.Generator | None,  # noqa: ARG002 - nothing is drawn on the way
    ) -> Tensor:
        if not isinstance(sampler, RungeKutta):
            raise ValueError(f"sampler: {sampler}, but a flow needs RungeKutta, or `steps` alone")

        def v(x: Tensor, t: Tensor) -> Tensor:
            given = x / _size(t[:, None])
            return _velocity(given, predict(given, t * TIMES), t[:, None])

        return sampler.carry(v, noise)


def _size(t: Tensor) -> Tensor:
    """sqrt(q): the deviation of x_t where x_1 is standard normal."""
    return (t.square() + (1 - t).square()).sqrt()


def _velocity(given: Tensor, out: Tensor, t: Tensor) -> Tensor:
    return ((2 * t - 1) * given + out) / _size(t)
