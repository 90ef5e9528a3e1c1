"""Open a zoo file that nobody vouches for: learn where its arrays lie, hold every claim against the file, and close it again.

HDF5 is only asked for names, types and places; no handle outlives `read`. The arrays are then mapped read-only by `mapped`,
which is safe across fork. Whatever is missing, damaged, linked elsewhere, of another type, newer or larger than the file
is one `ZooError`, raised before anything of the claimed size is allocated.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Mapping
from pathlib import Path

import h5py
import h5py.h5l
import h5py.h5o
import numpy as np

from wsl.zoo.columns import stored_as
from wsl.zoo.error import ZooError
from wsl.zoo.format import FORMAT, MAX_TEXT, TEXTS, VERSION, Header, checksum

_FIXED = {"weights": "<f4", "member": "<i4", "epoch": "<i4", "crc32": "<u4", "split": "u1"}
_DAMAGED = (OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError, MemoryError)
"""What h5py raises on broken files."""


@dataclasses.dataclass(frozen=True)
class Extent:
    """Place of one contiguous array in the file."""

    offset: int
    dtype: np.dtype
    shape: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Contents:
    """What a file holds: its header, the place of each dataset, and the checksum over all attributes."""

    header: Header
    extents: Mapping[str, Extent]
    checksum: int


def read(path: Path) -> Contents:
    """Check and describe the zoo file at ``path``; raises `ZooError` saying what is wrong with it."""
    if not path.is_file():
        raise ZooError(f"{path}: no such file; build one with ZooWriter, Zoo.from_models or 'wsl zoo build'")
    if not h5py.is_hdf5(path):
        raise ZooError(f"{path}: is not an HDF5 file, or its beginning is damaged; a zoo file is expected here")
    try:
        with h5py.File(path, "r", locking=False) as file:
            return _read(file, path.stat().st_size)
    except ZooError as error:
        raise ZooError(f"{path}: {error}") from None
    except _DAMAGED as error:
        raise ZooError(f"{path}: HDF5 cannot read it ({error}); the file is truncated or damaged, fetch it again") from None


def mapped(path: Path, extent: Extent) -> np.ndarray:
    """The array at ``extent``, read-only, straight from the page cache."""
    try:
        return np.asarray(np.memmap(path, dtype=extent.dtype, mode="r", offset=extent.offset, shape=extent.shape))
    except (OSError, ValueError) as error:
        raise ZooError(f"{path}: can no longer be mapped ({error}); it was moved or cut short after it was opened") from None


def _read(file: h5py.File, file_size: int) -> Contents:
    _check_kind(file)
    texts = {name: _text(file, name) for name in TEXTS}
    size = _number(file, "P")
    stored = _number(file, "checksum")
    if checksum("complete", size, texts) != stored:
        raise ZooError("the attributes do not match their checksum; the file is damaged or was edited, fetch it again")
    header = Header.from_texts(texts)
    if size != header.layout.size:
        raise ZooError(f"P is {size}, but the tensors of the layout have {header.layout.size} values")
    _check_names(h5py.h5g.open(file.id, b"/"), ["columns", *_FIXED], "/")
    _check_names(_object(file, "columns", h5py.h5g.GroupID), header.columns, "/columns")
    extents = {name: _extent(file, name, file_size) for name in [*_FIXED, *(f"columns/{name}" for name in header.columns)]}
    _check_extents(extents, header)
    return Contents(header, extents, stored)


def _check_kind(file: h5py.File) -> None:
    if not h5py.h5a.exists(file.id, b"format") or _text(file, "format") != FORMAT:
        raise ZooError(f"is HDF5, but not a zoo: its attribute format is not {FORMAT!r}")
    if (version := _number(file, "version")) != VERSION:
        raise ZooError(f"has format version {version}, but this wsl reads version {VERSION}; update wsl")
    if (state := _text(file, "state")) != "complete":
        raise ZooError(f"is in state {state[:20]!r}, not complete: its build was interrupted; run the build again")


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
    if not isinstance(kind, h5py.h5t.TypeStringID) or kind.is_variable_str() or kind.get_size() > MAX_TEXT:
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
        raise ZooError(f"{where} has {group.get_num_objs()} members, not the {len(expected)} of {', '.join(expected)[:400]}")
    for name in expected:
        if not group.links.exists(name.encode()):
            raise ZooError(f"{where} lacks {name!r}")
        if group.links.get_info(name.encode()).type != h5py.h5l.TYPE_HARD:
            raise ZooError(f"{name!r} in {where} is a link; a zoo file holds its own data, and links are not followed")


def _object(file: h5py.File, name: str, kind: type) -> h5py.h5g.GroupID | h5py.h5d.DatasetID:
    found = h5py.h5o.open(file.id, name.encode())
    if not isinstance(found, kind):
        raise ZooError(f"/{name} is a {type(found).__name__}; a {kind.__name__} is required")
    return found


def _extent(file: h5py.File, name: str, file_size: int) -> Extent:
    dataset = _object(file, name, h5py.h5d.DatasetID)
    plan = dataset.get_create_plist()
    if plan.get_layout() != h5py.h5d.CONTIGUOUS or plan.get_external_count() or plan.get_nfilters():
        raise ZooError(f"/{name} must be stored contiguously in this file, without filters; convert it, or build the zoo again")
    shape, offset = dataset.shape, dataset.get_offset()
    dtype = _dtype(name, dataset.get_type())
    if not shape or any(size < 1 for size in shape):
        raise ZooError(f"/{name} has shape {shape}; at least one row is required")
    end = (offset or 0) + math.prod(map(int, shape)) * dtype.itemsize
    if offset is None or end > file_size:
        raise ZooError(f"/{name} claims {shape} values of {dtype}, which end at byte {end}, but the file has {file_size} bytes")
    return Extent(offset, dtype, tuple(map(int, shape)))


def _dtype(name: str, kind: h5py.h5t.TypeID) -> np.dtype:
    plain = (h5py.h5t.TypeIntegerID, h5py.h5t.TypeFloatID, h5py.h5t.TypeStringID)
    if not isinstance(kind, plain) or (isinstance(kind, h5py.h5t.TypeStringID) and kind.is_variable_str()):
        raise ZooError(f"/{name} is of type {type(kind).__name__}; numbers or fixed-length text are required")
    return np.dtype(kind.dtype)


def _check_extents(extents: Mapping[str, Extent], header: Header) -> None:
    rows = extents["weights"].shape[0]
    for name, extent in extents.items():
        kind = header.columns.get(name.removeprefix("columns/"))
        right = stored_as(kind, extent.dtype) if kind and name not in _FIXED else extent.dtype == np.dtype(_FIXED[name])
        if not right:
            raise ZooError(f"/{name} is stored as {extent.dtype}; {kind or _FIXED[name]} is required")
        shape = (rows, header.layout.size) if name == "weights" else (rows,)
        if extent.shape != shape and not (name == "split" and len(extent.shape) == 1 and extent.shape[0] <= rows):
            raise ZooError(f"/{name} has shape {extent.shape}; {shape} is required")
