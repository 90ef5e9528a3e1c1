"""Conditions live on axes: what is known of a class is a feature of its entry of the output axis.

    phi(W)[n, i_1, ..., i_r, :] = [ t_n,  h_{n, i_a},  u_{n, i_b} ]

t is known of the task and is on every entry of every tensor W; h of class c is where the class axis
a of W has index c, u of input coordinate j where its input axis b has index j, and zeros stand
where W has no such axis. So another order of the classes moves the features along the class axis
and changes nothing else, and a network equivariant on `AxisFeatures.class_spec`, in which the
classes are a group like the hidden units, answers for any order.

The axes are found in the specification: the class axis is the first axis of the last matrix, and of
the vectors of the same layer; the input axis is the second axis of the first matrix.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

import torch
from torch import Tensor

from wsl.generative.conditions.encoder import TaskEmbedding
from wsl.generative.conditions.examples import LabelledExamples
from wsl.params import Params
from wsl.symmetry import Group, PermutationSpec, SpecError, format_axis


class AxisFeatures:
    """Where the weights of ``spec`` meet the classes and the inputs of a task.

    classes, inputs: for the tensors that have such an axis, its position.
    Raises `SpecError` if the last matrix has no fixed first axis, or its size is not ``classes``.
    """

    def __init__(self, spec: PermutationSpec, *, classes: int | None = None) -> None:
        matrices = [name for name, axes in spec.axes.items() if len(axes) > 1]
        if not matrices:
            raise SpecError("spec: has no tensor of two axes, so no axis of classes or inputs")
        first, last = matrices[0], matrices[-1]
        self.spec, self.head = spec, last.rpartition(".")[0]
        self.count = _fixed(spec, last)
        if classes not in (None, self.count):
            raise SpecError(
                f"{last}: axis 0 has size {self.count}, but the tasks have {classes} classes"
            )
        layer = (name for name in spec.axes if name.rpartition(".")[0] == self.head)
        self.classes = {name: 0 for name in layer if spec.axes[name][:1] == spec.axes[last][:1]}
        self.inputs = {first: 1} if first != last else {}

    @property
    def class_spec(self) -> PermutationSpec:
        """The specification in which the classes are one more group, ``classes``."""
        name = "classes"
        while name in self.spec.groups:
            name += "_"
        annotations = tuple(
            (tensor, (((name,),), *own[1:]) if tensor in self.classes else own)
            for tensor, own in self.spec.axes.items()
        )
        declared = (*self.spec.declared, Group(name, self.count))
        return dataclasses.replace(self.spec, declared=declared, annotations=annotations)

    def __call__(self, embedding: TaskEmbedding, inputs: Tensor | None = None) -> Params:
        """Features (N, *axes, channels) for every tensor.

        inputs: what is known of every input coordinate, (N, size of the input axis, F), as from
        `input_statistics`. Raises ValueError if a size does not fit.
        """
        self._check(embedding, inputs)
        return {
            name: torch.cat(
                [
                    _along(embedding.task, None, shape),
                    _along(embedding.classes, self.classes.get(name), shape),
                    *([] if inputs is None else [_along(inputs, self.inputs.get(name), shape)]),
                ],
                -1,
            )
            for name, shape in self.spec.shapes.items()
        }

    def ordered(self, params: Mapping[str, Tensor], order: Tensor) -> Params:
        """Weights (N, ...) whose output c is what was output ``order[n, c]``; (N, classes)."""
        rows = torch.arange(len(order), device=order.device)[:, None]
        return {
            name: tensor[rows, order] if name in self.classes else tensor
            for name, tensor in params.items()
        }

    def input_statistics(self, examples: LabelledExamples) -> Tensor:
        """Mean and deviation of each input coordinate over a task's examples, (N, size, 2).

        A coordinate is an entry of the input axis: one of the flat input, or a channel.
        Raises ValueError if the input axis is neither.
        """
        size = self.input_size
        inputs = examples.inputs.flatten(1, 2)
        if math.prod(inputs.shape[2:]) == size:
            seen = inputs.flatten(2)
        elif inputs.shape[2] == size:
            seen = inputs.flatten(3).movedim(-1, 2).flatten(1, 2)
        else:
            raise ValueError(
                f"examples: inputs {tuple(inputs.shape[2:])}, but the input axis has size {size}"
            )
        return torch.stack([seen.mean(1), seen.std(1, correction=0)], -1)

    @property
    def input_size(self) -> int:
        """How many entries the input axis has."""
        name, axis = next(iter(self.inputs.items()))
        return self.spec.shapes[name][axis]

    def _check(self, embedding: TaskEmbedding, inputs: Tensor | None) -> None:
        if embedding.classes.shape[1] != self.count:
            raise ValueError(
                f"condition: {embedding.classes.shape[1]} classes, but {self.head} has "
                f"{self.count} outputs"
            )
        if inputs is not None and inputs.shape[1] != self.input_size:
            raise ValueError(
                f"condition: features of {inputs.shape[1]} inputs, but the input axis has size "
                f"{self.input_size}"
            )


def _along(features: Tensor, axis: int | None, shape: torch.Size) -> Tensor:
    """(N, *shape, F) with features (N, F) everywhere or (N, size, F) along an axis, else zeros."""
    n, width = len(features), features.shape[-1]
    if features.dim() == 2:
        placed = features.view(n, *[1] * len(shape), width)
    elif axis is None:
        placed = features.new_zeros(n, *[1] * len(shape), width)
    else:
        placed = features.view(
            n, *(size if i == axis else 1 for i, size in enumerate(shape)), width
        )
    return placed.expand(n, *shape, width)


def _fixed(spec: PermutationSpec, name: str) -> int:
    axis = spec.axes[name][0]
    if len(axis) == 1 and len(axis[0]) == 1 and isinstance(axis[0][0], int):
        return axis[0][0]
    raise SpecError(
        f"{name}: axis 0 is {format_axis(axis)}, but a fixed axis of classes is needed; the last "
        "matrix of a classifier has one"
    )
