"""A specification as a graph: tensors on one side, groups on the other."""

from __future__ import annotations

from typing import Any

from wsl.symmetry import PermutationSpec, format_axes


def graph(spec: PermutationSpec) -> dict[str, Any]:
    """Tensors and groups, and an edge for every axis of a tensor on which a group acts."""
    names = list(spec.axes)
    at = [(place, group) for group in spec.groups for place in spec.occurrences(group)]
    return {
        "tensors": [{"name": n, "axes": format_axes(axes)} for n, axes in spec.axes.items()],
        "groups": [{"name": name, "size": size} for name, size in spec.groups.items()],
        "edges": [
            [names.index(place.tensor), list(spec.groups).index(group), place.axis]
            for place, group in at
        ],
    }
