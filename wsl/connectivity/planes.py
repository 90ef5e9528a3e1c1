"""Losses on the plane through three networks.

    theta(x, y) = a + x u + y v,      u = (b - a) / |b - a|,
                                      v = (c - a - <c - a, u> u) normalised

Garipov et al. (2018), appendix A.1, arXiv 1802.10026. Distances in the figure are distances of
weights; batch-norm statistics and counters do not count. Outside of the triangle the statistics are
extrapolated too, but no variance below zero. Nothing is aligned here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from wsl.connectivity.learned import learned
from wsl.connectivity.paths import Evaluate
from wsl.params import Params, check_alike, is_running_variance


@dataclasses.dataclass(frozen=True, eq=False)
class PlaneLosses:
    """Loss and accuracy (rows, columns) at the heights ``y`` (rows,) and at ``x`` (columns,).

    ``corners`` (3, 2) holds x and y of the three networks. All are float64, on the CPU.
    """

    x: Tensor
    y: Tensor
    loss: Tensor
    accuracy: Tensor
    corners: Tensor


def plane(
    evaluate: Evaluate,
    *corners: Mapping[str, Tensor],
    points: int = 15,
    margin: float = 0.2,
    prepare: Callable[[Params], Params] | None = None,
) -> PlaneLosses:
    """Evaluate ``points`` x ``points`` networks of the plane through ``corners`` a, b and c.

    ``margin`` is how far the grid goes beyond the corners, as a share of its width; ``prepare`` is
    applied to every network first. Raises ValueError unless there are three networks of one
    architecture that are not on one line.
    """
    _check(corners, points)
    places = _corners(corners)
    x, y = (_grid(places[:, axis], points, margin) for axis in (0, 1))
    rows = []
    with torch.no_grad():
        for at in torch.cartesian_prod(y, x).flip(-1):
            theta = _combination(corners, _shares(places, at))
            told = evaluate(prepare(theta) if prepare else theta)
            rows.append([float(number) for number in told])
    loss, accuracy = torch.tensor(rows, dtype=torch.float64).T.reshape(2, points, points)
    return PlaneLosses(x, y, loss, accuracy, places)


def _check(corners: tuple[Mapping[str, Tensor], ...], points: int) -> None:
    if len(corners) != 3:
        raise ValueError(f"plane: got {len(corners)} networks, but three span a plane")
    if points < 2:
        raise ValueError(f"plane: points is {points}, but a side of the grid has at least 2")
    for other in corners[1:]:
        check_alike(corners[0], other)


def _corners(networks: tuple[Mapping[str, Tensor], ...]) -> Tensor:
    """Coordinates (3, 2) of the networks: a at zero, b on the first axis."""
    a, b, c = (_weights(network) for network in networks)
    along, other = b - a, c - a
    length = along.norm()
    x = other @ along / length
    height = (other - x * along / length).norm()
    if not length or not height > 1e-7 * other.norm():
        raise ValueError("plane: the three networks lie on one line, which spans no plane")
    corners = [[0.0, 0.0], [float(length), 0.0], [float(x), float(height)]]
    return torch.tensor(corners, dtype=torch.float64)


def _weights(network: Mapping[str, Tensor]) -> Tensor:
    return torch.cat([network[n].detach().double().flatten().cpu() for n in learned(network)])


def _grid(values: Tensor, points: int, margin: float) -> Tensor:
    low, high = float(values.min()), float(values.max())
    over = margin * (high - low)
    return torch.linspace(low - over, high + over, points, dtype=torch.float64)


def _shares(places: Tensor, at: Tensor) -> Tensor:
    """The shares (3,) of the corners, summing to one, that give the point ``at``."""
    ones = torch.ones(3, dtype=torch.float64)
    return torch.linalg.solve(torch.stack([*places.T, ones]), torch.cat([at, ones[:1]]))


def _combination(networks: tuple[Mapping[str, Tensor], ...], shares: Tensor) -> Params:
    mixed: Params = {}
    for name, first in networks[0].items():
        if not first.is_floating_point():
            mixed[name] = first.clone()
            continue
        pairs = zip(shares.tolist(), networks, strict=True)
        total = torch.zeros_like(first)
        for share, network in pairs:
            total = total + share * network[name].to(first)
        mixed[name] = total.clamp(min=0) if is_running_variance(name) else total
    return mixed
