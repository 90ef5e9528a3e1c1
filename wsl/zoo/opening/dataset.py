"""`Zoo`: a population of checkpoints in one HDF5 file, as a sequence of weights with metadata.

    zoo[i] = (theta_i, metadata_i)          a batch is one gather of rows from the mapped file

Opening reads the header only. Metadata are checked against their checksums when first used; the
weights of all rows when `Zoo.verify` is called, and in passing only in an archive. No HDF5 handle
is kept: a zoo may be pickled, forked and sent to workers. The file is never written to; one that is
replaced while open stays as it was, one that is cut short is an error.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wsl.symmetry import PermutationSpec
from wsl.zoo.file import (
    TORCH,
    ChunkedRows,
    Chunks,
    Contents,
    Header,
    MappedRows,
    PreadRows,
    ZooError,
    carried,
    read,
    row_checksums,
)
from wsl.zoo.rows import Checkpoints, read_column, read_table
from wsl.zoo.write import FileOptions, Model, write_models

_VERIFIED = 8 << 20
"""Bytes of rows that `Zoo.verify` holds at a time."""


class Zoo(Checkpoints):
    """Read-only view of a zoo file; raises `ZooError` if ``path`` is not a complete, undamaged one.

    ``dtype``: the type in which floating tensors are given; None: as they were stored.
    ``mapped=False`` reads by system calls, which is slower, but on a network file system turns what
    would end the process into a `ZooError` (see `wsl.zoo.file.pread`).
    """

    def __init__(
        self, path: str | Path, *, dtype: torch.dtype | None = None, mapped: bool = True
    ) -> None:
        where = Path(path).absolute()
        self._contents = read(where, mapped=mapped)
        self._dtype, self._mapped = dtype, mapped
        super().__init__(where, _in_type(self._contents, dtype))

    @classmethod
    def from_models(
        cls,
        path: str | Path,
        models: Iterable[Model],
        *,
        spec: PermutationSpec,
        metadata: Mapping[str, Sequence[Any] | np.ndarray | Tensor] = MappingProxyType({}),
        **options: Any,
    ) -> Zoo:
        """Write ``models`` as members 0..N-1 at epoch 0 of a new zoo file, and open it.

        An existing file is replaced once the new one is complete. Raises `ZooError` naming the
        model, tensor or column that does not fit.

        Parameters
            models: modules or state dicts of one architecture.
            metadata: a column's name to one number, truth value or text per model.
            options: architecture, provenance, split, seed, allow_nonfinite, dtype; see
                `wsl.zoo.FileOptions`.
        """
        write_models(
            Path(path).absolute(),
            models,
            spec=spec,
            metadata=metadata,
            options=FileOptions(**options),
        )
        return cls(path)

    def __len__(self) -> int:
        return self._contents.weights.shape[0]

    def __getstate__(self) -> dict[str, Any]:
        return {
            "path": self.path,
            "dtype": self._dtype,
            "mapped": self._mapped,
            "checksum": self._contents.checksum,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["path"], dtype=state["dtype"], mapped=state["mapped"])
        self._check_same(state["checksum"])

    @property
    def archived(self) -> bool:
        """Whether the rows lie in compressed blocks."""
        return isinstance(self._contents.weights, Chunks)

    def gather(self, rows: np.ndarray, out: Tensor | None = None) -> Tensor:
        """Rows (n,) int64 in 0..N-1 as a block (n, P) of the stored type, in ``out`` if given."""
        size, dtype, source = self._reading
        if out is None:
            return torch.from_numpy(source.take(rows)).view(dtype)
        if out.shape != (len(rows), size) or out.dtype != dtype:
            raise ZooError(
                f"{self.path}: out must have shape {(len(rows), size)} and type {dtype}, "
                f"got {tuple(out.shape)} and {out.dtype}"
            )
        source.take(rows, carried(out).numpy())
        return out

    def verify(self) -> None:
        """Compare everything with its checksums.

        Raises `ZooError` naming the damaged column, or the first damaged row.
        """
        whole = Zoo(self.path, mapped=self._mapped)  # as stored, whatever type this one gives
        self._check_same(whole._contents.checksum)
        table = whole.table
        for row, found, expected in whole._row_checksums():
            if found != expected:
                raise ZooError(
                    f"{self.path}: row {row} (member {table['member'][row]}, epoch "
                    f"{table['epoch'][row]}) does "
                    "not match its checksum; its weights are damaged, fetch or build it again"
                )

    def _row_checksums(self) -> Iterator[tuple[int, int, int]]:
        """Number of each row, the checksum of its bytes, and the one that is noted for it."""
        try:
            expected = read_column(self._contents, "crc32").tolist()
        except ZooError as error:
            raise ZooError(f"{self.path}: {error}") from None
        step = max(1, _VERIFIED // (4 * self.header.layout.size))
        for start in range(0, len(self), step):
            rows = np.arange(start, min(start + step, len(self)))
            block = carried(self.gather(rows)).numpy()
            noted = expected[start : start + step]
            yield from zip(rows.tolist(), row_checksums(block).tolist(), noted, strict=True)

    def _read_table(self) -> np.ndarray:
        return read_table(self._contents)

    @property
    def _reading(self) -> tuple[int, torch.dtype, MappedRows | PreadRows | ChunkedRows]:
        """P, the stored type, and where rows are taken from."""
        if "reading" not in self._cache:
            file, weights = self._contents.file, self._contents.weights
            chunked = isinstance(weights, Chunks)
            source = ChunkedRows(file, weights) if chunked else file.rows(weights)
            stored = TORCH[self._contents.header.dtype]
            self._cache["reading"] = (self.header.layout.size, stored, source)
        return self._cache["reading"]

    def _check_same(self, checksum: int) -> None:
        if checksum != self._contents.checksum:
            raise ZooError(
                f"{self.path}: was replaced by another file after it was opened; open it again"
            )


def _in_type(contents: Contents, dtype: torch.dtype | None) -> Header:
    """The header with its floating tensors in another type.

    Rows are cast tensor by tensor when they are unpacked.
    """
    if dtype is None:
        return contents.header
    if not dtype.is_floating_point:
        raise ZooError(
            f"{contents.file.path}: dtype {dtype} is no floating type; use torch.float32, for "
            "example"
        )
    return dataclasses.replace(
        contents.header, layout=contents.header.layout.cast(dtype), dtype="float32"
    )
