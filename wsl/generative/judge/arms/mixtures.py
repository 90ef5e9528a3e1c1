"""Between members, without a generator: on the line of two, or a normal in its code.

    interpolation     (1 - t) theta_i + t g.theta_j,    g brings j to i
    gaussian codes    decode(m + s eps),                m, s of the good members' codes

The first is what averaging alone gives, and reproduces p-diff (Zeng et al. 2025, arXiv 2506.07998);
the second says what a diffusion model adds to the decoder that it draws for.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import torch
from torch import Tensor

from wsl.generative.problem import Coded, Start
from wsl.matching import match
from wsl.params import Params, members, stack
from wsl.symmetry import PermutationSpec


@dataclasses.dataclass(frozen=True)
class InterpolationStart:
    """On the line between two random good members, the second aligned to the first; t = ``at``."""

    at: float = 0.5

    needs: ClassVar[frozenset[str]] = frozenset({"good", "spec"})

    @torch.no_grad()
    def draw(self, start: Start, n: int, *, generator: torch.Generator) -> Params:
        """Of a single good member, that one."""
        good, spec = start.good or {}, start.spec
        rows = [torch.randperm(members(good), generator=generator)[:2] for _ in range(n)]
        return stack([self._between(spec, *_ends(good, pair)) for pair in rows])

    def _between(self, spec: PermutationSpec | None, a: Params, b: Params) -> Params:
        moved = b if spec is None else match(spec, a, b)(b)
        return {
            name: t.lerp(moved[name].to(t), self.at) if t.is_floating_point() else t.clone()
            for name, t in a.items()
        }


@dataclasses.dataclass(frozen=True)
class GaussianCodeStart:
    """Codes drawn number by number from a normal fitted to the good members', decoded."""

    needs: ClassVar[frozenset[str]] = frozenset({"coded", "good"})

    @torch.no_grad()
    def draw(self, start: Start, n: int, *, generator: torch.Generator) -> Params:
        """For generators with a code."""
        coded: Coded | None = start.coded
        if coded is None or start.good is None:
            raise ValueError("GaussianCodeStart needs coded, but Start has none")
        z = coded.encode(start.good)
        noise = torch.randn(n, *z.shape[1:], generator=generator).to(z)
        return coded.decode(z.mean(0) + z.std(0, correction=0) * noise)


def _ends(params: Params, pair: Tensor) -> tuple[Params, Params]:
    """Two members, which are one and the same where there is no second."""
    i, j = int(pair[0]), int(pair[-1])
    return {k: t[i] for k, t in params.items()}, {k: t[j] for k, t in params.items()}
