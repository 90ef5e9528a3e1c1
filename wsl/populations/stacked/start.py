"""Initial weights of N members, each from its own seed and by an initialisation of its own.

    theta_i = scale_i * scheme_i(make() under seed_i)

Scale and scheme act on weights, not on biases and norms. Schemes are those of `torch.nn.init`:
Glorot and Bengio (2010), He et al. (2015), Saxe et al. (2014).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from wsl.base import did_you_mean
from wsl.params import Params, from_module, stack
from wsl.zoo import ZooError

SCHEMES: Mapping[str, Callable[[Tensor], Any]] = {
    "own": lambda _: None,
    "xavier_uniform": nn.init.xavier_uniform_,
    "xavier_normal": nn.init.xavier_normal_,
    "kaiming_uniform": nn.init.kaiming_uniform_,
    "kaiming_normal": nn.init.kaiming_normal_,
    "orthogonal": nn.init.orthogonal_,
    "normal": lambda tensor: nn.init.normal_(tensor, std=0.1),
    "truncated_normal": lambda tensor: nn.init.trunc_normal_(tensor, std=0.1, a=-0.2, b=0.2),
}
"""Names and functions on a tensor in place; ``own`` is what the module's constructor does."""


def initial_population(
    make: Callable[[], nn.Module],
    seeds: Iterable[int],
    *,
    scale: Tensor | None = None,
    scheme: str | Sequence[str] = "own",
) -> Params:
    """Stacked initial weights: member i is ``make()`` under ``torch.manual_seed(seeds[i])``.

    ``scheme``, one of `SCHEMES` for all or one each, draws every tensor of two axes or more anew,
    that is weights and not biases or norms; ``scale`` (N,) multiplies them. The state of torch's
    generator is left as it was.
    """
    seeds = [int(seed) for seed in seeds]
    schemes = [scheme] * len(seeds) if isinstance(scheme, str) else list(scheme)
    with torch.random.fork_rng(devices=[]):
        each = zip(seeds, map(_scheme, schemes), strict=True)
        params = stack([_member(make, seed, scheme) for seed, scheme in each])
    if scale is None:
        return params
    return {name: _scaled(tensor, scale) for name, tensor in params.items()}


def _scheme(name: str) -> Callable[[Tensor], Any]:
    if name not in SCHEMES:
        hint = did_you_mean(name, SCHEMES)
        raise ZooError(f"scheme: {name!r} is not one of {', '.join(SCHEMES)}{hint}")
    return SCHEMES[name]


def _scaled(tensor: Tensor, scale: Tensor) -> Tensor:
    """``tensor`` (N, ...) times ``scale`` (N,), unless it is a vector of each member."""
    if tensor.dim() <= 2:
        return tensor
    return tensor * scale.to(tensor).view(-1, *[1] * (tensor.dim() - 1))


def _member(make: Callable[[], nn.Module], seed: int, scheme: Callable[[Tensor], Any]) -> Params:
    torch.manual_seed(seed)
    model = make()
    for parameter in model.parameters():
        if parameter.dim() >= 2:
            scheme(parameter)
    return from_module(model)
