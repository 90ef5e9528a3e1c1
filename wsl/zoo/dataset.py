"""`Zoo`: a population of checkpoints of one architecture in one HDF5 file, as a sequence of weights with metadata.

    zoo[i] = (theta_i, metadata_i);   a batch is one gather of rows from the memory-mapped file

Opening reads the header only. Metadata are checked against their checksums when first used; the weights of all rows when
`Zoo.verify` is called, never in passing. No handle is kept: a zoo may be pickled, forked and sent to workers, and each
process maps the file for itself. The file is never written to.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from wsl.params import Params
from wsl.symmetry import PermutationSpec
from wsl.zoo.error import ZooError
from wsl.zoo.format import SPLITS
from wsl.zoo.loader import Batch, Loader
from wsl.zoo.models import write_models
from wsl.zoo.reader import mapped, read
from wsl.zoo.statistics import statistics
from wsl.zoo.table import read_column, read_table, select

_NUMBERS = {"f": torch.float32, "i": torch.int64, "b": torch.bool}


class Zoo:
    """Read-only view of a zoo file; raises `ZooError` if ``path`` is not a complete, undamaged one.

    ``columns`` maps each metadata column to its kind, ``buffers`` names the tensors that are not trained.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).absolute()
        self._contents = read(self.path)
        header = self._contents.header
        self.spec: PermutationSpec = header.spec
        self.architecture: dict[str, Any] | None = header.architecture
        self.provenance: dict[str, Any] = header.provenance
        self.columns: dict[str, str] = dict(header.columns)
        self.shapes: dict[str, torch.Size] = header.layout.shapes
        self.dtypes: dict[str, torch.dtype] = header.layout.dtypes
        self.buffers: tuple[str, ...] = tuple(entry.name for entry in header.layout.entries if entry.kind == "buffer")
        self._cache: dict[Any, Any] = {}

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
    ) -> Zoo:
        """Write ``models`` (modules or state dicts of one architecture) as members 0..N-1 at epoch 0, and open the file.

        ``metadata`` maps a column's name to one number, bool or text per model. An existing file is replaced once the new
        one is complete. Raises `ZooError` naming the model, tensor or column that does not fit.
        """
        write_models(Path(path).absolute(), models, spec=spec, metadata=metadata, architecture=architecture,
                     provenance=provenance, split=split, seed=seed, allow_nonfinite=allow_nonfinite)  # fmt: skip
        return cls(path)

    def __len__(self) -> int:
        return self._contents.extents["weights"].shape[0]

    def __repr__(self) -> str:
        members, layout = self._contents.extents["split"].shape[0], self._contents.header.layout
        return (f"Zoo({str(self.path)!r}: {len(self):,} checkpoints of {members:,} members, {layout.size:,} values in "
                f"{len(layout.entries)} tensors; columns {', '.join(self.columns) or 'none'})")  # fmt: skip

    def __getitem__(self, index: Any) -> tuple[Params, dict[str, Any]]:
        """One checkpoint and its metadata as Python values; for a slice or a sequence of row numbers, a batch of them."""
        if isinstance(index, slice):
            return self.__getitems__(range(len(self))[index])
        if not hasattr(index, "__index__") or getattr(index, "ndim", 0):
            return self.__getitems__(index)
        rows = self._rows([int(index)])
        params, record = self._gather(rows), self.table[rows[0]]
        return {name: tensor[0].clone() for name, tensor in params.items()}, {name: record[name].item() for name in self._names}

    def __getitems__(self, indices: Any) -> Batch:
        """The checkpoints ``indices`` as tensors (B, *shape), views of one block, and their numbers as tensors (B,)."""
        rows = self._rows(indices)
        index = torch.from_numpy(rows)
        numbers = {name: values for names, matrix in self._numbers
                   for name, values in zip(names, matrix.index_select(0, index).unbind(1), strict=True)}  # fmt: skip
        return self._gather(rows), {name: numbers[name] for name in self._names if name in numbers}

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "checksum": self._contents.checksum}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["path"])
        self._check_same(state["checksum"])

    @staticmethod
    def collate(batch: Batch) -> Batch:
        """For a `DataLoader` over a zoo: batches come whole, so there is nothing to collate."""
        return batch

    @property
    def table(self) -> np.ndarray:
        """All metadata, a read-only structured array with one record per row: member, epoch, split, then the columns."""
        if "table" not in self._cache:
            self._cache["table"] = read_table(self.path, self._contents)
        return self._cache["table"]

    def indices(self, split: str | None = None, **equals: Any) -> np.ndarray:
        """Rows, ascending, of a split ("train", "val", "test"; None: all) whose metadata equal what is asked: ``epoch=20``."""
        if split is not None and split not in SPLITS:
            raise ZooError(f"{self.path}: split {split!r} is unknown; the splits are {', '.join(SPLITS)}")
        return select(self.table, {**({} if split is None else {"split": split}), **equals})

    def loader(
        self,
        split: str | None = None,
        *,
        batch_size: int,
        shuffle: bool = False,
        seed: int = 0,
        drop_last: bool = False,
        epoch: int | None = None,
    ) -> Loader:
        """Batches of the rows of a split, at one ``epoch`` or all; the order depends on seed and number of the pass."""
        if batch_size < 1 or seed < 0:
            raise ZooError(f"loader: batch_size {batch_size} must be at least 1, and seed {seed} at least 0")
        rows = self.indices(split, **({} if epoch is None else {"epoch": epoch}))
        if not len(rows):
            epochs = ", ".join(map(str, np.unique(self.table["epoch"])[:20]))
            raise ZooError(f"{self.path}: no rows of split {split!r} at epoch {epoch}; the file has epochs {epochs}")
        return Loader(self, rows, batch_size, shuffle=shuffle, seed=seed, drop_last=drop_last)

    def statistics(self, split: str | None = "train") -> dict[str, tuple[Tensor, Tensor]]:
        """Mean and population standard deviation over rows and entries of each tensor, 0-d float64; computed once.

        Entries that are not finite are left out.
        """
        if ("statistics", split) not in self._cache:
            rows = self.indices(split)
            if not len(rows):
                raise ZooError(f"{self.path}: split {split!r} has no rows, hence no statistics; choose another split")
            self._cache["statistics", split] = statistics(self._weights, rows, self._contents.header.layout)
        return dict(self._cache["statistics", split])

    def verify(self) -> None:
        """Compare everything with its checksums; raises `ZooError` naming the damaged column, or the first damaged row."""
        contents = read(self.path)
        self._check_same(contents.checksum)
        table, weights = read_table(self.path, contents), mapped(self.path, contents.extents["weights"])
        try:
            expected = read_column(self.path, contents, "crc32").tolist()
        except ZooError as error:
            raise ZooError(f"{self.path}: {error}") from None
        for row, crc32 in enumerate(expected):
            if zlib.crc32(weights[row].data) != crc32:
                raise ZooError(f"{self.path}: row {row} (member {table['member'][row]}, epoch {table['epoch'][row]}) does not "
                               "match its checksum; its weights are damaged, fetch or build the file again")  # fmt: skip

    @property
    def _weights(self) -> np.ndarray:
        if "weights" not in self._cache:
            self._cache["weights"] = mapped(self.path, self._contents.extents["weights"])
        return self._cache["weights"]

    @property
    def _names(self) -> tuple[str, ...]:
        return ("member", "epoch", "split", *self.columns)

    @property
    def _numbers(self) -> list[tuple[list[str], Tensor]]:
        """Numeric columns side by side, one matrix (rows, columns) for each of float32, int64 and bool: a gather for each."""
        if "numbers" not in self._cache:
            names = {kind: [name for name in self._names if self.table[name].dtype.kind == kind] for kind in _NUMBERS}
            self._cache["numbers"] = [
                (names[kind], torch.stack([torch.from_numpy(self.table[name].copy()).to(dtype) for name in names[kind]], 1))
                for kind, dtype in _NUMBERS.items()
                if names[kind]
            ]
        return self._cache["numbers"]

    def _check_same(self, checksum: int) -> None:
        if checksum != self._contents.checksum:
            raise ZooError(f"{self.path}: was replaced by another file after it was opened; open it again")

    def _rows(self, indices: Any) -> np.ndarray:
        rows = np.asarray(indices)
        rows = rows if rows.size else np.zeros(0, dtype=np.int64)
        if rows.ndim != 1 or rows.dtype.kind not in "iu":
            raise ZooError(f"{self.path}: rows must be a sequence of integers, got {rows.dtype} of shape {rows.shape}")
        wrong = rows[(rows < -len(self)) | (rows >= len(self))]
        if wrong.size:
            raise IndexError(f"{self.path}: row {wrong[0]} does not exist; the zoo has {len(self)} rows")
        return np.where(rows < 0, rows + len(self), rows).astype(np.int64)

    def _gather(self, rows: np.ndarray) -> Params:
        block = torch.empty(len(rows), self._contents.header.layout.size, dtype=torch.float32)
        # mode="clip" writes into out without a second buffer; _rows has checked the bounds
        np.take(self._weights, rows, axis=0, out=block.numpy(), mode="clip")
        return self._contents.header.layout.unpack(block)
