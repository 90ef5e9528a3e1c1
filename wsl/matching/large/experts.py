"""Which tensors of a file are the experts of a mixture that a specification names as one.

    layers.0.moe.experts.w1.weight: (expert h) d        in the specification
    layers.0.moe.experts.0.w1.weight, .1., ...          in the file

`ExpertView.of(spec).spec` is such a specification: it says that the order of the experts is free.
Where the file itself has the name, or no tensor of the specification has it, nothing is joined.
Experts of one layer must have one shape and type. Not done: experts that a file stacks on an axis
of their own, since a family shares a product with its group in the grammar.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from wsl.matching.large.files import TensorSlices
from wsl.matching.large.joined import JoinedTensor
from wsl.matching.large.moves import Move, Moves, Part, own_move
from wsl.symmetry import Axes, PermutationSpec, SpecError

_NUMBERED = re.compile(r"((?:.*\.)?experts)\.(\d+)\.(.+)")


class ExpertTensors(NamedTuple):
    """The tensors of all experts of one layer that have one name, ``names`` in their order."""

    name: str
    names: tuple[str, ...]


def with_experts(
    tensors: Mapping[str, TensorSlices], spec: PermutationSpec
) -> dict[str, TensorSlices]:
    """The tensors of a file, those of experts joined where the specification has them as one.

    Raises `SpecError`, naming it, for an expert that is missing or unlike the others.
    """
    found = dict(tensors)
    for layer in expert_tensors(tensors):
        axes = _annotation(spec, layer.name)
        if axes is not None and layer.name not in tensors:
            parts = tuple(found.pop(name) for name in layer.names)
            _check_alike(layer, parts)
            axis = _joined_axis(spec, layer, axes, shape=tuple(parts[0].shape))
            found[layer.name] = JoinedTensor(parts, layer.names, axis)
    return found


def file_moves(name: str, axes: Axes, tensor: TensorSlices, *, file_name: str) -> Moves:
    """How the tensors of a file that are the weight ``name`` move, by their names in the file."""
    if isinstance(tensor, JoinedTensor):
        return {
            part: part_move(name, axes, tensor, number=number)
            for number, part in enumerate(tensor.names)
        }
    return {file_name: own_move(name, axes)}


def part_move(name: str, axes: Axes, tensor: JoinedTensor, *, number: int) -> Move:
    """How one part of a joined tensor moves."""
    part = Part(axes[tensor.axis or 0], number, tensor.names)
    first = int(tensor.axis is None)
    return Move(axes[first:], name, tuple(range(first, len(axes))), part)


def expert_tensors(names: Iterable[str]) -> Iterator[ExpertTensors]:
    """The tensors of a file that number their experts from 0 on, ``experts.0.NAME`` and so on."""
    numbers: dict[str, dict[int, str]] = {}
    for name in names:
        if parts := _NUMBERED.fullmatch(name):
            numbers.setdefault(f"{parts[1]}.{parts[3]}", {})[int(parts[2])] = name
    for name, found in numbers.items():
        if sorted(found) == list(range(len(found))):
            yield ExpertTensors(name, tuple(found[number] for number in range(len(found))))


def _annotation(spec: PermutationSpec, name: str) -> Axes | None:
    """The axes of a tensor of that name, with or without components in front."""
    for ours, axes in spec.annotations:
        if f".{ours}".endswith(f".{name}") or f".{name}".endswith(f".{ours}"):
            return axes
    return None


def _check_alike(layer: ExpertTensors, parts: tuple[TensorSlices, ...]) -> None:
    first = tuple(parts[0].shape), parts[0].dtype
    for name, part in zip(layer.names, parts, strict=True):
        if (here := (tuple(part.shape), part.dtype)) != first:
            raise SpecError(
                f"{name}: is {here[0]} {here[1]}, but {layer.names[0]} is {first[0]} {first[1]}; "
                "experts whose order is free must be alike"
            )


def _joined_axis(
    spec: PermutationSpec, layer: ExpertTensors, axes: Axes, *, shape: tuple[int, ...]
) -> int | None:
    """The axis on which experts lie one after the other; None is a new first axis.

    Raises `SpecError` if no group of as many experts is the outermost factor of such an axis.
    """
    sizes = [sum(map(spec.segment_size, axis)) for axis in axes]
    count = len(layer.names)
    outermost = [len(axis) == 1 and spec.segment_size(axis[0][:1]) == count for axis in axes]
    if len(axes) == len(shape) + 1 and outermost[0]:
        return None
    joined = [size == count * one for size, one in zip(sizes, shape, strict=False)]
    for axis, good in enumerate(outermost):
        if len(axes) == len(shape) and good and joined[axis] and isinstance(axes[axis][0][0], str):
            return axis
    raise SpecError(
        f"{layer.name}: {count} experts of {shape} cannot be joined to {sizes}; the group of "
        "experts must be the outermost factor of one axis"
    )
