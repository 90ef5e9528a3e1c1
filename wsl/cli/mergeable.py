"""What cannot be averaged tensor by tensor: refused by name, or noted, before the merge."""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch

from wsl.cli.checkpoints import Loaded
from wsl.cli.targets import ConfigError
from wsl.cli.terminal import say

_FACTORS = re.compile(
    r"(^|\.)(lora_[AB]|lora_embedding_[AB]|lora_(up|down)|hada_w\d_[ab]|lokr_w\d\w*)\b"
)
_SPECTRAL = re.compile(r"(^|\.)(weight_u|weight_v|parametrizations\.\w+\.0\._[uv])$")


def check_mergeable(loaded: Loaded) -> None:
    """Raise `ConfigError` for integer weights that differ and for low-rank factors that differ; say
    that vectors of spectral norms are no average.
    """
    names = [name for name in loaded.a if _differs(loaded, name)]
    _check_integers(loaded, names)
    if factors := [name for name in names if _FACTORS.search(name)]:
        raise ConfigError(
            f"{factors[0]} and {len(factors) - 1} more are factors of low-rank adapters: the mean "
            "of products is not the product of means; merge each adapter into its base "
            "first (W + scale B A), then merge the networks"
        )
    if spectral := [name for name in names if _SPECTRAL.search(name)]:
        say(
            f"note: {len(spectral)} vectors of spectral norms ({spectral[0]}) are averaged like "
            "weights, so that the merged weights are not normalised exactly; run the network in "
            "training mode for a few batches to make them new",
            error=True,
        )


def _check_integers(loaded: Loaded, names: Sequence[str]) -> None:
    for name in names:
        tensor = loaded.a[name]
        whole = not (
            tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool
        )
        if whole and tensor.dim() >= 2:
            kind = str(tensor.dtype).removeprefix("torch.")
            raise ConfigError(
                f"{name}: {kind} weights differ and have no mean: quantised weights go with their "
                "scales; dequantise the checkpoints first"
            )


def _differs(loaded: Loaded, name: str) -> bool:
    return any(not torch.equal(loaded.a[name], member[name]) for member in loaded.members[1:])
