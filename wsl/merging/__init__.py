"""Combine networks: interpolate, average, repair, and measure what lies between them."""

from wsl.merging.interpolate import lerp

__all__ = ["lerp"]
