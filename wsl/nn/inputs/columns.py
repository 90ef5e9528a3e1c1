"""`Columns`: columns of metadata as numbers that a functional can read beside weights.

    code(row) = ([v = u_1], ..., [v = u_k])      for texts u_1, ..., u_k
    code(row) = (v - mean) / deviation           for numbers

What is known of a column, its texts or its mean and deviation, is taken from the rows given to
`learn` and from no others; a linear map of the code is then one learned vector for each text.
Kofinas et al. (2024), arXiv 2403.12143, section 2.3, for embeddings of activations. Numbers enter
as they are: a column that spans orders of magnitude is not turned into its logarithm. Which columns
may be read without giving the answer away is not decided here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wsl.base import did_you_mean


@dataclasses.dataclass(frozen=True)
class Column:
    """One column: ``known`` texts, ascending, or the ``mean`` and ``deviation`` of its numbers."""

    name: str
    known: tuple[str, ...] = ()
    mean: float = 0.0
    deviation: float = 1.0

    @classmethod
    def learn(cls, name: str, values: np.ndarray) -> Column:
        """From the values (N,) of training rows."""
        if not _numeric(values):
            return cls(name, known=tuple(map(str, np.unique(values))))
        numbers = _finite(name, values)
        return cls(name, mean=float(numbers.mean()), deviation=float(numbers.std()) or 1.0)

    @property
    def width(self) -> int:
        """Numbers in a code."""
        return len(self.known) or 1

    def codes(self, values: np.ndarray) -> np.ndarray:
        """Codes (N, width) of values (N,).

        Raises ValueError for a text that is not known, or for the other kind of column.
        """
        if _numeric(values) == bool(self.known):
            now, then = ("numbers", "text") if self.known else ("text", "numbers")
            raise ValueError(f"column '{self.name}' holds {now}, but it held {then} in training")
        if not self.known:
            return (_finite(self.name, values)[:, None] - self.mean) / self.deviation
        known = np.array(self.known)
        if len(others := np.setdiff1d(values, known)):
            raise ValueError(
                f"column '{self.name}' holds '{others[0]}', which no training member has; known "
                f"are {', '.join(self.known)}"
            )
        return values[:, None] == known


@dataclasses.dataclass(frozen=True)
class Columns:
    """Several columns side by side, in the order in which they were named."""

    columns: tuple[Column, ...]

    @classmethod
    def learn(cls, names: Sequence[str], table: np.ndarray) -> Columns:
        """From training rows, such as ``zoo.split("train").table``.

        Raises ValueError for a column that there is not.
        """
        return cls(tuple(Column.learn(name, _values(table, name)) for name in names))

    @classmethod
    def parse(cls, descriptions: Iterable[Mapping[str, Any]]) -> Columns:
        """Inverse of `describe`."""
        return cls(
            tuple(Column(**{**column, "known": tuple(column["known"])}) for column in descriptions)
        )

    def describe(self) -> list[dict[str, Any]]:
        """All that is known, as plain values that JSON can hold."""
        return [dataclasses.asdict(column) for column in self.columns]

    @property
    def width(self) -> int:
        """Numbers in a code."""
        return sum(column.width for column in self.columns)

    def __call__(self, table: np.ndarray) -> Tensor:
        """Codes (N, width), float32, of the N rows of a structured array.

        Raises ValueError naming a column and its value.
        """
        codes = [column.codes(_values(table, column.name)) for column in self.columns]
        return torch.from_numpy(np.concatenate(codes, 1).astype(np.float32))

    def check(self, codes: Tensor | None, count: int) -> Tensor:
        """The codes of a batch of ``count`` networks.

        Raises ValueError unless they are there and (count, width).
        """
        if codes is None or codes.shape != (count, self.width):
            names = ", ".join(column.name for column in self.columns)
            came = None if codes is None else tuple(codes.shape)
            raise ValueError(
                f"this network reads the columns {names} beside weights: give codes "
                f"{(count, self.width)} as columns(table) makes them, not {came}"
            )
        return codes


def _values(table: np.ndarray, name: str) -> np.ndarray:
    names = table.dtype.names or ()
    if name not in names:
        hint = did_you_mean(name, names)
        raise ValueError(f"there is no column '{name}'{hint}; there are {', '.join(names)}")
    return table[name]


def _numeric(values: np.ndarray) -> bool:
    return values.dtype.kind in "biuf"


def _finite(name: str, values: np.ndarray) -> np.ndarray:
    numbers = values.astype(np.float64)
    if not np.isfinite(numbers).all():
        raise ValueError(
            f"column '{name}' holds numbers that are not finite; a network cannot read them"
        )
    return numbers
