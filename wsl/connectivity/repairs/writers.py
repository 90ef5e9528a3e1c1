"""Which tensors write a value: a row for each operation that multiplies by a weight.

    y[.., i, ..] = sum_j W[i, j] x[.., j, ..] + b[i]        y' = s y + t  is  W' = s W, b' = s b + t

A unit's scale and shift can be folded into what writes it, if its weight and bias are tensors of
the state dict that nothing else reads. An operation with weights that has no row here is named with
the reason, never guessed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from types import MappingProxyType

import torch
from torch import Tensor, fx

from wsl.connectivity.repairs.program import LayerProgram, bound, operation, readers
from wsl.params import Params


@dataclasses.dataclass(frozen=True)
class Row:
    """Arguments that hold weight and bias, the weight's axis of units, and the result's.

    A negative axis counts from the end. ``table``: the weight is a table of rows that are read, so
    that a shift can be folded into it too.
    """

    weight: str
    bias: str | None
    weight_axis: int
    channel_axis: int
    table: bool = False


_CONVOLUTION = Row("weight", "bias", 0, 1)
_TRANSPOSED = Row("weight", "bias", 1, 1)
ROWS: Mapping[str, Row] = MappingProxyType(
    {
        "linear": Row("weight", "bias", 0, -1),
        "addmm": Row("mat2", "self", 1, -1),
        "mm": Row("mat2", None, 1, -1),
        "matmul": Row("other", None, 1, -1),
        **dict.fromkeys(["conv1d", "conv2d", "conv3d"], _CONVOLUTION),
        **dict.fromkeys(["conv_transpose1d", "conv_transpose2d", "conv_transpose3d"], _TRANSPOSED),
        "embedding": Row("weight", None, 1, -1, table=True),
        **dict.fromkeys(["batch_norm", "instance_norm", "group_norm"], Row("weight", "bias", 0, 1)),
        "layer_norm": Row("weight", "bias", 0, -1),
        "rms_norm": Row("weight", None, 0, -1),
    }
)
"""The operations whose scale and shift of units can be folded into their weights."""
_PRODUCTS = ("mm", "matmul", "addmm")
"""Operations that need not have a weight among their operands."""


@dataclasses.dataclass(frozen=True, eq=False)
class Writer:
    """An operation with the names of its weight and bias; ``reason`` why they cannot be written.

    ``statistics`` are the names of a batch norm's running mean and variance.
    """

    node: fx.Node
    name: str
    row: Row
    weight: str | None
    bias: str | None
    statistics: tuple[str, str] | None
    reason: str | None

    @property
    def shifts(self) -> bool:
        """Whether a shift of its units can be folded too."""
        return self.bias is not None or self.row.table

    def fold(self, params: Params, scale: Tensor, shift: Tensor) -> None:
        """Write new tensors to ``params``, such that units are ``scale`` times and ``shift``
        more.
        """
        if self.weight is None:
            raise ValueError(f"{self.name}: has no weight that could be written")
        params[self.weight] = self._folded(params[self.weight], scale, shift)
        if self.bias is not None:
            bias = params[self.bias]
            params[self.bias] = (bias.double() * scale + shift).to(bias)

    def _folded(self, weight: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        along = [-1 if i == self.row.weight_axis else 1 for i in range(weight.dim())]
        moved = weight.double() * scale.view(along)
        if self.row.table:
            moved = moved + shift.view(along)
        return moved.to(weight)


def writers(program: LayerProgram) -> dict[fx.Node, Writer]:
    """The writers of a program by their node, those that cannot be written included."""
    found = {}
    for node in program.operations:
        if node.op == "call_function" and hasattr(node.target, "_schema"):
            writer = _writer(program, node)
            if writer is not None:
                found[node] = writer
    return found


def heads(program: LayerProgram, found: Mapping[fx.Node, Writer]) -> set[fx.Node]:
    """The writers that no other writer follows: what they write is the network's output."""
    followed: set[fx.Node] = set()
    for node in reversed(program.operations):
        if any(user in found or user in followed for user in node.users):
            followed.add(node)
    return set(found) - followed


def normalised(node: fx.Node) -> bool:
    """Whether all that reads a value is batch norm, which undoes a scale and a shift."""
    return all(operation(reader) == "batch_norm" for reader in readers(node))


def _writer(program: LayerProgram, node: fx.Node) -> Writer | None:
    """None where an operation multiplies by no weight of its own."""
    held = sorted(_weights_behind(program, node))
    row = _gain(program, node) if operation(node) == "mul" else ROWS.get(operation(node))
    if row is not None and (held or operation(node) not in _PRODUCTS):
        return _by_row(program, node, row)
    matrices = [name for name in held if _is_reader_of_matrix(program, node, name)]
    return _without_row(node, matrices[0]) if matrices and row is None else None


def _by_row(program: LayerProgram, node: fx.Node, row: Row) -> Writer:
    weight, bias, mean, variance = _names(program, node, row)
    statistics = (mean, variance) if mean and variance else None
    held = sorted(_weights_behind(program, node))
    first = next(filter(None, (weight, bias, mean, *held)), node.name)
    reason = _reason(program, node, row)
    return Writer(node, _module(first), row, weight, bias, statistics, reason)


def _names(program: LayerProgram, node: fx.Node, row: Row) -> list[str | None]:
    """Of weight, bias, running mean and variance."""
    arguments = bound(node)
    keys = (row.weight, row.bias, "running_mean", "running_var")
    return [_named(program, arguments.get(key or "")) for key in keys]


def _without_row(node: fx.Node, weight: str) -> Writer:
    reason = f"no rule says how {operation(node)} writes its units"
    return Writer(node, _module(weight), Row("", None, 0, 1), None, None, None, reason)


def _module(tensor: str) -> str:
    """The module that a tensor belongs to; its own name where it is the network's."""
    return tensor.rpartition(".")[0] or tensor


def _gain(program: LayerProgram, node: fx.Node) -> Row | None:
    """The row of a product with one number for each unit of the last axis, as norms written out
    have it.
    """
    for key, other in (("self", "other"), ("other", "self")):
        tensor, data = (bound(node).get(k) for k in (key, other))
        if isinstance(tensor, fx.Node) and tensor in program.weights:
            own = isinstance(data, fx.Node) and not _only_weights(program, data)
            single = tensor.meta["val"].dim() == 1 and data not in program.weights
            return Row(key, None, 0, -1) if own and single else None
    return None


def _reason(program: LayerProgram, node: fx.Node, row: Row) -> str | None:
    """Why a writer's weight and bias cannot be written, if so."""
    arguments = bound(node)
    if arguments.get(row.weight) is None:
        return "it has no weight"
    for key in filter(None, (row.weight, row.bias)):
        tensor = arguments.get(key)
        if isinstance(tensor, fx.Node) and tensor not in program.weights:
            return f"its {key} is computed from other tensors"
        if isinstance(tensor, fx.Node) and len(tensor.users) > 1:
            return f"{program.weights[tensor]} is used {len(tensor.users)} times"
    return _odd(node, row)


def _odd(node: fx.Node, row: Row) -> str | None:
    """Why an operation of a known row has units all the same that are not along one axis."""
    arguments = bound(node)
    if row is _TRANSPOSED and arguments.get("groups", 1) != 1:
        return "it is a transposed convolution in groups"
    weight = arguments[row.weight].meta["val"]
    if operation(node) in ("layer_norm", "rms_norm") and weight.dim() != 1:
        return "it normalises several axes"
    if operation(node) in ("mm", "matmul") and weight.dim() != 2:
        return "its weight is no matrix"
    return None


def _named(program: LayerProgram, node: object) -> str | None:
    return program.weights.get(node) if isinstance(node, fx.Node) else None


def _weights_behind(program: LayerProgram, node: fx.Node) -> Iterator[str]:
    """Weights that an operation reads, also through operations on nothing but weights."""
    for argument in node.all_input_nodes:
        if argument in program.weights:
            yield program.weights[argument]
        elif argument.op == "call_function" and _only_weights(program, argument):
            yield from _weights_behind(program, argument)


def _only_weights(program: LayerProgram, node: fx.Node) -> bool:
    inputs = node.all_input_nodes
    return bool(inputs) and all(
        n in program.weights or (n.op == "call_function" and _only_weights(program, n))
        for n in inputs
    )


def _is_reader_of_matrix(program: LayerProgram, node: fx.Node, name: str) -> bool:
    """Whether an operation on data reads a weight of two axes or more, as recurrent ones do."""
    if _only_weights(program, node):
        return False
    values = [n.meta.get("val") for n in node.all_input_nodes if program.weights.get(n) == name]
    return any(isinstance(v, torch.Tensor) and v.dim() > 1 for v in values)
