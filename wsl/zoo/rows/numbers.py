"""`Numbers`: the numeric columns of a table, packed so that a batch costs one gather.

    record = (int64 ..., float32 ..., bool ..., padding)          8-byte words; text is left out

Training reads these for every batch, right after weights that fill the processor's cache: column by
column, each small array would be fetched anew, packed it is one cache line for each row. On the
processor numpy's views are used, a third of the cost of torch's; on a device one index_select.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

_KINDS = {"i": torch.int64, "f": torch.float32, "b": torch.bool}
"""Type in a batch for each kind of column, the widest first so that nothing lies between them."""


class Numbers:
    """The numbers in the columns ``names`` of ``table``, kept on ``device``.

    Columns of text are left out.
    """

    def __init__(self, table: np.ndarray, names: Sequence[str], device: torch.device) -> None:
        kinds = {kind: [n for n in names if table.dtype[n].kind == kind] for kind in _KINDS}
        fields = [(name, _numpy(_KINDS[kind])) for kind in _KINDS for name in kinds[kind]]
        self._records = np.zeros(len(table), dtype=np.dtype(fields, align=True))
        for name, _ in fields:
            self._records[name] = table[name]
        numeric = [name for name, _ in fields]
        self._names = [name for name in names if name in numeric]
        self._places = [numeric.index(name) for name in self._names]
        self._spans = [self._span(_KINDS[kind], own) for kind, own in kinds.items() if own]
        words = self._records.view(np.int64).reshape(len(table), self._records.itemsize // 8)
        self._words = torch.from_numpy(words).to(device)

    def _span(self, dtype: torch.dtype, names: Sequence[str]) -> tuple[torch.dtype, int, int]:
        """Type, first place in a record read as that type, and number of the columns of a kind."""
        fields: Any = self._records.dtype.fields
        return dtype, fields[names[0]][1] // dtype.itemsize, len(names)

    def take(self, rows: np.ndarray, device: torch.device) -> dict[str, Tensor]:
        """The numbers of ``rows`` (B,) int64 in 0..N-1 on ``device``, each (B,), by name."""
        if device.type == "cpu":
            records = self._records.take(rows)
            return {name: torch.from_numpy(records[name]) for name in self._names}
        chosen = torch.from_numpy(rows).to(self._words.device)
        columns = self._columns(self._words.index_select(0, chosen).to(device))
        return {name: columns[place] for name, place in zip(self._names, self._places, strict=True)}

    def _columns(self, words: Tensor) -> list[Tensor]:
        """Of records (B, words), each column (B,) in its type."""
        return [
            column
            for dtype, start, count in self._spans
            for column in words.view(dtype).narrow(1, start, count).unbind(1)
        ]


def _numpy(dtype: torch.dtype) -> np.dtype:
    return torch.empty(0, dtype=dtype).numpy().dtype
