"""Arrays as the page holds them: little-endian bytes in base64, with their type.

    {"type": "f4", "data": "AAAAPw=="}      f4, f8, i4 or u1

JSON would need twice the room, and has no NaN.
"""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
from torch import Tensor

_EXACT = 1 << 24
"""Whole numbers up to here are float32 without loss."""


def encoded(values: Tensor | np.ndarray, kind: str = "f4") -> dict[str, str]:
    """``values``, flattened row by row."""
    array = np.ascontiguousarray(np.asarray(values), dtype=f"<{kind}")
    return {"type": kind, "data": base64.b64encode(array.tobytes()).decode("ascii")}


def numbers(values: np.ndarray) -> dict[str, str]:
    """A column of numbers: in four bytes each, unless they are whole and too large for that."""
    whole = np.asarray(values, dtype=np.float64)
    finite = whole[np.isfinite(whole)]
    large = len(finite) and np.abs(finite).max() > _EXACT and (finite == finite.round()).all()
    return encoded(whole, "f8" if large else "f4")


def categories(values: np.ndarray) -> dict[str, Any]:
    """A column of words: each different one once, and its number for every row."""
    levels, codes = np.unique(values, return_inverse=True)
    return {"levels": [_short(str(level)) for level in levels], "values": encoded(codes, "i4")}


def _short(text: str) -> str:
    return text if len(text) <= 80 else text[:77] + "..."
