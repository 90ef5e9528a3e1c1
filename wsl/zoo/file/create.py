"""Write a whole zoo file from sorted columns and blocks of rows.

HDF5 of version 1.8: headers carry their own checksums, and every reader in use understands them. No
time stamps are kept, so the same data give the same bytes on every run. ``/weights`` is contiguous
and begins at a multiple of 4096 bytes, so that readers map it; or, in an archive, in compressed
chunks of about 1 MiB. The file is born with state "writing", becomes "complete" when its data are
in, and is read back before it takes its final name.
"""

from __future__ import annotations

import contextlib
import dataclasses
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

import h5py
import numpy as np

from wsl.base import explained, replacing
from wsl.zoo.file.columns import encode
from wsl.zoo.file.error import ZooError
from wsl.zoo.file.format import FORMAT, VERSION, Header, checksum, datasets
from wsl.zoo.file.reader import read
from wsl.zoo.file.storage import STORED

Block = tuple[np.ndarray, np.ndarray]
"""Row numbers (n,) and the rows (n, P), as stored, that belong there."""
_PAGE = 4096
_CHUNK = 1 << 20
"""Bytes of a chunk of an archive, about."""
_LEVEL = 4


def row_checksums(rows: np.ndarray) -> np.ndarray:
    """CRC-32 of the bytes of each row, u4."""
    return np.array([zlib.crc32(row.data) for row in np.ascontiguousarray(rows)], dtype=np.uint32)


def chunk_rows(header: Header, count: int) -> int:
    """Number of rows in a chunk of an archive of ``count`` rows."""
    return min(count, max(1, _CHUNK // (STORED[header.dtype].itemsize * header.layout.size)))


def create(
    path: Path,
    header: Header,
    records: Mapping[str, np.ndarray],
    *,
    blocks: Iterable[Block],
    archive: bool = False,
) -> None:
    """Write ``path`` at once, replacing an older file.

    ``records`` holds member, epoch, crc32, split and ``header.columns``, sorted by (member, epoch);
    ``blocks`` together cover every row once, for an archive in their order and `chunk_rows` at a
    time.
    """
    names = {place: place.removeprefix("columns/") for place in datasets(header.columns)}
    stored = {place: encode(name, records[name]) for place, name in names.items()}
    checksums = {name: zlib.crc32(data.data) for name, data in stored.items()}
    build = _Build(dataclasses.replace(header, checksums=checksums), stored, archive)
    with explained(path, ZooError), _as_os_error(), replacing(path) as temporary:
        build.reserve(temporary, blocks)
        build.fill(temporary, blocks)
        build.complete(temporary)
        read(temporary)


@dataclasses.dataclass
class _Build:
    """A file on its way: reserved, filled, complete, in this order.

    ``stored`` are the arrays of the metadata as they will lie in the file, by their path there.
    """

    header: Header
    stored: Mapping[str, np.ndarray]
    archive: bool
    offsets: dict[str, int] = dataclasses.field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, int]:
        """Of ``/weights``."""
        return len(self.stored["member"]), self.header.layout.size

    @property
    def aligned(self) -> int:
        """Bytes from which on arrays begin at a page: those of the weights; 0 in an archive."""
        itemsize = STORED[self.header.dtype].itemsize
        return 0 if self.archive else itemsize * self.shape[0] * self.shape[1]

    @property
    def _chunk(self) -> tuple[int, int] | None:
        rows, size = self.shape
        return (chunk_rows(self.header, rows), size) if self.archive else None

    def reserve(self, path: Path, blocks: Iterable[Block]) -> None:
        """Make the file with room for all arrays; chunks go through HDF5 and are written now."""
        with _open(path, self.aligned, new=True) as file:
            _write_attributes(file, {"format": FORMAT, "state": "writing"}, {"version": VERSION})
            _create_group(file, "columns")
            for name, data in self.stored.items():
                self.offsets[name] = _create_dataset(file, name, data.dtype, shape=data.shape)
            dtype, chunk = STORED[self.header.dtype], self._chunk
            self.offsets["weights"] = _create_dataset(
                file, "weights", dtype, shape=self.shape, chunk=chunk
            )
            if self.archive:
                _write_chunks(file, blocks)

    def fill(self, path: Path, blocks: Iterable[Block]) -> None:
        """Write the contiguous arrays where room is reserved, without HDF5 and its buffers."""
        with path.open("r+b") as raw:
            for name, data in self.stored.items():
                raw.seek(self.offsets[name])
                raw.write(data.data)
            if not self.archive:
                _write_rows(raw, self.shape, blocks, offset=self.offsets["weights"])

    def complete(self, path: Path) -> None:
        """Say what the file holds, with a checksum, and that it holds it."""
        size, texts = self.header.layout.size, self.header.to_texts()
        numbers = {"P": size, "checksum": checksum("complete", size, texts)}
        with _open(path, self.aligned, new=False) as file:
            _write_attributes(file, {"state": "complete", **texts}, numbers)


@contextlib.contextmanager
def _as_os_error() -> Iterator[None]:
    """HDF5 reports a full disk as RuntimeError on closing, as ValueError or KeyError elsewhere."""
    try:
        yield
    except ZooError:
        raise
    except (RuntimeError, ValueError, KeyError) as error:
        raise OSError(f"HDF5 says: {' '.join(str(error).split())[:300]}") from error


def _write_rows(
    raw: BinaryIO, shape: tuple[int, int], blocks: Iterable[Block], *, offset: int
) -> None:
    """Plain writes, not a memory map: a full disk is then an error and not a signal."""
    written = 0
    for positions, rows in blocks:
        order = np.argsort(positions, kind="stable")
        positions, rows = positions[order], np.ascontiguousarray(rows)[order]
        for start, run in _runs(positions, rows):
            raw.seek(offset + rows.itemsize * shape[1] * start)
            raw.write(run.data)
        written += len(positions)
    if written != shape[0]:
        raise ZooError(f"{written} of {shape[0]} rows were given")


def _runs(positions: np.ndarray, rows: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Rows that are adjacent in the file, with the position of their first."""
    if len(positions):
        breaks = np.flatnonzero(np.diff(positions) != 1) + 1
        starts = positions[[0, *breaks]].tolist()
        yield from zip(starts, np.split(rows, breaks), strict=True)


def _write_chunks(file: h5py.File, blocks: Iterable[Block]) -> None:
    dataset, written = file["weights"], 0
    for positions, rows in blocks:
        if positions[0] != written:
            raise ZooError(
                f"an archive is written in the order of its rows, but row {positions[0]} came "
                f"after {written}"
            )
        dataset[written : written + len(rows)] = rows  # type: ignore[index]
        written += len(rows)
    if written != dataset.shape[0]:  # type: ignore[union-attr]
        raise ZooError(f"{written} of {dataset.shape[0]} rows were given")  # type: ignore[union-attr]


def _open(path: Path, aligned: int, *, new: bool) -> h5py.File:
    """Arrays from ``aligned`` bytes on, or of a page, begin at a page; 0: none does."""
    access, name = _access(), bytes(path)
    if aligned:
        access.set_alignment(min(_PAGE, aligned), _PAGE)
    if not new:
        return h5py.File(h5py.h5f.open(name, h5py.h5f.ACC_RDWR, fapl=access))
    creation = _untimed(h5py.h5p.FILE_CREATE)
    return h5py.File(h5py.h5f.create(name, h5py.h5f.ACC_TRUNC, fcpl=creation, fapl=access))


def _access() -> h5py.h5p.PropFAID:
    """As version 1.8 writes; closing the file closes all that is open in it."""
    access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    access.set_fclose_degree(h5py.h5f.CLOSE_STRONG)
    access.set_libver_bounds(h5py.h5f.LIBVER_V18, h5py.h5f.LIBVER_V18)
    return access


def _untimed(kind: h5py.h5p.PropClassID) -> h5py.h5p.PropOCID:
    """Settings of a new file, group or array, which keep no time stamps."""
    creation = h5py.h5p.create(kind)
    creation.set_obj_track_times(False)
    return creation


def _create_group(file: h5py.File, name: str) -> None:
    h5py.h5g.create(file.id, name.encode(), gcpl=_untimed(h5py.h5p.GROUP_CREATE))


def _create_dataset(
    file: h5py.File,
    name: str,
    dtype: np.dtype,
    *,
    shape: tuple[int, ...],
    chunk: tuple[int, int] | None = None,
) -> int:
    """Reserve room for an array, and say at which byte of the file.

    For one in chunks nothing is reserved, and 0 returned.
    """
    text = dtype.kind == "S"
    kind = h5py.string_dtype("utf-8", dtype.itemsize) if text else dtype
    dataset = h5py.h5d.create(
        file.id,
        name.encode(),
        h5py.h5t.py_create(kind, logical=True),
        h5py.h5s.create_simple(shape),
        dcpl=_creation(chunk),
    )
    return dataset.get_offset() or 0


def _creation(chunk: tuple[int, int] | None) -> h5py.h5p.PropDCID:
    """How an array lies in the file: contiguous, or in compressed chunks with checksums."""
    creation = _untimed(h5py.h5p.DATASET_CREATE)
    creation.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    if chunk is None:
        creation.set_layout(h5py.h5d.CONTIGUOUS)
        creation.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        return creation
    creation.set_chunk(chunk)
    creation.set_shuffle()
    creation.set_deflate(_LEVEL)
    creation.set_fletcher32()
    return creation


def _write_attributes(
    file: h5py.File, texts: Mapping[str, str], numbers: Mapping[str, int]
) -> None:
    for name, number in numbers.items():
        file.attrs.create(name, number, dtype=np.dtype("<i8"))
    for name, text in texts.items():
        data = text.encode()
        file.attrs.create(
            name, np.bytes_(data), dtype=h5py.string_dtype("utf-8", max(len(data), 1))
        )
