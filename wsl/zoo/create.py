"""Write a whole zoo file from sorted columns and blocks of rows; the same data give the same bytes, on every run.

HDF5 of version 1.8: headers carry their own checksums, and every reader in use understands them. No time stamps are kept.
``/weights`` is contiguous and begins at a multiple of 4096 bytes, so that readers map it. The file is born with state
"writing", becomes "complete" when its data are in, and is read back before it takes its final name.
"""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import BinaryIO

import h5py
import numpy as np

from wsl.zoo.atomic import replacing
from wsl.zoo.columns import encode
from wsl.zoo.error import ZooError
from wsl.zoo.format import FORMAT, VERSION, Header, checksum
from wsl.zoo.reader import read

Block = tuple[np.ndarray, np.ndarray]
"""Row numbers (n,) and the rows (n, P) float32 that belong there."""
_PAGE = 4096


def row_checksums(rows: np.ndarray) -> np.ndarray:
    """CRC-32 of the bytes of each row, u4."""
    return np.array([zlib.crc32(row.data) for row in np.ascontiguousarray(rows)], dtype=np.uint32)


def create(path: Path, header: Header, records: Mapping[str, np.ndarray], blocks: Iterable[Block]) -> None:
    """Write ``path`` at once, replacing an older file.

    ``records`` holds member, epoch, crc32, split and ``header.columns``, sorted by (member, epoch); ``blocks`` together
    cover every row once.
    """
    stored = {f"columns/{name}" if name in header.columns else name: encode(name, values) for name, values in records.items()}
    header = dataclasses.replace(header, checksums={name: zlib.crc32(data.data) for name, data in stored.items()})
    shape = (len(stored["member"]), header.layout.size)
    with replacing(path) as temporary:
        with _open(temporary, shape, new=True) as file:
            _write_attributes(file, {"format": FORMAT, "state": "writing"}, {"version": VERSION})
            _create_group(file, "columns")
            offsets = {name: _create_dataset(file, name, data.dtype, data.shape) for name, data in stored.items()}
            weights = _create_dataset(file, "weights", np.dtype("<f4"), shape)
        with temporary.open("r+b") as raw:
            for name, data in stored.items():
                raw.seek(offsets[name])
                raw.write(data.data)
            _write_rows(raw, weights, shape, blocks)
        with _open(temporary, shape, new=False) as file:
            texts = header.to_texts()
            numbers = {"P": shape[1], "checksum": checksum("complete", shape[1], texts)}
            _write_attributes(file, {"state": "complete", **texts}, numbers)
        read(temporary)


def _write_rows(raw: BinaryIO, offset: int, shape: tuple[int, int], blocks: Iterable[Block]) -> None:
    """Plain writes, not a memory map: a full disk is then an error and not a signal."""
    written = 0
    for positions, rows in (block for block in blocks if len(block[0])):
        order = np.argsort(positions, kind="stable")
        positions, rows = positions[order], np.ascontiguousarray(rows, dtype="<f4")[order]
        breaks = np.flatnonzero(np.diff(positions) != 1) + 1
        for start, run in zip(positions[[0, *breaks]], np.split(rows, breaks), strict=True):
            raw.seek(offset + 4 * shape[1] * int(start))
            raw.write(run.data)
        written += len(positions)
    if written != shape[0]:
        raise ZooError(f"{written} of {shape[0]} rows were given")


def _open(path: Path, shape: tuple[int, int], *, new: bool) -> h5py.File:
    access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    access.set_fclose_degree(h5py.h5f.CLOSE_STRONG)
    access.set_libver_bounds(h5py.h5f.LIBVER_V18, h5py.h5f.LIBVER_V18)
    access.set_alignment(min(_PAGE, 4 * shape[0] * shape[1]), _PAGE)
    if not new:
        return h5py.File(h5py.h5f.open(bytes(path), h5py.h5f.ACC_RDWR, fapl=access))
    creation = h5py.h5p.create(h5py.h5p.FILE_CREATE)
    creation.set_obj_track_times(False)
    return h5py.File(h5py.h5f.create(bytes(path), h5py.h5f.ACC_TRUNC, fcpl=creation, fapl=access))


def _create_group(file: h5py.File, name: str) -> None:
    creation = h5py.h5p.create(h5py.h5p.GROUP_CREATE)
    creation.set_obj_track_times(False)
    h5py.h5g.create(file.id, name.encode(), gcpl=creation)


def _create_dataset(file: h5py.File, name: str, dtype: np.dtype, shape: tuple[int, ...]) -> int:
    """Reserve room for an array, and say at which byte of the file."""
    creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    creation.set_layout(h5py.h5d.CONTIGUOUS)
    creation.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    creation.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    creation.set_obj_track_times(False)
    kind = h5py.h5t.py_create(h5py.string_dtype("utf-8", dtype.itemsize) if dtype.kind == "S" else dtype, logical=True)
    return h5py.h5d.create(file.id, name.encode(), kind, h5py.h5s.create_simple(shape), dcpl=creation).get_offset()


def _write_attributes(file: h5py.File, texts: Mapping[str, str], numbers: Mapping[str, int]) -> None:
    for name, number in numbers.items():
        file.attrs.create(name, number, dtype=np.dtype("<i8"))
    for name, text in texts.items():
        data = text.encode()
        file.attrs.create(name, np.bytes_(data), dtype=h5py.string_dtype("utf-8", max(len(data), 1)))
