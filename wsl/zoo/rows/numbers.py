"""`Numbers`: the numeric columns of a table, packed so that a batch costs one gather and one cache
line for each row.

    record = (int64 ..., float32 ..., bool ..., padding),   8-byte words;   text is left out

Training reads these for every batch, right after weights that fill the processor's cache; column by
column, each small array would be fetched anew. On the processor numpy's views are used, a third of
the cost of torch's; on a device one index_select.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

_KINDS = {"i": torch.int64, "f": torch.float32, "b": torch.bool}
"""Type in a batch for each kind of column, the widest first so that nothing lies between them."""


class Numbers:
    """The numbers in the columns ``names`` of ``table``, kept on ``device``; columns of text are
    left out.
    """

    def __init__(self, table: np.ndarray, names: Sequence[str], device: torch.device) -> None:
        found = {
            kind: [name for name in names if table.dtype[name].kind == kind] for kind in _KINDS
        }
        fields = [(name, _numpy(dtype)) for kind, dtype in _KINDS.items() for name in found[kind]]
        self._records = np.zeros(len(table), dtype=np.dtype(fields, align=True))
        for name, _ in fields:
            self._records[name] = table[name]
        numeric = [name for name, _ in fields]
        self._names = [name for name in names if name in numeric]
        self._places = [numeric.index(name) for name in self._names]
        self._spans = [
            (
                _KINDS[kind],
                self._records.dtype.fields[some[0]][1] // _KINDS[kind].itemsize,
                len(some),
            )  # type: ignore[index]
            for kind, some in found.items()
            if some
        ]
        words = self._records.view(np.int64).reshape(len(table), self._records.itemsize // 8)
        self._words = torch.from_numpy(words).to(device)

    def take(self, rows: np.ndarray, device: torch.device) -> dict[str, Tensor]:
        """The numbers of ``rows`` (B,) int64 in 0..N-1 on ``device``, each (B,), in the order of
        ``names``.
        """
        if device.type == "cpu":
            records = self._records.take(rows)
            return {name: torch.from_numpy(records[name]) for name in self._names}
        words = self._words.index_select(0, torch.from_numpy(rows).to(self._words.device)).to(
            device
        )
        columns = [
            column
            for dtype, start, count in self._spans
            for column in words.view(dtype).narrow(1, start, count).unbind(1)
        ]
        return {name: columns[place] for name, place in zip(self._names, self._places, strict=True)}


def _numpy(dtype: torch.dtype) -> np.dtype:
    return torch.empty(0, dtype=dtype).numpy().dtype
