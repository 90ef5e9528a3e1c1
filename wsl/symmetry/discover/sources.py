"""What is known of a graph's placeholders before any rule.

Weights are unknown, inputs fixed, constants show their values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import combinations
from typing import Any

import torch
from torch import Tensor
from torch.export.graph_signature import InputSpec
from torch.fx import Node

from wsl.symmetry.discover.axes import Axis, Operand, Value, fixed, fresh, pin
from wsl.symmetry.discover.program import Program
from wsl.symmetry.discover.unify import unite

Constant = Callable[[int], Axis]


def weights_of(state: Mapping[str, Tensor]) -> dict[str, Value]:
    """Unknown axes for every floating-point tensor of a state dict; integers are fixed.

    So are masks of True and False, as masked flows have them: they belong to the architecture, and
    units with other masks are no match for each other.

    Names that share one tensor share its axes. Tensors that overlap in memory in another layout
    cannot move apart, and are fixed.
    """
    weights: dict[str, Value] = {
        name: Operand(_unknown(tensor, n) for n in tensor.shape) for name, tensor in state.items()
    }
    for name, other in _overlaps(state):
        if _layout(state[name]) == _layout(state[other]):
            tuple(map(unite, weights[name], weights[other]))
        else:
            for axis in (*weights[name], *weights[other]):
                pin(axis, f"{name} and {other} share memory in different layouts")
    return weights


def twins(state: Mapping[str, Tensor]) -> dict[str, str]:
    """The first name of each tensor that has several."""
    first: dict[str, str] = {}
    for name, other in _overlaps(state):
        if _layout(state[name]) == _layout(state[other]):
            first.setdefault(other, first.get(name, name))
    return first


def inputs_of(
    program: Program,
    weights: Mapping[str, Value],
    constant: Constant,
    *,
    state: Mapping[str, Tensor],
) -> list[Any]:
    """The value of every placeholder; ``constant`` makes an axis along which a tensor has one
    value. One that shares memory with a tensor of ``state`` changes with it.
    """
    held = {tensor.untyped_storage()._cdata for tensor in state.values()}

    def made(name: str, content: Any) -> Any:
        if isinstance(content, Tensor) and content.untyped_storage()._cdata in held:
            return Operand(fixed(n, f"{name} is part of a weight") for n in content.shape)
        return _constant(name, content, constant)

    return [
        _input(spec, node, program=program, weights=weights, made=made)
        for spec, node in placeholders(program)
    ]


def placeholders(program: Program) -> list[tuple[InputSpec, Node]]:
    """Placeholders of the graph and what they stand for."""
    nodes = [node for node in program.graph.nodes if node.op == "placeholder"]
    return list(zip(program.graph_signature.input_specs, nodes, strict=True))


def _input(
    spec: InputSpec,
    node: Node,
    *,
    program: Program,
    weights: Mapping[str, Value],
    made: Callable[[str, Any], Any],
) -> Any:
    name = str(spec.target)
    if name in weights:
        return weights[name]
    if name in program.constants:
        return made(name, program.constants[name])
    example = node.meta["val"]
    return (
        Operand(fixed(n, "input") for n in example.shape)
        if isinstance(example, Tensor)
        else example
    )


def _constant(name: str, content: Any, constant: Constant) -> Any:
    """Uniform axes where the values say so, fixed ones elsewhere; objects that are no tensors
    pass.
    """
    if not isinstance(content, Tensor):
        return content

    def axis(dim: int, length: int) -> Axis:
        same = (
            not content.is_meta
            and length > 0
            and bool((content == content.narrow(dim, 0, 1)).all())
        )
        return constant(length) if same else fixed(length, f"constant {name}")

    return Operand(axis(dim, length) for dim, length in enumerate(content.shape))


def _unknown(tensor: Tensor, length: int) -> Axis:
    if tensor.is_floating_point() or tensor.is_complex():
        return fresh(length)
    return fixed(length, "a mask of True and False" if tensor.dtype == torch.bool else "integers")


def _layout(tensor: Tensor) -> tuple[Any, ...]:
    return tensor.storage_offset(), tensor.shape, tensor.stride()


def _overlaps(state: Mapping[str, Tensor]) -> Iterator[tuple[str, str]]:
    """Pairs of tensors that share memory."""
    memories: dict[int, list[str]] = {}
    for name, tensor in state.items():
        memories.setdefault(tensor.untyped_storage()._cdata, []).append(name)
    for names in memories.values():
        for a, b in combinations(names, 2):
            (start, end), (first, last) = _span(state[a]), _span(state[b])
            if start < last and first < end:
                yield a, b


def _span(tensor: Tensor) -> tuple[int, int]:
    """First entry in the storage, and one past the last."""
    steps = [(n - 1) * stride for n, stride in zip(tensor.shape, tensor.stride(), strict=True)]
    start = int(tensor.storage_offset())
    return start, start + (sum(steps) + 1 if tensor.numel() else 0)
