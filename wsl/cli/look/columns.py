"""What is known of every row, over all files: columns of one name are one column.

A file without a column has no value in its rows. A column that says the same of all rows is told
once and not drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from wsl.cli.look.encode import categories, numbers

_LEVELS = 24
"""Words with more different values than this, or in almost every row, are names: no histogram."""
_MOST, _NAMED = 40, 8
"""Columns that a page has room for, and of the others those that it names."""

Column = list[np.ndarray]
"""Its values, one array for each part of the rows."""


def joined(parts: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Columns over all rows of parts that follow each other; those that all parts have first.

    Numbers that a part lacks are NaN, words are empty; a column that is both is words.
    """
    names = list(dict.fromkeys(name for part in parts for name in part))
    names.sort(key=lambda name: not all(name in part for part in parts))
    return {name: _joined(name, parts) for name in names}


def _joined(name: str, parts: Sequence[Mapping[str, np.ndarray]]) -> np.ndarray:
    is_number = all(part[name].dtype.kind in "iuf" for part in parts if name in part)
    rows = [len(next(iter(part.values()))) for part in parts]
    kind, empty = (np.float64, np.nan) if is_number else (str, "")
    return np.concatenate(
        [
            part[name].astype(kind) if name in part else np.full(count, empty)
            for part, count in zip(parts, rows, strict=True)
        ]
    )


def described(columns: Mapping[str, np.ndarray]) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Columns as the page holds them, and those with one value for all rows by name."""
    constant = {name: _told(v[0]) for name, v in columns.items() if _is_constant(v)}
    drawn = {name: values for name, values in columns.items() if name not in constant}
    if len(drawn) > _MOST:
        left_out = list(drawn)[_MOST:]
        more = f" and {len(left_out) - _NAMED} more" if len(left_out) > _NAMED else ""
        told = ", ".join(left_out[:_NAMED]) + more
        constant[f"{len(left_out)} more columns, not drawn"] = told
    return [_described(name, drawn[name]) for name in list(drawn)[:_MOST]], constant


def _is_constant(values: np.ndarray) -> bool:
    if not len(values):
        return True
    same = values == values[0]
    if values.dtype.kind == "f" and np.isnan(values[0]):
        same = np.isnan(values)
    return bool(same.all()) and len(values) > 1


def _described(name: str, values: np.ndarray) -> dict[str, Any]:
    if values.dtype.kind in "iuf":
        return {"name": name, "kind": "number", "values": numbers(values)}
    words = categories(values)
    # of the rows that say something: in files beside one without the column, all others are empty
    levels, known = sum(level != "" for level in words["levels"]), int((values != "").sum())
    few = levels <= min(_LEVELS, known // 2)
    kind = "category" if few or name == "split" else "name"
    return {"name": name, "kind": kind, **words}


def _told(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, np.floating) else str(value)
