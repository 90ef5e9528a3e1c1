"""Weight matching: align two networks by their weights alone, one group of units at a time.

    maximise over g   sum_t <W_a^t, g.W_b^t>
    for one group p, the others fixed:   A_p = sum_t unfold(W_a^t, p) unfold(g.W_b^t, p)^T,   g_p <-
        argmax_P <A_p, P>

Ainsworth, Hayase, Srinivasa (2023), section 3.2, arXiv 2209.04836. The first pass is anchored
instead: groups are solved in the order of how much of their weight is tied to axes that are fixed
or already solved, and the rest of it is ignored. Coordinate ascent from the identity misses planted
permutations of residual networks that the anchored start finds.

Guarantees: the objective never falls from sweep to sweep and is never below that of the identity;
at convergence no single group, its families included, can be improved where the objective is linear
in it. Where a group acts twice on one tensor (recurrent and tied weights) the objective is
quadratic in it: steps follow the gradient and are taken only if they gain; two families in one
product are treated alike. Not guaranteed: a global optimum, which is NP-hard. Scales and signs are
not matched.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from wsl.matching.result import Match
from wsl.matching.solvers.ascent import Ascent
from wsl.symmetry import Permutation, PermutationSpec, plan

BUFFERS = ("running_mean", "running_var", "num_batches_tracked")
"""Statistics of the data, not weights: they are carried along but do not vote."""


@dataclasses.dataclass(frozen=True)
class WeightMatching:
    """Coordinate ascent by exact assignments.

    max_sweeps: passes over all groups, the anchored one included.
    ignore: tensors whose last name is listed do not vote; integer tensors never do.
    anchored: whether the first pass leaves out what is not yet known; otherwise the ascent starts
    at the identity.
    seed: of the order in which groups are visited.
    """

    max_sweeps: int = 100
    ignore: tuple[str, ...] = BUFFERS
    anchored: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        if self.max_sweeps < 1:
            raise ValueError(
                f"WeightMatching: max_sweeps is {self.max_sweeps}, but at least one sweep is needed"
            )

    @torch.no_grad()
    def solve(
        self, spec: PermutationSpec, a: Mapping[str, Tensor], b: Mapping[str, Tensor], /
    ) -> Match:
        """Find a permutation that brings ``b`` to ``a``; see `wsl.match`, which checks its inputs
        first.
        """
        names = voters(a, self.ignore)
        ascent = Ascent(plan(spec, names), a, b, indices=Permutation.identity(spec).indices)
        sweeps = 0
        if self.anchored:
            ascent.anchor()
            sweeps = 1
        rng = torch.Generator().manual_seed(self.seed)
        while ascent.open and sweeps < self.max_sweeps:
            ascent.sweep(rng)
            sweeps += 1
        permutation = Permutation(spec, ascent.indices)
        return Match(permutation, inner_product(a, permutation(b), names), sweeps, not ascent.open)


def voters(params: Mapping[str, Tensor], ignore: Iterable[str] = BUFFERS) -> tuple[str, ...]:
    """Names of the floating tensors whose last name is not in ``ignore``."""
    return tuple(
        name
        for name, t in params.items()
        if t.is_floating_point() and name.rpartition(".")[2] not in ignore
    )


def inner_product(a: Mapping[str, Tensor], b: Mapping[str, Tensor], names: Iterable[str]) -> float:
    """sum_t <a_t, b_t> over the tensors ``names``, in float64."""
    return sum(
        float(torch.dot(a[name].flatten().double(), b[name].flatten().to(a[name].device).double()))
        for name in names
    )
