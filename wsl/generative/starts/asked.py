"""Asking an initialiser: what it needs is checked first."""

from __future__ import annotations

from typing import TypeVar

import torch

from wsl.generative.problem import Initializer, Start, check_needs
from wsl.params import Params

Given = TypeVar("Given")


def starting_weights(
    method: Initializer, start: Start, n: int, *, generator: torch.Generator
) -> Params:
    """Weights (n, ...) by ``method``; raises ValueError naming what it needs and does not have."""
    check_needs(method.needs, start, what=type(method).__name__)
    return method.draw(start, n, generator=generator)


def needs_of(kind: type, inner: Initializer) -> frozenset[str]:
    """What a start on top of another needs: its own needs and those of the other."""
    return frozenset(kind.needs | inner.needs)  # type: ignore[attr-defined]


def given(value: Given | None) -> Given:
    """What `starting_weights` has checked to be there."""
    if value is None:
        raise ValueError("ask an initialiser through starting_weights, which checks its needs")
    return value
