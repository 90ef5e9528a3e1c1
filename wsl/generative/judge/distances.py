"""How far networks are from the members of a zoo, and from each other.

    distance     d(theta, zoo) = min_n ||theta - g.theta_n||,   g by matching
    dispersion   rms pairwise distance of samples / the same of the zoo

A distance says something only beside the same inside of the zoo, each member left out once; samples
with a dispersion below 0.8 have collapsed. Zeng et al. (2025), arXiv 2506.07998. Distances are of
the weights that are learned, up to the symmetries that the matcher searches and no others: networks
that differ by a scale of units are apart here and do the same, see `behaviour`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from wsl.matching import WeightMatching, match
from wsl.params import Params, is_learned, ravel, unstack
from wsl.symmetry import PermutationSpec

_MANY = 256
"""Members that are matched at once: what bounds the memory."""


class Nearest(NamedTuple):
    """The nearest neighbour of each network after alignment.

    distance: float64 (n,). index: the neighbour's row, int64 (n,).
    """

    distance: Tensor
    index: Tensor


def aligned_nearest(
    spec: PermutationSpec,
    samples: Mapping[str, Tensor],
    zoo: Mapping[str, Tensor],
    *,
    shortlist: int | None = None,
    matcher: WeightMatching | None = None,
) -> Nearest:
    """Nearest member of ``zoo`` (N, ...) to each of ``samples`` (n, ...), after matching.

    0 up to rounding for a permuted copy of a member. Costs up to n N matchings; ``shortlist``
    limits them to that many members per sample, the closest as given: only sound when both are
    aligned to one reference. Compare it with `leave_one_out`.
    """
    rows = _closest(samples, zoo, shortlist)
    found = [
        torch.cat(
            [
                _distances(spec, theta, _rows(zoo, some), matcher=matcher)
                for some in row.split(_MANY)
            ]
        )
        for theta, row in zip(unstack(samples), rows, strict=True)
    ]
    least = [distance.min(0) for distance in found]
    index = torch.stack([row[place] for row, (_, place) in zip(rows, least, strict=True)])
    return Nearest(torch.stack([distance for distance, _ in least]), index)


def leave_one_out(
    spec: PermutationSpec,
    zoo: Mapping[str, Tensor],
    *,
    rows: Tensor,
    member: Tensor,
    shortlist: int | None = None,
    matcher: WeightMatching | None = None,
) -> Nearest:
    """How far real networks are apart: the nearest to ``rows`` of the zoo among other members.

    member: (N,), the run of each row; checkpoints of one run are near each other and would make
    everything look new.
    """

    def among_others(i: int) -> Nearest:
        others = (member != member[i]).nonzero()[:, 0]
        one, rest = _rows(zoo, slice(i, i + 1)), _rows(zoo, others)
        near = aligned_nearest(spec, one, rest, shortlist=shortlist, matcher=matcher)
        return Nearest(near.distance, others[near.index])

    found = [among_others(i) for i in rows.tolist()]
    return Nearest(*(torch.cat(parts) for parts in zip(*found, strict=True)))


def dispersion_ratio(samples: Mapping[str, Tensor], zoo: Mapping[str, Tensor]) -> float:
    """Root mean square distance between samples, divided by that between members of the zoo.

    Over the tensors that are learned. Align both first.

    >>> import torch
    >>> members = {"w": torch.tensor([[0.0], [2.0], [4.0]])}
    >>> dispersion_ratio({"w": members["w"] / 4}, members)
    0.25
    """
    return float(_spread(samples) / _spread(zoo))


@torch.no_grad()
def _distances(
    spec: PermutationSpec,
    theta: Mapping[str, Tensor],
    members: Mapping[str, Tensor],
    *,
    matcher: WeightMatching | None,
) -> Tensor:
    """Of one network to each of ``members`` after matching, (N,) float64, all matched at once.

    Over the tensors that are learned, as `wsl.matching.aligned_distance` has them.
    """
    moved = match(spec, theta, members, matcher)(members)
    squares = [
        (moved[name] - tensor).double().reshape(len(moved[name]), -1).square().sum(1)
        for name, tensor in theta.items()
        if is_learned(name, tensor)
    ]
    return torch.stack(squares).sum(0).sqrt().cpu()


def _rows(params: Mapping[str, Tensor], chosen: Tensor | slice) -> Params:
    return {name: tensor[chosen] for name, tensor in params.items()}


def _spread(params: Mapping[str, Tensor]) -> Tensor:
    x = _flat(params)
    return (x - x.mean(0)).square().sum(1).mean().sqrt() * (len(x) / max(1, len(x) - 1)) ** 0.5


def _closest(
    samples: Mapping[str, Tensor], zoo: Mapping[str, Tensor], shortlist: int | None
) -> list[Tensor]:
    n, count = (len(next(iter(params.values()))) for params in (samples, zoo))
    if shortlist is None or shortlist >= count:
        return [torch.arange(count)] * n
    return list(torch.cdist(_flat(samples), _flat(zoo)).topk(shortlist, largest=False).indices)


def _flat(params: Mapping[str, Tensor]) -> Tensor:
    """The weights that are learned: statistics of batch norm follow from them and the data."""
    return ravel(
        {name: t for name, t in params.items() if is_learned(name, t)}, batch_dims=1
    ).double()
