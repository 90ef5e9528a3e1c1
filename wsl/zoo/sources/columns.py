"""Metadata of any kind as typed columns: what a column cannot hold is told, never a failure.

numbers -> f8 (missing: NaN), i8 or bool     text, and what is mixed with it -> text
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from wsl.zoo.file import MAX_TEXT

KINDS = {"f": "float64", "i": "int64", "b": "bool", "U": "string"}
"""Names of kinds of columns by the letters of numpy's types."""


def typed_columns(
    found: Mapping[str, list[Any]], kinds: Mapping[str, str]
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Typed columns in the order noted, else that of their names; and what cannot be held, why."""
    columns, left_out = {}, {}
    for name in [name for name in kinds if name in found] + sorted(found.keys() - kinds.keys()):
        values = _typed(found[name], kinds.get(name))
        if isinstance(values, str):
            left_out[name] = values
        else:
            columns[name] = values
    return columns, left_out


def _typed(values: list[Any], kind: str | None) -> np.ndarray | str:
    """An array of one kind, missing values as NaN or empty text; or why not."""
    present = {type(value) for value in values if value is not None}
    missing = None in values
    if kind == "string" or present - {bool, int, float}:
        return _texts(values)
    if present == {bool} and not missing:
        return np.array(values, dtype=bool)
    if present == {int} and not missing and kind != "float64":
        fits = all(-(2**63) <= value < 2**63 for value in values)
        return np.array(values, dtype=np.int64) if fits else "holds an integer of more than 64 bits"
    return _floats(values)


def _floats(values: list[Any]) -> np.ndarray | str:
    """Numbers of any kind, NaN where one is missing."""
    try:
        numbers = [np.nan if value is None else float(value) for value in values]
    except OverflowError:
        return "holds a number that does not fit"
    return np.array(numbers, dtype=np.float64)


def _texts(values: list[Any]) -> np.ndarray | str:
    """Texts as they are, other values as JSON."""
    given = ("" if value is None else value for value in values)
    texts = [_storable(value if isinstance(value, str) else json.dumps(value)) for value in given]
    if any("\0" in text or len(text.encode()) > MAX_TEXT for text in texts):
        return f"holds text with a NUL character, or of more than {MAX_TEXT} bytes"
    return np.array(texts, dtype=str)


def _storable(text: str) -> str:
    """``text`` as UTF-8 can hold it; names of files may be bytes that are none."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
