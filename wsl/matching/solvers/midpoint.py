"""Points on the line between two networks, where matchers that know a loss look."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from wsl.params import Params


def between(a: Mapping[str, Tensor], b: Mapping[str, Tensor], t: float) -> Params:
    """(1-t) a + t b; integer tensors are those of a, on whose device the result is."""
    return {
        name: x + t * (b[name].to(x) - x) if x.is_floating_point() else x for name, x in a.items()
    }
