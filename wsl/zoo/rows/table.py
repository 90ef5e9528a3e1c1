"""The metadata of a zoo file as one structured array, and the rows in it that are asked for.

Whatever is read here is first held against its checksum, and the order of rows and the splits
against the format.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from wsl.base import did_you_mean
from wsl.zoo.file import SPLITS, Contents, ZooError, decode


def read_table(contents: Contents) -> np.ndarray:
    """One read-only record per row: member i4, epoch i4, split U5, then the columns.

    Raises `ZooError` on damage.
    """
    try:
        fields = _fields(contents)
    except ZooError as error:
        raise ZooError(f"{contents.file.path}: {error}") from None
    types = [(name, values.dtype) for name, values in fields.items()]
    table = np.empty(len(fields["member"]), dtype=types)
    for name, values in fields.items():
        table[name] = values
    table.flags.writeable = False
    return table


def _fields(contents: Contents) -> dict[str, np.ndarray]:
    """Every field of the table, a value per row."""
    member, epoch, split = (read_column(contents, name) for name in ("member", "epoch", "split"))
    names = np.array(SPLITS)[_row_splits(member, epoch, split)]
    fields = {"member": member, "epoch": epoch, "split": names}
    for name, kind in contents.header.columns.items():
        fields[name] = decode(name, read_column(contents, f"columns/{name}"), kind)
    return fields


def read_column(contents: Contents, name: str) -> np.ndarray:
    """The metadata dataset ``/name`` as it lies in the file."""
    values = contents.file.array(contents.extents[name])
    if zlib.crc32(values.data) != contents.header.checksums[name]:
        raise ZooError(
            f"/{name} does not match its checksum; the file is damaged, fetch or build it again"
        )
    return values


def select(table: np.ndarray, equals: Mapping[str, Any]) -> np.ndarray:
    """Row numbers, ascending, whose columns equal the values given (or one of them, for a list)."""
    chosen = np.ones(len(table), dtype=bool)
    for name, value in equals.items():
        names = table.dtype.names or ()
        if name not in names:
            hint = did_you_mean(name, names)
            raise ZooError(f"column {name!r} is unknown{hint}; the columns are {', '.join(names)}")
        chosen &= np.isin(table[name], value)
    return np.flatnonzero(chosen)


def _row_splits(member: np.ndarray, epoch: np.ndarray, split: np.ndarray) -> np.ndarray:
    """Code of the split of each row."""
    steps = np.diff(member.astype(np.int64))
    if (steps < 0).any() or (np.diff(epoch.astype(np.int64))[steps == 0] <= 0).any():
        raise ZooError(
            "rows are not sorted by member and epoch, or one occurs twice; build the file again"
        )
    ordinal = np.concatenate([[0], np.cumsum(steps > 0)])
    if ordinal[-1] + 1 != len(split) or split.max() >= len(SPLITS):
        raise ZooError(
            f"/split must hold one code below {len(SPLITS)} for each of {ordinal[-1] + 1} members"
        )
    return split[ordinal]
