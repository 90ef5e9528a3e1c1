"""Which units of aligned networks are merged, and which stay apart, within a budget of width.

At each position of a group stand N units, one of each network. All are apart at first; then the two
clusters at one position are joined whose joining costs least, over all positions of the group,

    cost(A, B) = |A| |B| / (|A| + |B|) ||mean_A - mean_B||^2          (Ward, 1963)

until so many units are left as the budget allows. The pairs that agree least stay apart. Units are
described by all weights that touch them, or by any features that the caller has, such as their
activations on some inputs, standardised: then the distance is one of correlations.
"""

from __future__ import annotations

import dataclasses
import heapq
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from wsl.matching.blocks import unfold
from wsl.matching.solvers import aligned_tensors
from wsl.symmetry import PermutationSpec, Piece, pieces

_Sums = dict[tuple[int, int], Tensor]
"""The sum of the features of each cluster, by its position and its networks."""
_Price = tuple[float, int, int, int]
"""A cost, the position, and the two clusters that are joined for it."""


@dataclasses.dataclass(frozen=True, eq=False)
class Clusters:
    """The units of one wider group: ``position`` (units,), and ``members`` (N, units) bool.

    Unit u stands for the units at ``position[u]`` of the networks that it has as members.
    """

    position: Tensor
    members: Tensor

    def __len__(self) -> int:
        return len(self.position)


def cluster(features: Tensor, units: int) -> Clusters:
    """Join the units of N networks, described by ``features`` (N, n, F), until ``units`` are left.

    At least n are left, one at each position, and at most N n.
    """
    count, size, _ = features.shape
    sums = {(a, 1 << m): features[m, a].double() for a in range(size) for m in range(count)}
    queue = [_priced(sums, a, pair) for a in range(size) for pair in _pairs(count)]
    heapq.heapify(queue)
    while len(sums) > max(units, size):
        _join_cheapest(sums, queue)
    return _as_tensors(sorted(sums), count)


def unit_features(
    spec: PermutationSpec, networks: Sequence[Mapping[str, Tensor]], group: str
) -> Tensor:
    """All weights that touch each unit of ``group``, (N, n, F)."""
    found = []
    for piece in pieces(spec, aligned_tensors(networks[0])):
        for axis in (i for i, atom in enumerate(piece.atoms) if atom == group):
            found.append(torch.stack([_unfolded(piece, theta, axis) for theta in networks]))
    return torch.cat(found, -1)


def _unfolded(piece: Piece, theta: Mapping[str, Tensor], axis: int) -> Tensor:
    """A piece as a matrix, its units along ``axis`` against all others, in float32."""
    like = torch.empty(0, dtype=torch.float32, device=theta[piece.tensor].device)
    return unfold(piece.cut(theta, like)[None], (axis,))[0]


def _pairs(count: int) -> list[tuple[int, int]]:
    """Any two networks, each a cluster of its own."""
    return [(1 << i, 1 << j) for i in range(count) for j in range(i)]


def _join_cheapest(sums: _Sums, queue: list[_Price]) -> None:
    """Join the pair whose joining costs least, and price its joinings with all others there."""
    _, a, one, other = heapq.heappop(queue)
    # A price outlives its clusters when one of them is joined with a third.
    if (a, one) in sums and (a, other) in sums:
        sums[a, one | other] = sums.pop((a, one)) + sums.pop((a, other))
        for price in _prices_of(sums, a, one | other):
            heapq.heappush(queue, price)


def _prices_of(sums: _Sums, a: int, new: int) -> list[_Price]:
    """What joining a new cluster with each other one at its position costs."""
    others = [cluster for b, cluster in sums if b == a and cluster != new]
    return [_priced(sums, a, (new, other)) for other in others]


def _priced(sums: _Sums, a: int, pair: tuple[int, int]) -> _Price:
    """What joining two clusters at a position costs; a cluster is a set of networks, as bits."""
    one, other = pair
    m, n = one.bit_count(), other.bit_count()
    apart = sums[a, one] / m - sums[a, other] / n
    return float(apart.square().sum()) * m * n / (m + n), a, one, other


def _as_tensors(clusters: Sequence[tuple[int, int]], count: int) -> Clusters:
    members = [[bool(bits >> m & 1) for _, bits in clusters] for m in range(count)]
    return Clusters(torch.tensor([a for a, _ in clusters]), torch.tensor(members))
