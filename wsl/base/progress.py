"""How long work tells how far it has come."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, float], None]
"""Called after every step with its number from 1 and its loss."""
