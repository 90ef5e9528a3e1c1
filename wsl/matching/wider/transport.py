"""Bring a network to another's widths by optimal transport of its units.

    T_p = argmin <C_p, T>   over T >= 0 with T 1 = 1/m, T^T 1 = 1/n
    C_p[b, a] = ||x_b - x_a||^2
    written along p:  W'[a, .] = n sum_b T[b, a] W[b, .]
    read along p:     W'[., a] = m sum_b T[b, a] W[., b]

Singh and Jaggi (2020), arXiv 1910.05653: groups are solved one after another from what is fixed or
already solved, each by the earth mover's distance between uniform masses; with a temperature the
transport is soft. Their formula divides by the mass of the new units on both sides; here what is
read divides by that of the old ones, so that every old unit is replaced by a mean of new ones and
the sum over them keeps its size. For equal widths both are the same, and the transport is an
assignment.

Guarantees: a network whose units have been split, or only permuted, is brought back exactly. Not
guaranteed: anything near it. It is a single pass, ``sweeps`` more go over all groups again; use
`wsl.match` for equal widths. Families are not transported.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wsl.matching.blocks import MatchingPlan, plan, unfold
from wsl.matching.problem import check_weights
from wsl.matching.solvers import aligned_tensors, assign
from wsl.matching.wider.assemble import assembled, written_atoms
from wsl.matching.wider.checks import check_single
from wsl.matching.wider.sides import axis_written
from wsl.params import Params
from wsl.symmetry import PermutationSpec, Piece, SpecError, pieces, windows

_LARGEST = 2048
"""Units up to which an exact transport is an assignment of copies; beyond, a linear program."""

Plans = Mapping[str, Tensor]
"""The mass that each unit of b sends to each unit of a, (m, n), by group."""


@dataclasses.dataclass(frozen=True, eq=False)
class Transported:
    """b at a's widths, and the plans that brought it there."""

    params: Params
    plans: Plans


@torch.no_grad()
def transport(
    specs: tuple[PermutationSpec, PermutationSpec],
    a: Mapping[str, Tensor],
    b: Mapping[str, Tensor],
    *,
    temperature: float | None = None,
    sweeps: int = 0,
    written: Mapping[str, int] | None = None,
) -> Transported:
    """Bring ``b`` to the widths of ``a``; ``specs`` are those of a and b, alike but for sizes.

    temperature: of a soft transport, in units of the mean cost; None is the exact one.
    sweeps: passes over all groups after the first, in which every weight takes part.
    written: the axis that a tensor is written along where that is not the first; `written_axes`.
    Raises `SpecError` for weights that do not fit, annotations that differ, and families.
    """
    _check(specs[0], a, "a")
    _check(specs[1], b, "b")
    _check_alike(*specs)
    problem = _Problem(specs, a, b, written=written)
    for _ in range(1 + sweeps):
        for name in problem.order:
            problem.solve(name, temperature=temperature)
    value = functools.partial(_piece, theta=b, plans=problem.plans)
    moved = assembled((specs[1], specs[0]), b, value, written=written)
    return Transported(moved, problem.plans)


def optimal_plan(cost: Tensor, temperature: float | None = None) -> Tensor:
    """The transport (m, n) of least cost between uniform masses, exact or soft, in float64."""
    (m, n), cost = cost.shape, cost.double()
    if temperature is not None:
        return _soft_plan(cost / (temperature * cost.mean().clamp(min=1e-30)))
    return _plan_by_copies(cost) if math.lcm(m, n) <= _LARGEST else linear_program(cost)


def _plan_by_copies(cost: Tensor) -> Tensor:
    """Copies of equal mass turn the transport into an assignment, which has an integral optimum."""
    m, n = cost.shape
    k = math.lcm(m, n)
    copies = cost.repeat_interleave(k // m, 0).repeat_interleave(k // n, 1)
    chosen = assign(-copies)
    flat = torch.arange(k) // (k // m) * n + chosen.cpu() // (k // n)
    return torch.bincount(flat, minlength=m * n).view(m, n).to(cost) / k


def _soft_plan(cost: Tensor, iterations: int = 200) -> Tensor:
    """Sinkhorn's iteration on logarithms, to the masses 1/m and 1/n."""
    log = -cost
    for _ in range(iterations):
        log = log - log.logsumexp(1, keepdim=True) - math.log(cost.shape[0])
        log = log - log.logsumexp(0, keepdim=True) - math.log(cost.shape[1])
    return log.exp()


def linear_program(cost: Tensor) -> Tensor:
    """The same by linear programming, for any sizes."""
    from scipy.optimize import linprog

    matrix, mass = _marginals(*cost.shape)
    flat = cost.flatten().cpu().numpy()
    # One of the constraints follows from all others.
    found = linprog(flat, A_eq=matrix[:-1], b_eq=mass[:-1], method="highs")
    return torch.from_numpy(found.x).view(*cost.shape).to(cost)


def _marginals(m: int, n: int) -> tuple[Any, np.ndarray]:
    """Sums over rows and columns of a plan (m, n), as a sparse matrix, and what they must be."""
    from scipy import sparse

    rows = sparse.kron(sparse.eye(m), np.ones((1, n)))
    columns = sparse.kron(np.ones((1, m)), sparse.eye(n))
    mass = np.concatenate([np.full(m, 1 / m), np.full(n, 1 / n)])
    return sparse.vstack([rows, columns]).tocsr(), mass


def _check(spec: PermutationSpec, theta: Mapping[str, Tensor], which: str) -> None:
    check_single(spec, theta, which)
    check_weights(spec, theta, which)


def _check_alike(mine: PermutationSpec, other: PermutationSpec) -> None:
    if mine.annotations != other.annotations or set(mine.groups) != set(other.groups):
        raise SpecError("transport: the specifications differ in more than the sizes of groups")
    if family := next((g.name for g in mine.declared if g.per is not None), None):
        raise SpecError(f"transport: group '{family}' is a family, which is not transported")


class _Problem:
    """Pieces of both networks, and the plans of the groups that are solved."""

    def __init__(
        self,
        specs: tuple[PermutationSpec, PermutationSpec],
        a: Mapping[str, Tensor],
        b: Mapping[str, Tensor],
        *,
        written: Mapping[str, int] | None,
    ) -> None:
        self.specs, self.a, self.b = specs, a, b
        self.like = torch.empty(0, device=next(iter(a.values())).device)
        names = aligned_tensors(a)
        self.pairs = list(zip(*(pieces(spec, names) for spec in specs), strict=True))
        self.written = [_written(specs[1], piece, written) for _, piece in self.pairs]
        self.order = _order(plan(specs[0], names))
        self.plans: dict[str, Tensor] = {}

    def solve(self, group: str, *, temperature: float | None) -> None:
        """The plan of one group, from the pieces whose other axes are fixed or solved."""
        mine, theirs = (spec.groups[group] for spec in self.specs)
        cost = self.like.new_zeros(theirs, mine)
        for pair, written in zip(self.pairs, self.written, strict=True):
            # Where the group acts twice, its other axis is not at a's width yet.
            if pair[0].atoms.count(group) == 1 and self._knows_rest(pair[0], group):
                cost += self._costs(group, pair, written)
        self.plans[group] = optimal_plan(cost, temperature)

    def _knows_rest(self, piece: Piece, group: str) -> bool:
        """Whether all axes of a piece are fixed or solved, but for those of the group."""
        return all(
            atom == group or atom in self.plans or isinstance(atom, int) for atom in piece.atoms
        )

    def _costs(self, group: str, pair: tuple[Piece, Piece], written: range) -> Tensor:
        """|x_b - x_a|^2 of all units of b and of a in one piece, (m, n)."""
        mine, other = pair
        rest = {name: p for name, p in self.plans.items() if name != group}
        theirs = _along(other, other.cut(self.b, self.like), written, plans=rest)
        axis = mine.atoms.index(group)
        x, y = (unfold(t[None], (axis,))[0] for t in (mine.cut(self.a, self.like), theirs))
        share = 1.0 if axis in written else len(y) / len(x)
        return torch.cdist(share * y, x).square()


def _order(cut: MatchingPlan) -> tuple[str, ...]:
    """The groups, first those of which most weights are tied to what is known."""
    return cut.order([float(math.prod(piece.shape)) for piece in cut.pieces])


def _written(spec: PermutationSpec, piece: Piece, written: Mapping[str, int] | None) -> range:
    """The axes of a piece that its tensor is written along."""
    axes = spec.axes[piece.tensor]
    choice = [
        next(w for w in windows(spec, axis) if w.start == start)
        for axis, (start, _) in zip(axes, piece.window, strict=True)
    ]
    return written_atoms(choice, axis_written(piece.tensor, written))


def _piece(piece: Piece, written: range, *, theta: Mapping[str, Tensor], plans: Plans) -> Tensor:
    like = torch.empty(0, dtype=torch.float64, device=theta[piece.tensor].device)
    return _along(piece, piece.cut(theta, like), written, plans=plans)


def _along(piece: Piece, tensor: Tensor, written: range, *, plans: Plans) -> Tensor:
    """A piece of b with every axis whose group has a plan brought to a's width."""
    for axis, atom in enumerate(piece.atoms):
        if atom in plans:
            mass = plans[str(atom)].to(tensor)
            mass = mass * (mass.shape[1] if axis in written else mass.shape[0])
            tensor = torch.tensordot(tensor.movedim(axis, -1), mass, 1).movedim(-1, axis)
    return tensor
