"""`Zoo`: a population of checkpoints of one architecture in one HDF5 file, as a sequence of weights
with metadata.

    zoo[i] = (theta_i, metadata_i);   a batch is one gather of rows from the memory-mapped file

Opening reads the header only. Metadata are checked against their checksums when first used; the
weights of all rows when `Zoo.verify` is called, and in passing only in an archive. No HDF5 handle
is kept: a zoo may be pickled, forked and sent to workers. The file is never written to; one that is
replaced while open stays as it was, one that is cut short is an error.
"""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

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
)
from wsl.zoo.rows import Checkpoints, read_column, read_table
from wsl.zoo.write import write_models

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
        models: Iterable[nn.Module | Mapping[str, Tensor]],
        *,
        spec: PermutationSpec,
        metadata: Mapping[str, Sequence[Any] | np.ndarray | Tensor],
        architecture: dict[str, Any] | None = None,
        provenance: dict[str, Any] | None = None,
        split: tuple[float, float, float] = (0.8, 0.1, 0.1),
        seed: int = 0,
        allow_nonfinite: bool = False,
        dtype: torch.dtype = torch.float32,
    ) -> Zoo:
        """Write ``models`` (modules or state dicts of one architecture) as members 0..N-1 at epoch
        0, and open the file.

        ``metadata`` maps a column's name to one number, bool or text per model. An existing file is
        replaced once the new one is complete. ``dtype`` torch.bfloat16 or torch.float16 rounds the
        weights and halves the file. Raises `ZooError` naming the model, tensor or column that does
        not fit.
        """
        write_models(
            Path(path).absolute(),
            models,
            spec=spec,
            metadata=metadata,
            architecture=architecture,
            provenance=provenance,
            split=split,
            seed=seed,
            allow_nonfinite=allow_nonfinite,
            dtype=dtype,
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
        """Rows (n,) int64 in 0..N-1 as one block (n, P) of the stored type, in ``out`` if it is
        given.
        """
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
        """Compare everything with its checksums; raises `ZooError` naming the damaged column, or
        the first damaged row.
        """
        whole = Zoo(self.path, mapped=self._mapped)
        self._check_same(whole._contents.checksum)
        table = whole.table
        try:
            expected = read_column(whole._contents, "crc32").tolist()
        except ZooError as error:
            raise ZooError(f"{self.path}: {error}") from None
        step = max(1, _VERIFIED // (4 * self.header.layout.size))
        for start in range(0, len(whole), step):
            rows = np.arange(start, min(start + step, len(whole)))
            for row, data in zip(rows.tolist(), carried(whole.gather(rows)).numpy(), strict=True):
                if zlib.crc32(data.data) != expected[row]:
                    raise ZooError(
                        f"{self.path}: row {row} (member {table['member'][row]}, epoch "
                        f"{table['epoch'][row]}) does "
                        "not match its checksum; its weights are damaged, fetch or build it again"
                    )

    def _read_table(self) -> np.ndarray:
        return read_table(self._contents)

    @property
    def _reading(self) -> tuple[int, torch.dtype, MappedRows | PreadRows | ChunkedRows]:
        """P, the stored type, and where rows are taken from."""
        if "reading" not in self._cache:
            file, weights = self._contents.file, self._contents.weights
            source = (
                ChunkedRows(file, weights) if isinstance(weights, Chunks) else file.rows(weights)
            )
            self._cache["reading"] = (
                self.header.layout.size,
                TORCH[self._contents.header.dtype],
                source,
            )
        return self._cache["reading"]

    def _check_same(self, checksum: int) -> None:
        if checksum != self._contents.checksum:
            raise ZooError(
                f"{self.path}: was replaced by another file after it was opened; open it again"
            )


def _in_type(contents: Contents, dtype: torch.dtype | None) -> Header:
    """The header with its floating tensors in another type; rows are cast tensor by tensor when
    they are unpacked.
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
