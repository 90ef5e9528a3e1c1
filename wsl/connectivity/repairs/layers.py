"""Layers that are linear maps of their inputs: what their weights are multiplied with, as rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from wsl.connectivity.repairs.batches import Batches, inputs_of
from wsl.connectivity.repairs.lockstep import lockstep
from wsl.connectivity.repairs.program import bound, operation
from wsl.connectivity.repairs.writers import Writer, writers

_INPUT = {
    "linear": "input",
    "conv1d": "input",
    "conv2d": "input",
    "addmm": "mat1",
    "mm": "self",
    "matmul": "self",
}
"""The argument of an operation that its weight is multiplied with."""


class LayerInputs(NamedTuple):
    """A layer's weight (units, inputs), and its inputs (rows, inputs), one for each position."""

    weight: Tensor
    rows: Tensor


def layer_inputs(
    model: nn.Module, params: Mapping[str, Tensor], batches: Batches
) -> dict[str, LayerInputs]:
    """What every linear layer and convolution in one group reads, by the layer's name.

    Rows are those of all batches, in float32. A layer that is called twice counts once.
    """
    run = lockstep(model, params, [], batches=inputs_of(batches, "layer_inputs"))
    known = {n: w for n, w in writers(run.program).items() if _is_one_map(w)}
    found: dict[str, LayerInputs] = {}

    def before(node: fx.Node) -> None:
        if (writer := known.get(node)) is not None:
            values = [columns(value, writer) for value in run.own[input_of(writer)]]
            weight = as_matrix(params[str(writer.weight)], writer)
            found[writer.name] = LayerInputs(weight, torch.cat(values))

    run.run(before, lambda _: None)
    return found


def _is_one_map(writer: Writer) -> bool:
    """Whether a layer is one linear map of all its inputs, and not one for each group of them."""
    linear = not unlike(writer) and writer.weight is not None
    return linear and bound(writer.node).get("groups", 1) == 1


def unlike(writer: Writer) -> str:
    """Why a layer is no linear map that is known here; empty if it is one."""
    name = operation(writer.node)
    if writer.reason:
        return writer.reason
    if name not in _INPUT:
        return f"{name} is no linear map of its inputs that is solved for"
    padding = bound(writer.node).get("padding")
    return "its padding is given by name" if isinstance(padding, str) else ""


def input_of(writer: Writer) -> fx.Node:
    """The value that a layer multiplies its weight with."""
    return bound(writer.node)[_INPUT[operation(writer.node)]]


def columns(value: Tensor, writer: Writer) -> Tensor:
    """The rows that a layer multiplies with its weights, one for each position of the result."""
    if not operation(writer.node).startswith("conv"):
        return value.flatten(0, -2)
    return _patches(value, bound(writer.node)).movedim(1, -1).flatten(0, -2)


def _patches(value: Tensor, arguments: Mapping[str, Any]) -> Tensor:
    """What a convolution multiplies with its weights, at each position."""
    kernel = arguments["weight"].meta["val"].shape[2:]
    how = {
        key: _pair(key, arguments[key], len(kernel)) for key in ("stride", "padding", "dilation")
    }
    if len(kernel) == 1:
        value, kernel = value.unsqueeze(2), (1, *kernel)
    return F.unfold(value, tuple(kernel), **how)


def _pair(key: str, given: Any, axes: int) -> tuple[int, int]:
    """A setting of a convolution for two axes; one axis is the second beside one of length one."""
    each = [*given] if isinstance(given, Iterable) else [given]
    return (each[0] if axes == 2 else int(key != "padding"), each[-1])


def as_matrix(weight: Tensor, writer: Writer) -> Tensor:
    """A weight as (units, inputs)."""
    return weight.movedim(writer.row.weight_axis, 0).flatten(1)


def like(matrix: Tensor, weight: Tensor, writer: Writer) -> Tensor:
    """The inverse of `as_matrix`."""
    moved = weight.movedim(writer.row.weight_axis, 0)
    return matrix.view(moved.shape).movedim(0, writer.row.weight_axis).to(weight).contiguous()
