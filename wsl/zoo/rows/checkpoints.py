"""`Checkpoints`: a sequence of weights of one architecture, with metadata.

    zoo[i] = (theta_i, metadata_i)        a batch is one gather of rows
    zoo.where("epoch == 20")              is again such a sequence

It may be a file, some of its rows, or several files as one. Everything that can be said of rows and
columns is said here once; `Zoo`, `View`, `Concatenation` and `Resident` say only where the rows
come from. Metadata and statistics are computed when first used, and kept.
"""

from __future__ import annotations

import abc
import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import torch
from torch import Tensor

from wsl.params import Params
from wsl.symmetry import PermutationSpec
from wsl.zoo.file import SPLITS, Header, ZooError
from wsl.zoo.rows.loader import Batch, Loader
from wsl.zoo.rows.numbers import Numbers
from wsl.zoo.rows.statistics import statistics
from wsl.zoo.rows.table import select
from wsl.zoo.rows.where import where


class MissingRow(ZooError, IndexError):
    """A row number is asked for that the zoo does not have."""


class Checkpoints(abc.ABC):
    """N checkpoints of one architecture.

    ``path`` is the file they come from, or the first of several. ``columns`` maps each metadata
    column to its kind, ``buffers`` names the tensors that are not trained. ``device`` is where
    batches are made.
    """

    path: Path
    device: torch.device = torch.device("cpu")

    def __init__(self, path: Path, header: Header) -> None:
        self.path = path
        self.header = header
        self.spec: PermutationSpec = header.spec
        self.architecture: dict[str, Any] | None = header.architecture
        self.provenance: dict[str, Any] = header.provenance
        self.columns: dict[str, str] = dict(header.columns)
        self.shapes: dict[str, torch.Size] = header.layout.shapes
        self.dtypes: dict[str, torch.dtype] = header.layout.dtypes
        self.buffers: tuple[str, ...] = tuple(
            entry.name for entry in header.layout.entries if entry.kind == "buffer"
        )
        self._cache: dict[Any, Any] = {}

    @abc.abstractmethod
    def __len__(self) -> int: ...

    @abc.abstractmethod
    def gather(self, rows: np.ndarray, out: Tensor | None = None) -> Tensor:
        """Rows (n,) int64 in 0..N-1 as a block (n, P) of the stored type, in ``out`` if given."""

    @abc.abstractmethod
    def verify(self) -> None:
        """Compare everything with its checksums; raises `ZooError` naming what is damaged."""

    @abc.abstractmethod
    def _read_table(self) -> np.ndarray: ...

    @property
    def table(self) -> np.ndarray:
        """All metadata, a read-only structured array with one record per row.

        Its fields are member, epoch, split, then the columns.
        """
        if "table" not in self._cache:
            self._cache["table"] = self._read_table()
            self._cache["table"].flags.writeable = False
        return self._cache["table"]

    def __repr__(self) -> str:
        members, layout = len(np.unique(self.table["member"])), self.header.layout
        return (
            f"{type(self).__name__}({str(self.path)!r}: {len(self):,} checkpoints of {members:,} "
            f"members, {layout.size:,} "
            f"values in {len(layout.entries)} tensors; columns {', '.join(self.columns) or 'none'})"
        )

    def __iter__(self) -> Iterator[tuple[Params, dict[str, Any]]]:
        return (self[row] for row in range(len(self)))

    def __getitem__(self, index: Any) -> tuple[Params, dict[str, Any]]:
        """One checkpoint and its metadata as Python values.

        For a slice or a sequence of row numbers, a batch of them.
        """
        if isinstance(index, slice):
            return self.__getitems__(range(len(self))[index])
        if not hasattr(index, "__index__") or getattr(index, "ndim", 0):
            return self.__getitems__(index)
        rows = self.row_numbers([int(index)])
        params, record = self.header.layout.unpack(self.gather(rows)), self.table[rows[0]]
        metadata = {name: record[name].item() for name in self._names}
        return {name: tensor[0].clone() for name, tensor in params.items()}, metadata

    def __getitems__(self, indices: Any) -> Batch:
        """The checkpoints ``indices`` as tensors (B, *shape), and their numbers as tensors (B,).

        The weights are views of one block.
        """
        return self.batch(indices)

    def batch(
        self, indices: Any, *, out: Tensor | None = None, device: torch.device | str | None = None
    ) -> Batch:
        """As ``zoo[indices]``, but on ``device``.

        The weights go by way of ``out`` (B, P), for example pinned memory.
        """
        return self.read(self.row_numbers(indices), out=out, device=device)

    def read(
        self,
        rows: np.ndarray,
        *,
        out: Tensor | None = None,
        device: torch.device | str | None = None,
    ) -> Batch:
        """As `batch`, for row numbers (B,) int64 that are known to lie in 0..N-1.

        That is what a loader does for each batch.
        """
        block = self.gather(rows, out)
        if device is not None:
            block = block.to(device, non_blocking=True)
        return self.header.layout.unpack(block), self._numbers.take(rows, block.device)

    @staticmethod
    def collate(batch: Batch) -> Batch:
        """For a `DataLoader` over a zoo: batches come whole, so there is nothing to collate."""
        return batch

    def indices(self, split: str | None = None, **equals: Any) -> np.ndarray:
        """Rows, ascending, of a split whose metadata equal what is asked, such as ``epoch=20``.

        A split is "train", "val" or "test"; None takes all.
        """
        if split is not None and split not in SPLITS:
            raise ZooError(
                f"{self.path}: split {split!r} is unknown; the splits are {', '.join(SPLITS)}"
            )
        return select(self.table, {**({} if split is None else {"split": split}), **equals})

    def where(self, condition: str) -> View:
        """The rows that fulfil a condition, such as ``"test_accuracy > 0.8 & epoch == 20"``.

        See `wsl.zoo.rows.where` for the grammar.

        Raises `ZooError` if it cannot be understood, or no row fulfils it.
        """
        rows = np.flatnonzero(where(condition, self.table))
        if not len(rows):
            raise ZooError(f"{self.path}: no row fulfils {condition!r}; look at zoo.table")
        return View(self, rows)

    def subset(self, rows: Any) -> View:
        """The given rows in the given order."""
        return View(self, self.row_numbers(rows))

    def split(self, name: str) -> View:
        """The rows of a split: "train", "val" or "test"."""
        return self.subset(self.indices(name))

    @property
    def by_member(self) -> Mapping[int, View]:
        """Trajectories: member number to its rows."""
        return Views(self, "member")

    @property
    def by_epoch(self) -> Mapping[int, View]:
        """Populations: epoch to the rows of all members there."""
        return Views(self, "epoch")

    def loader(
        self,
        split: str | None = None,
        *,
        batch_size: int,
        shuffle: bool = False,
        seed: int = 0,
        drop_last: bool = False,
        epoch: int | None = None,
        device: torch.device | str | None = None,
    ) -> Loader:
        """Batches of the rows of a split, at one ``epoch`` or all.

        The order depends on seed and number of the pass. ``device``: where the batches shall be; to
        a GPU they go through pinned memory while the next one is read.
        """
        if batch_size < 1 or seed < 0:
            raise ZooError(
                f"loader: batch_size {batch_size} must be at least 1, and seed {seed} at least 0"
            )
        rows = self.indices(split, **({} if epoch is None else {"epoch": epoch}))
        if not len(rows):
            epochs = ", ".join(map(str, np.unique(self.table["epoch"])[:20]))
            raise ZooError(
                f"{self.path}: no rows of split {split!r} at epoch {epoch}; the file has epochs "
                f"{epochs}"
            )
        target = None if device is None else torch.device(device)
        return Loader(
            self, rows, batch_size, shuffle=shuffle, seed=seed, drop_last=drop_last, device=target
        )

    def statistics(self, split: str | None = "train") -> dict[str, tuple[Tensor, Tensor]]:
        """Mean and population standard deviation over rows and entries of each tensor, 0-d float64.

        Computed once. Entries that are not finite are left out.
        """
        if ("statistics", split) not in self._cache:
            rows = self.indices(split)
            if not len(rows):
                raise ZooError(
                    f"{self.path}: split {split!r} has no rows, hence no statistics; choose "
                    "another split"
                )
            self._cache["statistics", split] = statistics(self.gather, rows, self.header.layout)
        return dict(self._cache["statistics", split])

    @property
    def _names(self) -> tuple[str, ...]:
        return ("member", "epoch", "split", *self.columns)

    @functools.cached_property
    def _numbers(self) -> Numbers:
        return Numbers(self.table, self._names, self.device)

    def row_numbers(self, indices: Any) -> np.ndarray:
        """``indices`` as row numbers 0..N-1, where negative ones count from the end."""
        rows = np.asarray(indices)
        rows = rows if rows.size else np.zeros(0, dtype=np.int64)
        if rows.ndim != 1 or rows.dtype.kind not in "iu":
            raise ZooError(
                f"{self.path}: rows must be a sequence of integers, got {rows.dtype} of shape "
                f"{rows.shape}"
            )
        if self._known(rows):
            return rows
        wrong = rows[(rows < -len(self)) | (rows >= len(self))]
        if wrong.size:
            raise MissingRow(
                f"{self.path}: row {wrong[0]} does not exist; the zoo has {len(self)} rows"
            )
        return np.where(rows < 0, rows + len(self), rows).astype(np.int64)

    def _known(self, rows: np.ndarray) -> bool:
        """Whether all are row numbers already, by one look: negative ones are large as unsigned."""
        if rows.dtype != np.int64 or not rows.flags.carray:
            return False
        return not len(rows) or bool(rows.view(np.uint64).max() < len(self))


class View(Checkpoints):
    """Some rows of ``base``, in the order of ``rows``; nothing is copied.

    Splits and member numbers stay those of the base. ``provenance`` says which rows they are, so
    that results on a view are not taken for results on the whole.
    """

    def __init__(self, base: Checkpoints, rows: np.ndarray) -> None:
        if isinstance(base, View):
            base, rows = base.base, base.rows[rows]
        super().__init__(base.path, base.header)
        self.base, self.rows, self.device = base, rows, base.device
        self.provenance = {
            **base.provenance,
            "view": {"rows": len(rows), "crc32": crc32(rows.astype("<i8").tobytes())},
        }

    def __len__(self) -> int:
        return len(self.rows)

    def __reduce__(self) -> tuple[type, tuple[Checkpoints, np.ndarray]]:
        return View, (self.base, self.rows)

    def gather(self, rows: np.ndarray, out: Tensor | None = None) -> Tensor:
        """See `Checkpoints.gather`."""
        return self.base.gather(self.rows[rows], out)

    def verify(self) -> None:
        """As `Zoo.verify` of the whole file."""
        self.base.verify()

    def _read_table(self) -> np.ndarray:
        return self.base.table[self.rows]


class Views(Mapping[int, View]):
    """The rows of ``base`` by their value in an integer column; found by one sort."""

    def __init__(self, base: Checkpoints, column: str) -> None:
        self._base, self._column = base, column
        self._order = np.argsort(base.table[column], kind="stable")
        self._values, starts = np.unique(base.table[column][self._order], return_index=True)
        self._bounds = [*starts.tolist(), len(self._order)]

    def __len__(self) -> int:
        return len(self._values)

    def __iter__(self) -> Iterator[int]:
        return iter(self._values.tolist())

    def __getitem__(self, value: int) -> View:
        place = int(np.searchsorted(self._values, value))
        if place == len(self._values) or self._values[place] != value:
            shown = ", ".join(map(str, self._values[:10].tolist()))
            raise KeyError(
                f"{self._base.path}: no row has {self._column} {value}; there are {shown}"
                + ", ..." * (len(self) > 10)
            )
        return View(self._base, self._order[self._bounds[place] : self._bounds[place + 1]])
