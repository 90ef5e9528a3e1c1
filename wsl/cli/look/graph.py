"""A specification as a graph: tensors on one side, groups on the other."""

from __future__ import annotations

from typing import Any

from wsl.symmetry import PermutationSpec, format_axes


def graph(spec: PermutationSpec) -> dict[str, Any]:
    """Tensors and groups, and an edge for every axis of a tensor on which a group acts."""
    return {
        "tensors": [{"name": n, "axes": format_axes(axes)} for n, axes in spec.axes.items()],
        "groups": [{"name": name, "size": size} for name, size in spec.groups.items()],
        "edges": _edges(spec),
    }


def _edges(spec: PermutationSpec) -> list[list[int]]:
    """Number of a tensor, number of a group, and the axis, wherever a group acts."""
    tensors = {name: i for i, name in enumerate(spec.axes)}
    return [
        [tensors[place.tensor], number, place.axis]
        for number, group in enumerate(spec.groups)
        for place in spec.occurrences(group)
    ]
