"""Typed metadata columns: one value of one kind per checkpoint, in memory and in the file.

    float -> f8     int -> i8     bool -> u1 (0 or 1)     str -> fixed-length UTF-8, zero-padded

Nothing is guessed: a list that mixes kinds, an integer beyond 64 bits, or text with a NUL is
refused by name. Missing numbers are NaN in a float column.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from wsl.zoo.file.error import ZooError

KINDS: dict[str, type] = {"float64": float, "int64": int, "bool": bool, "string": str}
"""Name of a kind in the file, and the Python type of its values."""
RESERVED = ("member", "epoch", "split", "crc32", "row", "file")
MAX_TEXT = 4096
"""Longest text value, in bytes."""
_NAME = re.compile(r"[A-Za-z_][\w.\-]{0,127}\Z", re.ASCII)
_STORED = {"float64": np.dtype("<f8"), "int64": np.dtype("<i8"), "bool": np.dtype("u1")}


def check_names(names: Any) -> None:
    """Raise `ZooError` on a column name that the file or the table cannot hold."""
    for name in names:
        if not isinstance(name, str) or not _NAME.match(name) or name in RESERVED:
            raise ZooError(
                f"column {name!r}: use a name of letters, digits, '_', '.', '-' other than "
                f"{', '.join(RESERVED)}"
            )


def kind_of(name: str, kind: Any) -> str:
    """Name in the file of a Python type: float, int, bool or str."""
    for known, python in KINDS.items():
        if kind is python:
            return known
    raise ZooError(f"column {name!r}: kind {kind!r} is not one of float, int, bool, str")


def column(name: str, values: Any, *, count: int, kind: str | None = None) -> np.ndarray:
    """``count`` values, checked, as f8, i8, bool or U; a single number or text stands for all.

    ``kind`` None: read off the values. Raises `ZooError` when the length or the kind is wrong.
    """
    items = _items(values, count)
    if len(items) != count:
        raise ZooError(
            f"column {name!r}: has {len(items)} values for {count} checkpoints; give one value each"
        )
    items = [_plain(item) for item in items]
    kind = kind or _infer(name, items)
    for i, item in enumerate(items):
        _check_item(name, i, item, kind=kind)
    try:
        return np.array(items, dtype=KINDS[kind] if kind != "int64" else np.int64)
    except OverflowError:
        raise ZooError(
            f"column {name!r}: holds a number that does not fit; integers are 64 bit"
        ) from None


def _check_item(name: str, i: int, item: Any, *, kind: str) -> None:
    """Raise `ZooError` unless ``item`` is of the column's kind; an int may stand for a float."""
    wanted = (int, float) if kind == "float64" else (KINDS[kind],)
    if type(item) not in wanted:
        raise ZooError(
            f"column {name!r}: value {i} is {item!r}, but the column holds "
            f"{KINDS[kind].__name__} values"
            + ("; write nan where a number is missing" if item is None else "")
        )
    if isinstance(item, str) and "\0" in item:
        raise ZooError(
            f"column {name!r}: value {i} contains a NUL character, which the file cannot hold"
        )


def encode(name: str, values: np.ndarray) -> np.ndarray:
    """The array that the file stores."""
    if values.dtype.kind != "U":
        return values.astype(_STORED["bool"]) if values.dtype.kind == "b" else values
    try:
        texts = [str(value).encode() for value in values]
    except UnicodeEncodeError:
        raise ZooError(f"column {name!r}: holds text that is not valid Unicode") from None
    longest = max(map(len, texts), default=1)
    if longest > MAX_TEXT:
        raise ZooError(
            f"column {name!r}: holds text of {longest} bytes; at most {MAX_TEXT} are stored"
        )
    return np.array(texts, dtype=f"S{max(longest, 1)}")


def decode(name: str, stored: np.ndarray, kind: str) -> np.ndarray:
    """Inverse of `encode`.

    Raises `ZooError` on bytes that are no text and on truth values other than 0 and 1.
    """
    if kind == "string":
        try:
            return np.array([value.decode() for value in stored.tolist()], dtype=str)
        except UnicodeDecodeError:
            raise ZooError(f"column {name!r}: holds bytes that are not UTF-8 text") from None
    if kind == "bool":
        if stored.size and stored.max() > 1:
            raise ZooError(f"column {name!r}: holds values other than 0 and 1")
        return stored.astype(bool)
    return np.array(stored)


def stored_as(kind: str, dtype: np.dtype) -> bool:
    """Whether a stored array of type ``dtype`` can hold a column of this kind."""
    if kind == "string":
        return dtype.kind == "S" and 1 <= dtype.itemsize <= MAX_TEXT
    return dtype == _STORED[kind]


def complete(
    columns: Mapping[str, str], metadata: Mapping[str, Any], count: int
) -> dict[str, np.ndarray]:
    """All ``columns`` (name to kind) out of ``metadata``.

    Raises `ZooError` naming a missing or an unknown one.
    """
    if difference := set(columns) ^ set(metadata):
        name = min(difference, key=str)
        raise ZooError(
            f"column {name!r}: {'is missing' if name in columns else 'was not declared'}; "
            f"the columns of this zoo are {', '.join(columns) or 'none'}"
        )
    return {
        name: column(name, metadata[name], count=count, kind=kind) for name, kind in columns.items()
    }


def _items(values: Any, count: int) -> list[Any]:
    if isinstance(values, (Tensor, np.ndarray)):
        values = values.tolist()
    if isinstance(values, (str, bytes, bool, int, float)) or values is None:
        return [values] * count
    try:
        return list(values)
    except TypeError:
        return [values] * count


def _plain(item: Any) -> Any:
    return (
        item.item()
        if isinstance(item, (Tensor, np.ndarray, np.generic)) and item.ndim == 0
        else item
    )


def _infer(name: str, items: list[Any]) -> str:
    kinds = {type(item) for item in items}
    if kinds <= {int, float} and float in kinds:
        return "float64"
    if len(kinds) == 1 and next(iter(kinds)) in KINDS.values():
        return kind_of(name, next(iter(kinds)))
    shown = ", ".join(sorted(kind.__name__ for kind in kinds)) or "no values"
    raise ZooError(f"column {name!r}: holds {shown}; a column is all numbers, all bool or all text")
