"""What cannot be averaged tensor by tensor: refused by name, or noted, before the merge."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from wsl.cli.checkpoints import Loaded
from wsl.cli.targets import ConfigError
from wsl.cli.terminal import say
from wsl.merging import spectral_norms

_FACTORS = re.compile(
    r"(^|\.)(lora_[AB]|lora_embedding_[AB]|lora_(up|down)|hada_w\d_[ab]|lokr_w\d\w*)\b"
)


def check_mergeable(loaded: Loaded) -> None:
    """Raise `ConfigError` for integer weights that differ and for low-rank factors that differ; say
    that vectors of spectral norms are made new.
    """
    check_averaged(loaded.a, lambda name: _differs(loaded, name))
    if spectral := spectral_norms(loaded.a):
        say(
            f"note: the vectors of {len(spectral)} spectral norms ({spectral[0].u}) are made new "
            "from the merged weights, so that those have norm one",
            error=True,
        )


def check_averaged(shapes: Mapping[str, Tensor], differs: Callable[[str], bool]) -> None:
    """Raise `ConfigError` for integer weights and low-rank factors of which ``differs`` is true.

    ``shapes`` may be on the meta device; only tensors of these two kinds are asked about.
    """
    _check_integers(shapes, differs)
    if factors := [name for name in shapes if _FACTORS.search(name) and differs(name)]:
        raise ConfigError(
            f"{factors[0]} and {len(factors) - 1} more are factors of low-rank adapters: the mean "
            "of products is not the product of means; merge each adapter into its base "
            "first (W + scale B A), then merge the networks"
        )


def _check_integers(shapes: Mapping[str, Tensor], differs: Callable[[str], bool]) -> None:
    for name, tensor in shapes.items():
        whole = not (
            tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool
        )
        if whole and tensor.dim() >= 2 and differs(name):
            kind = str(tensor.dtype).removeprefix("torch.")
            raise ConfigError(
                f"{name}: {kind} weights differ and have no mean: quantised weights go with their "
                "scales; dequantise the checkpoints first"
            )


def _differs(loaded: Loaded, name: str) -> bool:
    return any(not torch.equal(loaded.a[name], member[name]) for member in loaded.members[1:])
