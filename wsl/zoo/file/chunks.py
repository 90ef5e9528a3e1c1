"""`Chunks`: the rows of an archive file, in compressed blocks that each carry their own checksum.

    stored = fletcher32(deflate(shuffle(rows a..b)))        HDF5's filters 2, 1, 3, in this order

Any HDF5 program reads them; here the blocks are found through HDF5 at opening and decoded from the
mapped file with zlib, so that nothing is held open, a process may fork, and a block that would
unpack to more than it says is refused. The blocks used last are kept decoded, up to 64 MiB. A row
costs the decoding of its block: for training, write the rows out uncompressed.
"""

from __future__ import annotations

import dataclasses
import zlib
from collections import OrderedDict

import numpy as np

from wsl.zoo.file.error import ZooError
from wsl.zoo.file.mapping import MappedFile
from wsl.zoo.file.pread import PreadFile
from wsl.zoo.file.storage import carrier

MAX_CHUNK = 16 << 20
"""Largest block, unpacked, in bytes."""
_KEPT = 64 << 20


@dataclasses.dataclass(frozen=True)
class Chunks:
    """Where the blocks of rows lie in the file.

    The rows together are ``shape`` (R, P), ``rows`` of them in each block; ``places`` (blocks, 2)
    holds the offset and the size of each.
    """

    dtype: np.dtype
    shape: tuple[int, ...]
    rows: int
    places: np.ndarray


class ChunkedRows:
    """Random access to the rows of ``chunks`` in ``file``."""

    def __init__(self, file: MappedFile | PreadFile, chunks: Chunks) -> None:
        self._file, self._chunks = file, chunks
        self._decoded: OrderedDict[int, np.ndarray] = OrderedDict()

    def take(self, rows: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """``rows`` (n,), which must exist, as (n, P) numbers of `carrier`, in ``out`` if given.

        Raises `ZooError` naming the rows of a damaged block.
        """
        if out is None:
            out = carrier(np.empty((len(rows), self._chunks.shape[1]), dtype=self._chunks.dtype))
        which = rows // self._chunks.rows
        for number in np.unique(which).tolist():
            here = np.flatnonzero(which == number)
            out[here] = self._block(number)[rows[here] - number * self._chunks.rows]
        return out

    def _block(self, number: int) -> np.ndarray:
        if number in self._decoded:
            self._decoded.move_to_end(number)
            return self._decoded[number]
        block = self._decode(number)
        self._decoded[number] = block
        while len(self._decoded) * block.nbytes > _KEPT and len(self._decoded) > 1:
            self._decoded.popitem(last=False)
        return block

    def _decode(self, number: int) -> np.ndarray:
        """Undo the filters of a block, the last first: fletcher32, deflate, shuffle."""
        chunks, size = self._chunks, self._chunks.dtype.itemsize
        data = self._file.read(*map(int, chunks.places[number]))
        packed, stored = data[:-4], data[-4:]
        if len(data) < 4 or fletcher32(packed) != _reduced(stored):
            raise self._damaged(number)
        plain = self._unpacked(number, packed, chunks.rows * chunks.shape[1] * size)
        # shuffled, the first bytes of all values come first, then the second, ...
        planes = np.frombuffer(plain, np.uint8).reshape(size, -1)
        values = np.ascontiguousarray(planes.T).view(chunks.dtype)
        return carrier(values).reshape(chunks.rows, chunks.shape[1])

    def _unpacked(self, number: int, packed: bytes, expected: int) -> bytes:
        """At most one byte more than ``expected`` is unpacked, whatever the block says."""
        try:
            unpacker = zlib.decompressobj()
            plain = unpacker.decompress(packed, expected + 1)
        except zlib.error:
            raise self._damaged(number) from None
        if len(plain) != expected or not unpacker.eof:
            raise self._damaged(number)
        return plain

    def _damaged(self, number: int) -> ZooError:
        first = number * self._chunks.rows
        last = min(first + self._chunks.rows, self._chunks.shape[0]) - 1
        return ZooError(
            f"{self._file.path}: the block of rows {first} to {last} does not match its checksum; "
            "its weights are "
            "damaged, fetch or build the file again"
        )


def fletcher32(data: bytes) -> tuple[int, int]:
    """The two sums of Fletcher's checksum over big-endian 16-bit words, modulo 65535.

    An odd byte is a word's upper half.
    """
    words = np.frombuffer(data + b"\0" * (len(data) % 2), ">u2").astype(np.uint64)
    sum1 = int(words.sum()) % 65535
    # weights n, n-1, ..., 1: each product is below 2^16 2^23, and MAX_CHUNK allows 2^23 of them
    sum2 = int((words * np.arange(len(words), 0, -1, dtype=np.uint64)).sum()) % 65535
    return sum1, sum2


def _reduced(stored: bytes) -> tuple[int, int]:
    """Stored little-endian as (sum2, sum1); 0 and 65535 stand for the same."""
    value = int.from_bytes(stored, "little")
    return (value & 0xFFFF) % 65535, (value >> 16) % 65535
