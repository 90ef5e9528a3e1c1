"""One call of a network that is measured: what goes in, what comes out, the same surroundings."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from wsl.params import Params
from wsl.symmetry.spec import SpecError

_PLAIN = (
    type(None),
    bool,
    int,
    float,
    complex,
    str,
    bytes,
    torch.dtype,
    torch.device,
    torch.layout,
)
"""Objects that hide no tensor."""


@dataclasses.dataclass(frozen=True, eq=False)
class Example:
    """One call of the network, and what to look at."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    training: bool = False
    gradients: bool = False

    def __str__(self) -> str:
        shapes = ", ".join(
            str(tuple(t.shape))
            for t in tree_leaves((self.args, dict(self.kwargs)))
            if isinstance(t, Tensor)
        )
        return (
            "training, " * self.training
            + "gradients, " * self.gradients
            + f"inputs {shapes or 'without tensors'}"
        )


class ForwardPass(NamedTuple):
    """What one forward pass gave; ``random`` names the first operation that drew random numbers."""

    output: Tensor
    tensors: Params
    random: str | None


@contextlib.contextmanager
def alike(seed: int, devices: Collection[torch.device]) -> Iterator[None]:
    """Surroundings that are the same each time.

    The same random numbers, no autocast, nothing compiled, and float64 for what the network makes
    on its way.
    """
    before = torch.get_default_dtype()
    with torch.random.fork_rng(devices=sorted(devices, key=str)), contextlib.ExitStack() as off:
        off.enter_context(torch.compiler.set_stance("force_eager"))
        for kind in {"cpu", *(device.type for device in devices)}:
            off.enter_context(torch.autocast(kind, enabled=False))
        torch.default_generator.manual_seed(seed)
        if devices:
            torch.cuda.manual_seed_all(seed)
        torch.set_default_dtype(torch.float64)
        try:
            yield
        finally:
            torch.set_default_dtype(before)


@contextlib.contextmanager
def put_back(model: nn.Module, *, all_of_them: bool = True) -> Iterator[None]:
    """Buffers that are written or replaced in the block are as they were after it.

    Without ``all_of_them`` those outside the state dict keep what the block made of them.
    """
    kept = [(m, dict(m._buffers), _values(m)) for m in model.modules() if m._buffers]
    try:
        yield
    finally:
        for module, buffers, values in kept:
            lasting = () if all_of_them else module._non_persistent_buffers_set
            _restore(module, {n: t for n, t in buffers.items() if n not in lasting}, values)


def _values(module: nn.Module) -> Params:
    return {name: t.clone() for name, t in module._buffers.items() if t is not None}


@torch.no_grad()
def _restore(module: nn.Module, buffers: Mapping[str, Tensor | None], values: Params) -> None:
    module._buffers.update(buffers)
    for name, tensor in buffers.items():
        if tensor is not None:
            tensor.copy_(values[name])


def tensors_of(outputs: Any, *, strict: bool = False) -> Iterator[Tensor]:
    """Every tensor that a network returns, in whatever nest of containers and dataclasses.

    ``strict`` raises `SpecError` at an object that may hide others.
    """
    for leaf in tree_leaves(outputs):
        inner = _contents(leaf)
        if isinstance(leaf, Tensor):
            yield leaf
        elif inner is not None:
            yield from tensors_of(inner, strict=strict)
        elif strict and not isinstance(leaf, _PLAIN):
            raise SpecError(
                f"the output holds a {type(leaf).__name__}, whose tensors are not seen; return "
                "tensors, or a tuple, dict or dataclass of them"
            )


def _contents(leaf: Any) -> list[Any] | None:
    """What a container holds that torch does not know as one; None if it is none."""
    if isinstance(leaf, (Mapping, list, tuple)):
        return [*(leaf.values() if isinstance(leaf, Mapping) else leaf)]
    if dataclasses.is_dataclass(leaf) and not isinstance(leaf, type):
        return [getattr(leaf, field.name) for field in dataclasses.fields(leaf)]
    return None
