"""Which axis of a tensor a layer writes along: the one that its outputs lie on.

    y = W x     W: out in      the axis of y is written, that of x is read

A specification says which axes move together, not in which direction a layer maps. PyTorch's layers
write along their first axis, but for embeddings, transposed convolutions and the `Conv1D` of GPT-2,
which a look at the module tells.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

_LAST = ("Embedding", "EmbeddingBag", "Conv1D")
"""Modules whose weights are (read, written), by the names of their classes and parents."""


def written_axes(model: nn.Module) -> dict[str, int]:
    """For each weight that is not written along axis 0, the axis that it is written along.

    Parameters that a module holds by itself, such as positional embeddings, are not known: name
    those whose units lie on another axis than the first.
    """
    found: dict[str, int] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        kinds = {kind.__name__ for kind in type(module).__mro__}
        if kinds.intersection(_LAST) or "_ConvTransposeNd" in kinds:
            found[f"{path}.weight" if path else "weight"] = 1
    return found


def axis_written(name: str, written: Mapping[str, int] | None) -> int:
    """The axis that a tensor is written along, the first unless told."""
    return 0 if written is None else written.get(name, 0)
