"""The value of a parameter for one tensor: filters by its name, gradients by its depth."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

_LAYER = re.compile(
    r"(?<=\.)(?:layers|layer|h|blocks|block)\.(\d+)(?=\.)|^(?:layers|h|blocks)\.(\d+)(?=\.)"
)


def layer_of(name: str) -> int | None:
    """The number of the layer that a tensor belongs to, by its name."""
    found = _LAYER.search(name)
    return None if found is None else int(found[1] or found[2])


def renumbered(name: str, layer: int) -> str:
    """The name of the same tensor in another layer."""
    found = _LAYER.search(name)
    if found is None:
        return name
    start, end = found.span(1) if found[1] else found.span(2)
    return f"{name[:start]}{layer}{name[end:]}"


def depths(names: Sequence[str]) -> dict[str, float]:
    """From 0 at the first layer to 1 at the last; what stands outside of layers is at the end that
    it stands nearest to.
    """
    layers = {name: layer_of(name) for name in names}
    last = max((n for n in layers.values() if n is not None), default=0)
    found, begun = {}, False
    for name, layer in layers.items():
        begun = begun or layer is not None
        outside = 1.0 if begun else 0.0
        found[name] = outside if layer is None else layer / last if last else 0.0
    return found


def value(told: Any, name: str, depth: float) -> Any:
    """The value of one setting for the tensor ``name``; None where no filter fits."""
    if not isinstance(told, list):
        return told
    if told and all(isinstance(each, Mapping) for each in told):
        for each in told:
            wanted = each.get("filter")
            if wanted in (None, "*") or str(wanted) in name:
                return value(each.get("value"), name, depth)
        return None
    return _interpolated(told, depth)


def _interpolated(values: Sequence[float], depth: float) -> float:
    """Straight lines between values that are spread evenly over depth."""
    if len(values) == 1:
        return float(values[0])
    position = depth * (len(values) - 1)
    low = min(int(position), len(values) - 2)
    return float(values[low] + (position - low) * (values[low + 1] - values[low]))
