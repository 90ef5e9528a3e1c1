"""Do weights fit a specification? Names and shapes of tensors, and their leading batch axes.

An error names the tensor and the axis, what was needed, and where that comes from:

    2.weight: axis 1 has size 9, but group 'h1' has size 8 (from 0.weight)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from wsl.symmetry.spec.grammar import Axes, SpecError, format_axes, format_axis
from wsl.symmetry.spec.keys import compare
from wsl.symmetry.spec.parts import Annotations, Parts, axis_size, groups_of


def check_names(axes: Mapping[str, Axes], params: Mapping[str, Any]) -> None:
    """Raise `SpecError` unless ``params`` has exactly the tensors of a specification."""
    if axes.keys() == params.keys():
        return
    report = compare(axes, params)
    shown = dataclasses.replace(
        report, hint="the specification and the weights must come from the same architecture"
    )
    raise SpecError("; ".join(filter(None, [str(shown), report.hint])))


def batch_of(
    parts: Parts, shapes: Mapping[str, Sequence[int]], params: Mapping[str, torch.Tensor]
) -> torch.Size:
    """The leading axes that all tensors have before the ``shapes`` of the specification.

    Raises `SpecError` for a tensor of another shape, or with other leading axes than the first.
    """
    batch = None
    for name, shape in shapes.items():
        found = params[name].shape
        lead = len(found) - len(shape)
        if lead < 0 or found[lead:] != shape:
            raise SpecError(_misfit(parts, name, found))
        if batch is not None and found[:lead] != batch:
            raise SpecError(
                f"{name}: leading (batch) axes {tuple(found[:lead])}, but the tensors before have "
                f"{tuple(batch)}"
            )
        batch = found[:lead]
    return torch.Size() if batch is None else batch


def first_with(annotations: Annotations, group: str) -> str | None:
    """The first tensor on which a group acts."""
    return next((name for name, axes in annotations if group in groups_of(axes)), None)


def _source(parts: Parts, group: str, name: str) -> str:
    """The tensor that a group's size comes from, if it is another one."""
    first = first_with(parts.annotations, group)
    return f" (from {first})" if first != name else ""


def _misfit(parts: Parts, name: str, found: Sequence[int]) -> str:
    axes, sizes = parts.axes[name], parts.sizes
    lead = len(found) - len(axes)
    if lead < 0:
        needed = f"'{format_axes(axes)}' needs at least {len(axes)}"
        return f"{name}: has {len(found)} axes, but {needed}"
    wanted = [axis_size(axis, sizes) for axis in axes]
    i = next(i for i, size in enumerate(wanted) if found[lead + i] != size)
    text = format_axis(axes[i])
    if text in sizes:
        expected = f"group '{text}' has size {wanted[i]}{_source(parts, text, name)}"
    elif text == str(wanted[i]):
        expected = f"it must have size {text}"
    else:
        expected = f"'{text}' has size {wanted[i]}"
    return f"{name}: axis {i} has size {found[lead + i]}, but {expected}"
