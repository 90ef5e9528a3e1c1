"""Descent: the tree in which checkpoints of one family come from each other at least cost.

    cost(i -> j) = d_ij + .3 mean(d) 1[kurtosis_j > kurtosis_i]      minimum arborescence

Horwitz, Shul, Hoshen (2025), MoTHer, section 4, arXiv 2405.18432: distances say who is related, and
kurtosis of the weights, which falls from parent to child as training goes on, says who came first.
The arborescence is Edmonds' (1967). Distances here are those of all weights, relative to their
norms, after alignment where the caller aligned them.

It always returns a tree: whether the members are related at all is the question of `common_origin`.
The direction is a heuristic, and a weak one: pruning, for one, raises kurtosis.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from wsl.diagnostics.origin.sites import weights_of

PENALTY = 0.3


@dataclasses.dataclass(frozen=True)
class DescentTree:
    """``parents[j]`` is the member that j comes from, None for the root; ``cost`` is their sum."""

    parents: tuple[int | None, ...]
    cost: float

    @property
    def root(self) -> int:
        """The member that all others come from."""
        return self.parents.index(None)

    def children(self, of: int) -> tuple[int, ...]:
        """The members that come directly from one."""
        return tuple(j for j, parent in enumerate(self.parents) if parent == of)


def descent(distances: Tensor, kurtoses: Sequence[float]) -> DescentTree:
    """The minimum arborescence over all roots.

    distances: symmetric (N, N). The mean is over pairs. Raises ValueError unless there are as many
    ``kurtoses`` as rows, at least one.
    """
    count = len(kurtoses)
    _check_square(distances, count)
    if count == 1:
        return DescentTree((None,), 0.0)
    off = ~torch.eye(count, dtype=torch.bool)
    penalty = PENALTY * float(distances[off].double().mean())
    return _arborescence(
        {
            (i, j): float(distances[i, j]) + penalty * (kurtoses[j] > kurtoses[i])
            for i, j in off.nonzero().tolist()
        },
        count,
    )


def _check_square(distances: Tensor, count: int) -> None:
    if distances.shape != (count, count) or not count:
        raise ValueError(
            f"descent: distances have shape {tuple(distances.shape)}, but there are {count} "
            "kurtoses; (N, N) and N of them are needed"
        )


def _arborescence(costs: Mapping[tuple[int, int], float], count: int) -> DescentTree:
    """The tree of least cost over the arrows (parent, child)."""
    import networkx  # torch brings it; it costs a fifth of a second

    graph = networkx.DiGraph()
    for (i, j), cost in costs.items():
        graph.add_edge(i, j, weight=cost)
    tree = networkx.minimum_spanning_arborescence(graph)
    parents: list[int | None] = [None] * count
    for i, j in tree.edges:
        parents[j] = i
    return DescentTree(tuple(parents), float(tree.size("weight")))


@torch.no_grad()
def relative_distances(members: Sequence[Mapping[str, Tensor]]) -> Tensor:
    """|a - b| / sqrt(|a| |b|) over the weights of each pair, float64 (N, N)."""
    names = weights_of(members[0])
    rows = [torch.cat([theta[n].double().flatten().cpu() for n in names]) for theta in members]
    found = torch.zeros(len(rows), len(rows), dtype=torch.float64)
    for i, j in itertools.combinations(range(len(rows)), 2):
        found[i, j] = found[j, i] = _relative_distance(rows[i], rows[j])
    return found


def _relative_distance(a: Tensor, b: Tensor) -> float:
    scale = (float(a.norm()) * float(b.norm())) ** 0.5
    return float((a - b).norm()) / scale if scale else 0.0


@torch.no_grad()
def kurtosis(theta: Mapping[str, Tensor]) -> float:
    """Mean fourth standardised moment of the matrices and kernels, each weighed by its entries."""
    total = count = 0.0
    for x in (theta[name].double() for name in weights_of(theta) if theta[name].dim() > 1):
        centred = x - x.mean()
        variance = float(centred.square().mean())
        if variance:
            total += x.numel() * float(centred.pow(4).mean()) / variance**2
            count += x.numel()
    return total / count if count else 0.0
