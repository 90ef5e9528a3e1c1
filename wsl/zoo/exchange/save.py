"""`save`: any checkpoints, a file, a selection, several files, as a new file: smaller, rounded, or
of the newest version.

Members keep their numbers, order, splits and metadata; what the rows come from stays in the
provenance. With ``archive=True`` the rows are compressed in blocks: smaller, each block checked
when it is read, slow at random.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from wsl.zoo.file import (
    SPLITS,
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
    """Write the rows of ``zoo`` to ``path`` and open it; an existing file is replaced once the new
    one is complete.

    ``dtype``: torch.float32, torch.bfloat16 or torch.float16; None: as they are. Raises `ZooError`
    naming the tensor that a 2-byte type cannot hold, or when a row occurs twice.
    """
    path, table = Path(path).absolute(), zoo.table
    order = np.lexsort((table["epoch"], table["member"]))
    places = np.stack([table["member"], table["epoch"]], 1)[order]
    if len(places) > 1 and (places[1:] == places[:-1]).all(1).any():
        raise ZooError(
            f"{path}: a checkpoint occurs twice in what is to be saved; each member has one row "
            "per epoch"
        )
    header = _header(zoo, dtype)
    _, first = np.unique(table["member"], return_index=True)
    step = chunk_rows(header, len(order))
    crc32 = np.concatenate([row_checksums(rows) for _, rows in _blocks(zoo, order, header, step)])
    records = {
        "member": table["member"][order],
        "epoch": table["epoch"][order],
        "crc32": crc32,
        "split": np.array(
            [SPLITS.index(name) for name in table["split"][first].tolist()], dtype=np.uint8
        ),
    }
    records |= {name: table[name][order] for name in header.columns}
    path.parent.mkdir(parents=True, exist_ok=True)
    create(path, header, records, _blocks(zoo, order, header, step), archive=archive)
    return Zoo(path)


def _header(zoo: Checkpoints, dtype: torch.dtype | None) -> Header:
    """Floating tensors take the type asked for only where that is a rounding, or undoes one."""
    stored = zoo.gather(np.zeros(0, dtype=np.int64)).dtype if dtype is None else dtype
    name, layout = storage_name(stored), zoo.header.layout
    if name != "float32" or zoo.header.dtype != "float32":
        layout = layout.cast(stored)
    return Header(
        zoo.spec, layout, zoo.columns, zoo.architecture, zoo.provenance, dtype=name
    ).checked()


def _blocks(zoo: Checkpoints, order: np.ndarray, header: Header, step: int) -> Iterator[Block]:
    for start in range(0, len(order), step):
        rows = zoo.gather(order[start : start + step]).cpu()
        if rows.dtype == torch.float32 or storage_name(rows.dtype) != header.dtype:
            stored = to_stored(rows.float().numpy(), header.layout, header.dtype)
        else:
            stored = carried(rows).numpy().view("<u2" if header.dtype == "bfloat16" else "<f2")
        yield np.arange(start, start + len(rows)), stored
