"""Whether an aligned checkpoint computes what it did before, by running the network on both.

    error = max |f(theta)(x) - f(g.theta)(x)| / max |f(theta)(x)|

In double precision where the network runs in it, in its own otherwise; the values of x are random.
A permutation adds numbers in another order and changes nothing else, so that more than rounding
means that the specification is wrong, and nothing is written.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from wsl.cli.networks import CODE_FAILS, Inputs
from wsl.cli.targets import ConfigError
from wsl.cli.terminal import detail
from wsl.matching import Match
from wsl.params import Params, call
from wsl.symmetry import Permutation

Pair = tuple[Params, Params]
"""B, and B as it was aligned."""
TOLERANCE = 1e-4
"""Of the relative error; networks that compute in single precision inside stay well below."""
_LARGE = 1 << 28
"""Weights from which on a copy in double precision is not worth its memory."""


def check_function(
    model: nn.Module | None, inputs: Inputs | None, pair: Pair, *, found: Match
) -> float | None:
    """The error between B and B as it was aligned; None where the network cannot be run.

    Raises `ConfigError` for a permutation that changes the function.
    """
    if model is None or inputs is None:
        return None
    error = _error(model, inputs, pair)
    if error is None:
        detail("not verified: the network does not run on these inputs")
    elif isinstance(found.element, Permutation) and not error <= TOLERANCE:
        raise ConfigError(
            f"the aligned checkpoint computes something else than B (relative error {error:.1e}): "
            "the specification is wrong, and nothing is written; prove it with wsl spec MODEL "
            "--verify, or go on with --no-verify"
        )
    return error


def _error(model: nn.Module, inputs: Inputs, pair: Pair) -> float | None:
    large = sum(tensor.numel() for tensor in pair[0].values()) >= _LARGE
    for kind in (torch.float32,) if large else (torch.float64, torch.float32):
        try:
            before, after = (_outputs(model, theta, inputs, kind=kind) for theta in pair)
        except CODE_FAILS:
            continue
        return _difference(before, after)
    return None


@torch.no_grad()
def _outputs(model: nn.Module, theta: Params, inputs: Inputs, *, kind: torch.dtype) -> list[Tensor]:
    """Everything real that the network gives, computed in ``kind``."""
    runs = copy.deepcopy(model).to(kind).eval()
    args, named = pytree.tree_map_only(Tensor, lambda t: _of(t, kind), inputs)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        given = call(
            runs, {name: _of(tensor, kind) for name, tensor in theta.items()}, *args, **named
        )
    leaves = [leaf for leaf in pytree.tree_leaves(given) if isinstance(leaf, Tensor)]
    return [leaf for leaf in leaves if leaf.is_floating_point()]


def _of(tensor: Tensor, kind: torch.dtype) -> Tensor:
    return tensor.to(kind) if tensor.is_floating_point() else tensor


def _difference(before: list[Tensor], after: list[Tensor]) -> float | None:
    """The largest error of any output; None of a network that gives nothing real."""
    errors = [
        float((a - b).abs().max() / a.abs().max().clamp_min(torch.finfo(a.dtype).tiny))
        for a, b in zip(before, after, strict=True)
        if a.numel()
    ]
    return max(errors, default=None)
