"""One representative for each network: align all members of a population to one reference.

    canonical(theta) = g.theta,   g = argmax_g <theta_ref, g.theta>      (matching)
    theta_ref <- mean_n canonical(theta_n), repeated                     (generalised Procrustes)

A generator that sees raw weights must learn every permutation of every network; one that sees
canonical weights need not. Ainsworth et al. (2023), arXiv 2209.04836; for generation
DeepWeightFlow, Gupta et al. (2026), arXiv 2601.05052.

Guaranteed: a member's function never changes; where matching finds the optimum and it is unique,
``canonical(g.theta) == canonical(theta)`` for every g. Matching several layers is a local search,
so otherwise the two agree only in being aligned about equally well. Scales and signs of units are
left as they are, unless the matcher searches them, or ``units`` fixes first what the lines of the
specification allow (`canonical_scales`, `canonical_signs`): incoming weights of rms 1 for units
that are positively homogeneous, no negative bias for odd ones; ``units="balanced"`` takes the
smallest weights instead (`balanced_scales`), which keeps incoming and outgoing weights comparable.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from torch import Tensor, nn

from wsl.matching import Matcher, align, check_rows, match, mean_of
from wsl.params import Params, stack
from wsl.symmetry import (
    PermutationSpec,
    SpecError,
    balanced_scales,
    canonical_scales,
    canonical_signs,
)

Units = bool | Literal["balanced"]
"""Whether scales and signs of units are fixed, and which scales."""


class Canonicalizer(nn.Module):
    """Moves members to ``reference``, the weights of one network, by ``matcher``.

    The reference is stored in buffers ``reference/NAME``.
    """

    def __init__(
        self,
        spec: PermutationSpec,
        reference: Mapping[str, Tensor],
        *,
        matcher: Matcher | None = None,
        units: Units = False,
    ) -> None:
        super().__init__()
        if units not in (False, True, "balanced"):
            raise ValueError(f"units={units!r}; give true, false or balanced")
        if units and not spec.units:
            raise SpecError(
                f"units={units}, but the specification has no lines of units; see symmetry_spec "
                "and with_units"
            )
        if batch := spec.validate(reference):
            raise SpecError(
                f"reference: has batch axes {tuple(batch)}, but one network is needed; index or "
                "unstack it first"
            )
        self.spec, self.matcher, self.units = spec, matcher, units
        self.odd = sorted({unit.group for unit in spec.units if unit.kind == "sign"})
        for name in spec.axes:
            self.register_buffer(_key(name), reference[name].detach().clone())

    @property
    def reference(self) -> Params:
        """The network that all others are aligned to."""
        return {name: self.get_buffer(_key(name)) for name in self.spec.axes}

    def fit(
        self, params: Mapping[str, Tensor], *, start: int = 0, rounds: int = 2, limit: int = 256
    ) -> Canonicalizer:
        """Set the reference: row ``start``, then ``rounds`` times the mean of aligned members.

        At most ``limit`` members take part. Integer tensors stay those of the row.
        """
        every = -(-check_rows(self.spec, params, "params", one="member") // limit)
        some = {name: tensor[::every] for name, tensor in params.items()}
        self._set({name: tensor[start] for name, tensor in self.fixed(params).items()})
        for _ in range(rounds):
            self._set(mean_of(self(some), self.reference))
        return self

    def fixed(self, params: Mapping[str, Tensor]) -> Params:
        """The same functions with scales and signs of units fixed, where ``units`` asks for it."""
        if not self.units:
            return dict(params)
        scaled = balanced_scales if self.units == "balanced" else canonical_scales
        return canonical_signs(self.spec, scaled(self.spec, params), self.odd)

    def _set(self, values: Mapping[str, Tensor]) -> None:
        for name, value in values.items():
            self.get_buffer(_key(name)).copy_(value)

    def forward(self, params: Mapping[str, Tensor], *, member: Tensor | None = None) -> Params:
        """Align ``params`` (N, ...); rows with the same number in ``member`` (N,) move alike.

        That is for checkpoints of one run: ``sum_i <ref, g.theta_i> = <ref, g.sum_i theta_i>``, so
        their sum is matched.
        """
        count = check_rows(self.spec, params, "params", one="member")
        params = self.fixed(params)
        if member is None:
            return _laid_out(align(self.spec, params, self.reference, matcher=self.matcher))
        if member.shape != (count,):
            raise ValueError(
                f"member: shape {tuple(member.shape)}, but one number for each of the {count} "
                "rows is needed"
            )
        runs, run = member.unique(return_inverse=True)
        total = stack([_sum(params, run == k) for k in range(len(runs))])
        found = match(self.spec, self.reference, total, self.matcher)
        return _laid_out(found.element[run](params)) if self.spec.groups else dict(params)


def _sum(params: Mapping[str, Tensor], rows: Tensor) -> Params:
    return {
        name: tensor[rows].sum(0) if tensor.is_floating_point() else tensor[rows][0]
        for name, tensor in params.items()
    }


def _laid_out(params: Mapping[str, Tensor]) -> Params:
    """The same with rows in order in memory: sums over members are then added in one order."""
    return {name: tensor.contiguous() for name, tensor in params.items()}


def _key(name: str) -> str:
    return "reference/" + name.replace(".", "/")
