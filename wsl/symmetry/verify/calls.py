"""One call of a network that is measured: what goes in, what comes out, and the same surroundings
each time.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from wsl.params import Params


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


class Run(NamedTuple):
    """What one forward pass gave; ``random`` names the first operation that drew random numbers."""

    output: Tensor
    tensors: Params
    random: str | None


@contextlib.contextmanager
def alike(seed: int, devices: Collection[torch.device]) -> Iterator[None]:
    """The same random numbers each time, no autocast, nothing compiled, and float64 for what the
    network makes on its way.
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
def put_back(model: nn.Module) -> Iterator[None]:
    """Buffers that are written or replaced in the block are as they were after it."""
    tables = [(m._buffers, dict(m._buffers)) for m in model.modules() if m._buffers]
    values = [{n: t.clone() for n, t in kept.items() if t is not None} for _, kept in tables]
    try:
        yield
    finally:
        with torch.no_grad():
            for (table, kept), old in zip(tables, values, strict=True):
                table.clear()
                table.update(kept)
                for name, tensor in old.items():
                    table[name].copy_(tensor)  # type: ignore[union-attr]
