"""`MappedFile`: the bytes of a file as they were when it was opened, straight from the page cache.

The map belongs to the file that was opened: one that is put in its place later does not mix with
it. To read a page beyond the end of a file that was cut short in place would end the process with
SIGBUS; so every use begins with `check`, which asks the system for the size (fstat, under a
microsecond). A file cut during a gather, between check and read, is not caught; where that may
happen, `wsl.zoo.file.pread` reads by calls.
"""

from __future__ import annotations

import dataclasses
import math
import mmap
import os
from pathlib import Path

import numpy as np

from wsl.zoo.file.error import ZooError
from wsl.zoo.file.storage import carrier


@dataclasses.dataclass(frozen=True)
class Extent:
    """Place of one contiguous array in a file."""

    offset: int
    dtype: np.dtype
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Number of bytes."""
        return math.prod(self.shape) * self.dtype.itemsize


class MappedFile:
    """The file ``path``, mapped read-only.

    Survives fork, the renaming and the removal of the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            status = os.fstat(file.fileno())
        self.size = len(self._map)
        self._identity = (status.st_dev, status.st_ino)

    def same_as(self, status: os.stat_result) -> bool:
        """Whether ``status`` is that of this very file."""
        return self._identity == (status.st_dev, status.st_ino)

    def check(self) -> None:
        """Raise `ZooError` if the file has become shorter than it was."""
        if (now := self._map.size()) < self.size:
            check_size(self.path, now, self.size)

    def array(self, extent: Extent) -> np.ndarray:
        """The array at ``extent``, read-only, not copied."""
        self.check()
        flat = np.frombuffer(
            self._map, extent.dtype, count=math.prod(extent.shape), offset=extent.offset
        )
        return flat.reshape(extent.shape)

    def read(self, offset: int, count: int) -> bytes:
        """A copy of ``count`` bytes."""
        self.check()
        return self._map[offset : offset + count]

    def rows(self, extent: Extent) -> MappedRows:
        """Random access to the rows of the array at ``extent``."""
        return MappedRows(self, extent)


class MappedRows:
    """Random access to the rows of a contiguous array (R, P) in ``file``."""

    def __init__(self, file: MappedFile, extent: Extent) -> None:
        self._file = file
        self._rows = carrier(file.array(extent))

    def take(self, rows: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """``rows`` (n,), which must exist, as (n, P) numbers of `carrier`, in ``out`` if given."""
        self._file.check()
        # mode="clip" writes into out without a second buffer
        return (
            self._rows.take(rows, axis=0)
            if out is None
            else self._rows.take(rows, axis=0, out=out, mode="clip")
        )


def check_size(path: Path, now: int, needed: int) -> None:
    """Raise `ZooError` if the file ``path`` was cut short after it was opened.

    It has ``now`` bytes, and had the ``needed`` ones.
    """
    if now < needed:
        raise ZooError(
            f"{path}: was cut short after it was opened: it had {needed} bytes and has {now}; "
            "replace a file by renaming another to its name, and open it again"
        )
