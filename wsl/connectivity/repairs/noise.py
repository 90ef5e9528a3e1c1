"""REPAIR without data, on noise that has the spectrum of natural images.

    |F x|(f) = |f|^-a |F z|(f),     z white,     x then of mean 0 and variance 1 over all images

Amplitudes of natural images fall with the frequency, a about 1: Field (1987), doi
10.1364/JOSAA.4.002379. What `repair` wants of data is how far units of the members go together,
and most of that lies in the weights. While the noise runs, every batch norm of the merged network
and of its members divides by the deviation of the noise itself, so that noise stays in the range
for which the weights were learned, however deep; the statistics that are written are the members'
own, times what the merged network shows over what they show (`statistics`). The rest is `repair`:
Jordan et al. (2023), arXiv 2211.08403. The use of noise for it is ours.

Guarantees: a network that is its own only member stays as it is; it commutes with permutations;
equal seeds give equal weights. Not done: inputs that are whole numbers, such as tokens. Inputs
without axes behind the channels are white; noise has no objects, and its channels no correlation,
so that a repair on a few hundred inputs is better wherever there are any.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from wsl.connectivity.repairs.affine import Sweep
from wsl.connectivity.repairs.lockstep import Lockstep, called
from wsl.connectivity.repairs.program import named, operation, program_of
from wsl.connectivity.repairs.result import Repaired, result_of, shares_of


def repair_on_noise(
    model: nn.Module,
    params: Mapping[str, Tensor],
    members: Sequence[Mapping[str, Tensor]],
    *,
    example: Tensor,
    weights: Sequence[float] | None = None,
    draws: int = 128,
    falloff: float = 1.0,
) -> Repaired:
    """Give ``params``, merged of aligned ``members``, the statistics its members show on noise.

    example: inputs on which the network runs; only their shape and type are used.
    weights: the shares lambda of the members, equal unless given.
    draws: how many inputs are drawn, always the same ones. falloff: the a of their spectrum.
    Raises ValueError for members that differ from ``params``, for inputs that are whole numbers,
    and for a network that cannot be read.
    """
    shares = shares_of(params, members, weights, what="repair_on_noise")
    noise = noise_like(example, draws, falloff=falloff)
    fresh = {name: tensor.detach().clone() for name, tensor in params.items()}
    program = program_of(model, noise)
    run = Lockstep(program, fresh, members=members, batches=[noise], apply=_standardised)
    sweep = Sweep(run, shares)
    run.run(sweep.before, sweep.after)
    return result_of(run, params, sweep.sites, what="repair_on_noise")


def noise_like(example: Tensor, draws: int, *, falloff: float = 1.0, seed: int = 0) -> Tensor:
    """Normal noise (draws, ...) of the type of ``example`` (N, channels, ...), of mean 0 and
    variance 1.

    Along the axes behind the channels amplitudes fall with the frequency to the power ``falloff``.
    """
    if not example.is_floating_point():
        raise ValueError(
            f"repair_on_noise: the inputs are {example.dtype}, and noise is of real numbers; use "
            "repair with inputs, or repair_closed_form"
        )
    rng = torch.Generator().manual_seed(seed)
    white = torch.randn(draws, *example.shape[1:], generator=rng, dtype=torch.float64)
    if white.dim() > 2 and falloff:
        white = _coloured(white, falloff)
    return white.to(example)


def _coloured(white: Tensor, falloff: float) -> Tensor:
    axes = tuple(range(2, white.dim()))
    spectrum = torch.fft.fftn(white, dim=axes) * _frequency(white.shape[2:]) ** -falloff
    found = torch.fft.ifftn(spectrum, dim=axes).real
    return (found - found.mean()) / found.std()


def _frequency(sizes: Sequence[int]) -> Tensor:
    """The length of every frequency of a grid; the constant one counts as the lowest other."""
    each = torch.meshgrid(*map(torch.fft.fftfreq, sizes), indexing="ij")
    length = torch.stack(each).double().square().sum(0).sqrt()
    return length.clamp(min=1 / max(sizes))


def _standardised(node: fx.Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """An operation's result, where batch norm divides by the deviation of what it reads."""
    if operation(node) != "batch_norm":
        return called(node, args, kwargs)
    given = named(node, args, kwargs)
    how = {name: given.get(name) for name in ("weight", "bias", "eps")}
    return F.batch_norm(given["input"], None, None, training=True, **how)  # type: ignore[arg-type]
