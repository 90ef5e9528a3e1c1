"""`save`: any checkpoints as a new file, be they a file, a selection or several files.

The new file may be smaller or rounded, and is of the newest version. Members keep their numbers,
order, splits and metadata; what the rows come from stays in the provenance. With ``archive=True``
the rows are compressed in blocks: smaller, each block checked when it is read, slow at random.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from wsl.zoo.file import (
    SPLITS,
    STORED,
    Block,
    Header,
    ZooError,
    carried,
    chunk_rows,
    create,
    row_checksums,
    storage_name,
    to_stored,
)
from wsl.zoo.opening import Zoo
from wsl.zoo.rows import Checkpoints


def save(
    zoo: Checkpoints, path: str | Path, *, dtype: torch.dtype | None = None, archive: bool = False
) -> Zoo:
    """Write the rows of ``zoo`` to ``path`` and open it.

    An existing file is replaced once the new one is complete. ``dtype``: torch.float32,
    torch.bfloat16 or torch.float16; None: as they are. Raises `ZooError` naming the tensor that a
    2-byte type cannot hold, or when a row occurs twice.
    """
    path = Path(path).absolute()
    header = _header(zoo, dtype)
    order = np.lexsort([zoo.table[name] for name in ("epoch", "member")])
    table = zoo.table[order]
    _check_unique(path, table)
    # twice through the weights: the checksums stand before them in the file
    crc32 = np.concatenate([row_checksums(rows) for _, rows in _blocks(zoo, order, header)])
    blocks = _blocks(zoo, order, header)
    create(path, header, _records(table, header, crc32), blocks=blocks, archive=archive)
    return Zoo(path)


def _check_unique(path: Path, table: np.ndarray) -> None:
    places = np.stack([table["member"], table["epoch"]], 1)
    if len(places) > 1 and (places[1:] == places[:-1]).all(1).any():
        raise ZooError(
            f"{path}: a checkpoint occurs twice in what is to be saved; each member has one row "
            "per epoch"
        )


def _records(table: np.ndarray, header: Header, crc32: np.ndarray) -> dict[str, np.ndarray]:
    """Member, epoch and columns of each row, and the split of each member, which all rows share."""
    _, first = np.unique(table["member"], return_index=True)
    codes = [SPLITS.index(name) for name in table["split"][first].tolist()]
    records = {name: table[name] for name in ("member", "epoch", *header.columns)}
    return {
        **{name: np.ascontiguousarray(values) for name, values in records.items()},
        "split": np.array(codes, dtype=np.uint8),
        "crc32": crc32,
    }


def _header(zoo: Checkpoints, dtype: torch.dtype | None) -> Header:
    """Floating tensors take the type asked for only where that is a rounding, or undoes one."""
    stored = zoo.gather(np.zeros(0, dtype=np.int64)).dtype if dtype is None else dtype
    name, layout = storage_name(stored), zoo.header.layout
    if name != "float32" or zoo.header.dtype != "float32":
        layout = layout.cast(stored)
    return Header(
        zoo.spec, layout, zoo.columns, zoo.architecture, zoo.provenance, dtype=name
    ).checked()


def _blocks(zoo: Checkpoints, order: np.ndarray, header: Header) -> Iterator[Block]:
    step = chunk_rows(header, len(order))
    for start in range(0, len(order), step):
        rows = zoo.gather(order[start : start + step]).cpu()
        yield np.arange(start, start + len(rows)), _stored(rows, header)


def _stored(rows: Tensor, header: Header) -> np.ndarray:
    """Rounded as the header says; the bits of rows of the same 2-byte type are kept."""
    if rows.dtype == torch.float32 or storage_name(rows.dtype) != header.dtype:
        return to_stored(rows.float().numpy(), header.layout, header.dtype)
    return carried(rows).numpy().view(STORED[header.dtype])
