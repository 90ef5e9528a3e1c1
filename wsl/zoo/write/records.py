"""What is known of rows besides their weights, checked on the way into a file.

records = member, epoch, crc32 of the stored bytes, and the columns of the header
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from wsl.zoo.file import Block, Header, RowLayout, ZooError, column, complete, create, row_checksums
from wsl.zoo.rows import Split, split_members

_HDF5 = b"\x89HDF"

Records = dict[str, np.ndarray]
"""Arrays of one length: member, epoch, crc32, and the columns of the header."""


def records_of(
    header: Header, rows: np.ndarray, *, member: Any, epoch: Any, metadata: Mapping[str, Any]
) -> Records:
    """The records of ``rows`` (n, P) as stored.

    Raises `ZooError` naming the column that does not fit.
    """
    place = {
        "member": ordinals("member", member, len(rows)),
        "epoch": ordinals("epoch", epoch, len(rows)),
    }
    return {**place, "crc32": row_checksums(rows), **complete(header.columns, metadata, len(rows))}


def check_finite(layout: RowLayout, rows: np.ndarray, *, member: Any, epoch: Any) -> None:
    """Raise `ZooError` naming member and tensor of the first weight that is NaN or infinite.

    ``member`` and ``epoch`` hold one number for each of ``rows`` (n, P), or one for all.
    """
    members, epochs = (
        ordinals(name, values, len(rows)) for name, values in (("member", member), ("epoch", epoch))
    )
    for row, place in np.argwhere(~np.isfinite(rows))[:1]:
        where = f"member {members[row]}, epoch {epochs[row]}: {layout.tensor_at(int(place))}"
        raise ZooError(
            f"{where} holds {rows[row, place]}; leave diverged members out, or pass "
            "allow_nonfinite=True"
        )


def write(
    path: Path,
    header: Header,
    records: Records,
    *,
    blocks: Iterable[Block],
    split: Split,
    seed: int,
) -> None:
    """Say or draw the splits of the members and write the file.

    ``records`` are sorted by (member, epoch).
    """
    check_replaceable(path)
    members = np.unique(records["member"])
    codes = split(members) if callable(split) else split_members(len(members), split, seed)
    create(path, header, {**records, "split": codes}, blocks=blocks)


def check_replaceable(path: Path) -> None:
    """Raise `ZooError` for a path whose file is no HDF5: a zoo replaces an older zoo, and no data,
    weights or text of the same name.
    """
    if not path.is_file():
        return
    with path.open("rb") as file:
        start = file.read(len(_HDF5))
    if start not in (b"", _HDF5):
        raise ZooError(f"{path}: is there and is no zoo; name another file, or delete it")


def ordinals(name: str, values: Any, count: int) -> np.ndarray:
    """``values`` as ``count`` numbers of members or epochs; raises `ZooError` on what is none."""
    numbers = column(name, values, count=count, kind="int64")
    if count and (numbers.min() < 0 or numbers.max() >= 2**31):
        raise ZooError(f"{name}: must lie in 0..2^31-1, got {numbers.min()}..{numbers.max()}")
    return numbers.astype("<i4")
