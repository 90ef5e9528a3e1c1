"""Weights for a network that has none: what lies on the meta device gets memory, so that `verify`
can fill it.

A shape says nothing of the content, so this is done only for floating-point tensors of the state
dict, which are randomised anyway, and for counters. A table of integers, or a buffer outside the
state dict, would have to be guessed, and is refused.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from wsl.symmetry.spec import SpecError


def refuse_meta(model: nn.Module) -> None:
    """Raise `SpecError` if the model has no weights."""
    if meta := [
        name for name, t in model.state_dict().items() if isinstance(t, Tensor) and t.is_meta
    ]:
        raise SpecError(
            f"{meta[0]}: is on the meta device; verify needs weights, build the model on a real "
            "device "
            "or let verify make random ones with materialize=True"
        )


def materialized(model: nn.Module) -> nn.Module:
    """The same model, its meta tensors replaced on the CPU in float64: ones, and zero for counters;
    ties are kept.
    """
    known = set(model.state_dict())
    made: dict[int, Tensor] = {}
    for prefix, module in model.named_modules():
        for name, tensor in [*module._parameters.items(), *module._buffers.items()]:
            if tensor is None or not tensor.is_meta:
                continue
            where = f"{prefix}.{name}" if prefix else name
            _refuse_unknown(where, tensor, where in known)
            if id(tensor) not in made:
                made[id(tensor)] = _content(tensor)
            setattr(module, name, made[id(tensor)])
    return model


def _refuse_unknown(where: str, tensor: Tensor, saved: bool) -> None:
    if not saved:
        raise SpecError(
            f"{where}: is on the meta device and outside the state dict, so its values cannot be "
            "known or drawn"
        )
    if tensor.dim() and not (tensor.is_floating_point() or tensor.is_complex()):
        raise SpecError(
            f"{where}: holds {tensor.dtype} on the meta device, which cannot be drawn at random; "
            "give it its values"
        )


def _content(tensor: Tensor) -> Tensor:
    if not (tensor.is_floating_point() or tensor.is_complex()):
        return torch.zeros(tensor.shape, dtype=tensor.dtype)
    wide = torch.ones(
        tensor.shape, dtype=torch.complex128 if tensor.is_complex() else torch.float64
    )
    return nn.Parameter(wide) if isinstance(tensor, nn.Parameter) else wide
