"""Open a zoo file that nobody vouches for, and hold every claim of it against the file.

HDF5 is only asked for names, types and places; no handle of it outlives `read`. The arrays are then
views of the mapped file, which is safe across fork. Whatever is missing, damaged, linked elsewhere,
of another type, newer or larger than the file is one `ZooError`, raised before anything of the
claimed size is allocated. Older versions are read as the newest.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Collection, Mapping
from pathlib import Path

import h5py
import h5py.h5l
import h5py.h5o
import numpy as np

from wsl.zoo.file.chunks import MAX_CHUNK, Chunks
from wsl.zoo.file.columns import stored_as
from wsl.zoo.file.error import ZooError
from wsl.zoo.file.format import FORMAT, MAX_TEXT, TEXTS, VERSION, Header, checksum, upgrade
from wsl.zoo.file.mapping import Extent, MappedFile
from wsl.zoo.file.pread import PreadFile
from wsl.zoo.file.storage import STORED

_FIXED = {"member": "<i4", "epoch": "<i4", "crc32": "<u4", "split": "u1"}
_DAMAGED = (OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError, MemoryError)
"""What h5py raises on broken files."""
_SHUFFLE, _DEFLATE, _FLETCHER32 = 2, 1, 3


@dataclasses.dataclass(frozen=True)
class Contents:
    """What a file holds.

    Its header, the places of metadata and weights, the checksum over all attributes, and the open
    file itself.
    """

    header: Header
    extents: Mapping[str, Extent]
    weights: Extent | Chunks
    checksum: int
    file: MappedFile | PreadFile


def read(path: Path, *, mapped: bool = True) -> Contents:
    """Check and describe the zoo file at ``path``; raises `ZooError` saying what is wrong with it.

    ``mapped``: whether its arrays are then read through a memory map, or by system calls.
    """
    opened = _opened(path, mapped=mapped)
    try:
        with _open(path) as file:
            contents = _read(file, opened)
    except ZooError as error:
        raise ZooError(f"{path}: {error}") from None
    except _DAMAGED as error:
        raise ZooError(
            f"{path}: HDF5 cannot read it ({error}); the file is truncated or damaged, fetch it "
            "again"
        ) from None
    if not opened.same_as(os.stat(path)):
        raise ZooError(f"{path}: was replaced while it was opened; open it again")
    return contents


def _opened(path: Path, *, mapped: bool) -> MappedFile | PreadFile:
    """The bytes of an HDF5 file."""
    if not path.is_file():
        raise ZooError(
            f"{path}: no such file; build one with ZooWriter, Zoo.from_models or 'wsl zoo build'"
        )
    try:
        kind = MappedFile if mapped else PreadFile
        opened = kind(path) if path.stat().st_size else None  # nothing cannot be mapped
    except OSError as error:
        raise ZooError(
            f"{path}: cannot be opened ({error.strerror}); check that you may read it"
        ) from None
    if opened is None or not h5py.is_hdf5(path):
        raise ZooError(
            f"{path}: is not an HDF5 file, or its beginning is damaged; a zoo file is expected here"
        )
    return opened


def _open(path: Path) -> h5py.File:
    """Without a lock, which network file systems may lack.

    If this process has the file open with one already, as it did: HDF5 refuses to mix the two.
    """
    try:
        return h5py.File(path, "r", locking=False)
    except OSError as error:
        if "locking flag" not in str(error):
            raise
        return h5py.File(path, "r")


def _read(file: h5py.File, opened: MappedFile | PreadFile) -> Contents:
    version = _check_kind(file)
    header, stored = _header(file, version)
    _check_names(h5py.h5g.open(file.id, b"/"), ["columns", "weights", *_FIXED], "/")
    _check_names(_object(file, "columns", h5py.h5g.GroupID), header.columns, "/columns")
    weights = _weights(file, opened.size, older=version == 1)
    names = [*_FIXED, *(f"columns/{name}" for name in header.columns)]
    extents = {name: _extent(file, name, opened.size) for name in names}
    _check_weights(weights, header)
    for name, extent in extents.items():
        _check_extent(name, extent, header, rows=weights.shape[0])
    return Contents(header, extents, weights, stored, opened)


def _header(file: h5py.File, version: int) -> tuple[Header, int]:
    """What the attributes say, and their checksum, which must be right."""
    texts = {name: _text(file, name) for name in TEXTS[version]}
    size, stored = _number(file, "P"), _number(file, "checksum")
    if checksum("complete", size, texts, version=version) != stored:
        raise ZooError(
            "the attributes do not match their checksum; the file is damaged or was edited, fetch "
            "it again"
        )
    header = Header.from_texts(upgrade(version, texts))
    if size != header.layout.size:
        raise ZooError(
            f"P is {size}, but the tensors of the layout have {header.layout.size} values"
        )
    return header, stored


def _check_kind(file: h5py.File) -> int:
    """The version of a complete zoo file that this code can read."""
    if not h5py.h5a.exists(file.id, b"format") or _text(file, "format") != FORMAT:
        raise ZooError(f"is HDF5, but not a zoo: its attribute format is not {FORMAT!r}")
    if (version := _number(file, "version")) not in TEXTS:
        raise ZooError(
            f"has format version {version}, but this wsl reads versions up to {VERSION}; update wsl"
        )
    if (state := _text(file, "state")) != "complete":
        raise ZooError(
            f"is in state {state[:20]!r}, not complete: its build was interrupted; run the build "
            "again"
        )
    return version


def _attribute(file: h5py.File, name: str) -> h5py.h5a.AttrID:
    if not h5py.h5a.exists(file.id, name.encode()):
        raise ZooError(f"attribute {name} is missing")
    attribute = h5py.h5a.open(file.id, name.encode())
    if attribute.shape != ():
        raise ZooError(f"attribute {name} is an array; a single value is required")
    return attribute


def _text(file: h5py.File, name: str) -> str:
    attribute = _attribute(file, name)
    kind = attribute.get_type()
    if (
        not isinstance(kind, h5py.h5t.TypeStringID)
        or kind.is_variable_str()
        or kind.get_size() > MAX_TEXT
    ):
        raise ZooError(f"attribute {name} must be fixed-length text of at most {MAX_TEXT} bytes")
    value = np.zeros((), dtype=f"S{kind.get_size()}")
    attribute.read(value, mtype=kind)
    try:
        return value.item().decode()
    except UnicodeDecodeError:
        raise ZooError(f"attribute {name} is not UTF-8 text") from None


def _number(file: h5py.File, name: str) -> int:
    attribute = _attribute(file, name)
    if not isinstance(attribute.get_type(), h5py.h5t.TypeIntegerID):
        raise ZooError(f"attribute {name} must be an integer")
    value = np.zeros((), dtype=np.int64)
    attribute.read(value)
    return int(value)


def _check_names(group: h5py.h5g.GroupID, expected: Collection[str], where: str) -> None:
    if group.get_num_objs() != len(expected):
        raise ZooError(
            f"{where} has {group.get_num_objs()} members, not the {len(expected)} of "
            f"{', '.join(expected)[:400]}"
        )
    for name in expected:
        if not group.links.exists(name.encode()):
            raise ZooError(f"{where} lacks {name!r}")
        if group.links.get_info(name.encode()).type != h5py.h5l.TYPE_HARD:
            raise ZooError(
                f"{name!r} in {where} is a link; a zoo file holds its own data, and links are not "
                "followed"
            )


def _object(file: h5py.File, name: str, kind: type) -> h5py.h5g.GroupID | h5py.h5d.DatasetID:
    found = h5py.h5o.open(file.id, name.encode())
    if not isinstance(found, kind):
        raise ZooError(f"/{name} is a {type(found).__name__}; a {kind.__name__} is required")
    return found


def _extent(file: h5py.File, name: str, file_size: int) -> Extent:
    dataset = _object(file, name, h5py.h5d.DatasetID)
    _check_contiguous(name, dataset.get_create_plist())
    dtype, shape = _dtype(name, dataset.get_type()), _shape(name, dataset)
    extent, offset = Extent(dataset.get_offset() or 0, dtype, shape), dataset.get_offset()
    end = extent.offset + extent.nbytes
    if offset is None or end > file_size:
        raise ZooError(
            f"/{name} claims {shape} values of {dtype}, which end at byte {end}, but the file has "
            f"{file_size} bytes"
        )
    return extent


def _check_contiguous(name: str, plan: h5py.h5p.PropDCID) -> None:
    if plan.get_layout() != h5py.h5d.CONTIGUOUS or plan.get_external_count() or plan.get_nfilters():
        raise ZooError(
            f"/{name} must be stored contiguously in this file, without filters; convert it, or "
            "build the zoo again"
        )


def _weights(file: h5py.File, file_size: int, *, older: bool) -> Extent | Chunks:
    dataset = _object(file, "weights", h5py.h5d.DatasetID)
    plan = dataset.get_create_plist()
    if older or plan.get_layout() != h5py.h5d.CHUNKED:
        return _extent(file, "weights", file_size)
    return _chunks(dataset, plan, file_size)


def _chunks(dataset: h5py.h5d.DatasetID, plan: h5py.h5p.PropDCID, file_size: int) -> Chunks:
    """Where the blocks of an archive lie."""
    filters = [plan.get_filter(i)[0] for i in range(plan.get_nfilters())]
    if filters != [_SHUFFLE, _DEFLATE, _FLETCHER32]:
        raise ZooError(
            f"/weights is stored in chunks with the filters {filters}; an archive has shuffle, "
            "deflate, fletcher32"
        )
    stored, shape = _dtype("weights", dataset.get_type()), _shape("weights", dataset)
    chunk = plan.get_chunk()
    size = math.prod(chunk) * stored.itemsize
    count = -(-shape[0] // chunk[0])
    if len(shape) != 2 or chunk[1] != shape[1] or size > MAX_CHUNK or count > file_size:
        raise ZooError(
            f"/weights has chunks of shape {chunk} for values {shape}; an archive has chunks of "
            "whole rows, of at "
            f"most {MAX_CHUNK} bytes, and no more of them than the file has bytes"
        )
    # zlib adds less than a thousandth to what it cannot pack
    largest = size + size // 1000 + 64
    places = [
        _place(dataset, row, largest=largest, file_size=file_size)
        for row in range(0, shape[0], chunk[0])
    ]
    return Chunks(stored, shape, chunk[0], np.array(places, dtype=np.int64))


def _place(
    dataset: h5py.h5d.DatasetID, row: int, *, largest: int, file_size: int
) -> tuple[int, int]:
    """Offset and size in the file of the chunk that begins at ``row``."""
    info = dataset.get_chunk_info_by_coord((row, 0))
    if info.byte_offset is None or not 0 < info.size <= largest:
        raise ZooError(
            f"/weights lacks the chunk of row {row}, or it has an impossible size; fetch "
            "the file again"
        )
    if info.byte_offset + info.size > file_size or info.filter_mask:
        raise ZooError(
            f"/weights has a chunk at row {row} that lies beyond the end of the file, or "
            "lacks a filter"
        )
    return info.byte_offset, info.size


def _shape(name: str, dataset: h5py.h5d.DatasetID) -> tuple[int, ...]:
    shape = dataset.shape
    if not shape or any(size < 1 for size in shape):
        raise ZooError(f"/{name} has shape {shape}; at least one row is required")
    return tuple(map(int, shape))


def _dtype(name: str, kind: h5py.h5t.TypeID) -> np.dtype:
    plain = (h5py.h5t.TypeIntegerID, h5py.h5t.TypeFloatID, h5py.h5t.TypeStringID)
    if not isinstance(kind, plain) or (
        isinstance(kind, h5py.h5t.TypeStringID) and kind.is_variable_str()
    ):
        raise ZooError(
            f"/{name} is of type {type(kind).__name__}; numbers or fixed-length text are required"
        )
    return np.dtype(kind.dtype)


def _check_weights(weights: Extent | Chunks, header: Header) -> None:
    if weights.dtype != STORED[header.dtype]:
        raise ZooError(
            f"/weights is stored as {weights.dtype}; {STORED[header.dtype].str} is required for "
            f"{header.dtype}"
        )
    wanted = (weights.shape[0], header.layout.size)
    if weights.shape != wanted:
        raise ZooError(f"/weights has shape {weights.shape}; {wanted} is required")


def _check_extent(name: str, extent: Extent, header: Header, *, rows: int) -> None:
    """Raise `ZooError` unless the array has the type of its column and a value for each row."""
    kind = None if name in _FIXED else header.columns[name.removeprefix("columns/")]
    fixed = _FIXED.get(name, "")
    right = extent.dtype == np.dtype(fixed) if kind is None else stored_as(kind, extent.dtype)
    if not right:
        raise ZooError(f"/{name} is stored as {extent.dtype}; {kind or fixed} is required")
    # the split is a value per member, of which there may be fewer than rows; `rows.table` counts
    fewer = name == "split" and len(extent.shape) == 1 and extent.shape[0] <= rows
    if extent.shape != (rows,) and not fewer:
        raise ZooError(f"/{name} has shape {extent.shape}; {(rows,)} is required")
