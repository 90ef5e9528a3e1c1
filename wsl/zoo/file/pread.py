"""`PreadFile`: the bytes of a file by system calls, for files that may be cut or fail meanwhile.

A page of a memory map that cannot be had ends the process with SIGBUS: on a network file system, a
failing disk, or a file cut during the very copy. A call (pread) returns short or with an error code
instead, which is a `ZooError` here. The price is a call for each run of adjacent rows: shuffled
batches take about two and a half times as long as from a map.
"""

from __future__ import annotations

import os
import weakref
from pathlib import Path

import numpy as np

from wsl.zoo.file.error import ZooError
from wsl.zoo.file.mapping import Extent, check_size
from wsl.zoo.file.storage import carrier


class PreadFile:
    """The file ``path``, open for reading, with the methods of `MappedFile`.

    It keeps no position, so a process may fork.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self._descriptor)
        status = os.fstat(self._descriptor)
        self.size = status.st_size
        self._identity = (status.st_dev, status.st_ino)

    def same_as(self, status: os.stat_result) -> bool:
        """Whether ``status`` is that of this very file."""
        return self._identity == (status.st_dev, status.st_ino)

    def array(self, extent: Extent) -> np.ndarray:
        """A copy of the array at ``extent``."""
        return np.frombuffer(self.read(extent.offset, extent.nbytes), extent.dtype).reshape(
            extent.shape
        )

    def read(self, offset: int, count: int) -> bytes:
        """A copy of ``count`` bytes."""
        data = np.empty(count, dtype=np.uint8)
        self.fill(data, offset)
        return data.tobytes()

    def rows(self, extent: Extent) -> PreadRows:
        """Random access to the rows of the array at ``extent``."""
        return PreadRows(self, extent)

    def fill(self, data: np.ndarray, offset: int) -> None:
        """Read the contiguous ``data`` from ``offset`` on.

        Raises `ZooError` if the file ends before, or cannot be read.
        """
        done = self._call(data.data, offset)
        while done < data.nbytes:
            more = self._call(data.data.cast("B")[done:], offset + done)
            if not more:
                check_size(self.path, os.fstat(self._descriptor).st_size, self.size)
                raise ZooError(
                    f"{self.path}: gives no bytes after {offset + done}; check the disk, and "
                    "fetch the file again"
                )
            done += more

    def _call(self, data: memoryview, offset: int) -> int:
        try:
            return os.preadv(self._descriptor, (data,), offset)
        except OSError as error:
            raise ZooError(
                f"{self.path}: cannot be read at byte {offset} ({error.strerror}); check the disk "
                "or the network, "
                "and run 'wsl zoo verify'"
            ) from None


class PreadRows:
    """Random access to the rows of a contiguous array (R, P) in ``file``."""

    def __init__(self, file: PreadFile, extent: Extent) -> None:
        self._file, self._extent = file, extent
        self._bytes = extent.nbytes // extent.shape[0]

    def take(self, rows: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """``rows`` (n,), which must exist, as (n, P) numbers of `carrier`, in ``out`` if given."""
        block = np.empty((len(rows), self._extent.shape[1]), dtype=self._extent.dtype)
        starts = np.flatnonzero(np.diff(rows, prepend=-2) != 1)  # of runs of adjacent rows
        offsets = rows[starts] * self._bytes + self._extent.offset
        stops = np.append(starts[1:], len(rows))[: len(starts)]
        for start, stop, offset in zip(
            starts.tolist(), stops.tolist(), offsets.tolist(), strict=True
        ):
            self._file.fill(block[start:stop], offset)
        if out is None:
            return carrier(block)
        out[...] = carrier(block)
        return out
