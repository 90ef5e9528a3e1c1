"""Checks of what a layer claims: equivariance, invariance, and completeness by its rank.

    equivariant:  f(g.theta) = g.f(theta)
    invariant:    f(g.theta) = f(theta)         for random group elements g
    rank          dim span { H_w : w weights of the layer },  H_w the affine map at weights w

The rank is the check that finds missing and redundant basis elements, which equivariance alone
cannot see. A check on random elements is evidence, not proof. The group acts on weights of shape
(batch, *axes, *channels).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from wsl.params import Params
from wsl.symmetry import Permutation, PermutationSpec

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5, torch.bfloat16: 5e-2, torch.float16: 5e-3}


def assert_equivariant(
    layer: Callable[[Params], Mapping[str, Tensor]],
    spec: PermutationSpec,
    params: Params,
    *,
    channel_dims: int = 1,
    trials: int = 3,
    seed: int = 0,
    tolerance: float | None = None,
) -> None:
    """Raise AssertionError naming the tensor unless ``layer(g(params)) == g(layer(params))``.

    ``channel_dims`` is the number of axes after the axes of the specification, the same for input
    and output. The tolerance, by default 1e-10 in float64 and 1e-5 in float32, is relative to the
    largest output.
    """
    expected = layer(params)
    for g in _elements(spec, trials, seed):
        found = layer(act(g, params, channel_dims=channel_dims))
        moved = act(g, expected, channel_dims=channel_dims)
        for name, tensor in moved.items():
            _assert_close(
                found[name],
                tensor,
                tolerance=tolerance,
                what=f"{name}: the layer is not equivariant",
            )


def assert_invariant(
    network: Callable[[Params], Tensor],
    spec: PermutationSpec,
    params: Params,
    *,
    trials: int = 3,
    seed: int = 0,
    tolerance: float | None = None,
) -> None:
    """Raise AssertionError unless ``network(g(params)) == network(params)``.

    Tensors are (batch, *axes).
    """
    expected = network(params)
    for g in _elements(spec, trials, seed):
        _assert_close(
            network(g(params)), expected, tolerance=tolerance, what="the network is not invariant"
        )


def act(g: Permutation, params: Mapping[str, Tensor], *, channel_dims: int = 1) -> Params:
    """g.params, for tensors with ``channel_dims`` axes after those of the specification."""
    if not channel_dims:
        return g(params)
    front, back = list(range(channel_dims)), list(range(-channel_dims, 0))
    moved = g({name: tensor.movedim(back, front) for name, tensor in params.items()})
    return {name: tensor.movedim(front, back) for name, tensor in moved.items()}


def layer_rank(layer: nn.Module, params: Params) -> int:
    """Dimension of the span of the affine maps that the weights of ``layer`` reach.

    ``layer`` must be linear in its own weights; ``params`` (1, *axes, channels) only tells shapes
    and dtype. The cost grows with the square of both: give tiny specifications, in float64.
    """
    inputs = _enough_inputs(params)
    names = [name for name, _ in layer.named_parameters()]
    weights = [weight.detach() for weight in layer.parameters()]

    def outputs(*weights: Tensor) -> Tensor:
        theta = dict(zip(names, weights, strict=True))
        found: Any = torch.func.functional_call(layer, theta, (inputs,))
        return torch.cat([t.flatten() for t in found.values()])

    # One column for each unit vector of the layer's weights: linear in them, they span all maps.
    sizes = [w.numel() for w in weights]
    units = torch.eye(sum(sizes), dtype=weights[0].dtype).split(sizes, 1)
    basis = [unit.reshape(-1, *w.shape) for unit, w in zip(units, weights, strict=True)]
    columns = torch.vmap(outputs, chunk_size=64)(*basis)
    return int(torch.linalg.matrix_rank(columns @ columns.T, rtol=1e-9))


def _enough_inputs(params: Params) -> Params:
    """As many random inputs as determine an affine map: one more than there are entries."""
    count = 1 + sum(t.numel() for t in params.values())
    rng = torch.Generator().manual_seed(0)
    return {
        name: torch.randn((count, *t.shape[1:]), generator=rng, dtype=t.dtype)
        for name, t in params.items()
    }


def _elements(spec: PermutationSpec, trials: int, seed: int) -> list[Permutation]:
    rng = torch.Generator().manual_seed(seed)
    return [Permutation.random(spec, rng) for _ in range(trials)]


def _assert_close(found: Tensor, expected: Tensor, *, tolerance: float | None, what: str) -> None:
    allowed = TOLERANCE.get(expected.dtype, 1e-5) if tolerance is None else tolerance
    error = (found - expected).abs().max().item() / max(1.0, expected.abs().max().item())
    if not error <= allowed:
        raise AssertionError(f"{what}: relative difference {error:.2e} exceeds {allowed:.0e}")
