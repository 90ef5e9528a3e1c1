"""Several zoos as one: of one architecture, of many, or all weights on a device.

    rows = rows of part 1, then of part 2, ...
    member' = member + sum over earlier parts of (1 + their largest member)

A member of one part is another training run than the member of the same number in another part, so
numbers are shifted and never merged. Splits stay those that each file drew. Parts must agree in
specification, tensors, types and columns: nothing is padded, cast or left out unasked. Whether the
same run hides in two files cannot be known here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import overload

import numpy as np
import torch
from torch import Tensor

from wsl.zoo.file import Header, ZooError, carried
from wsl.zoo.opening.coded import CodedZoo, is_coded
from wsl.zoo.opening.dataset import Zoo
from wsl.zoo.rows import Batch, Checkpoints

_COPIED = 64 << 20
"""Bytes of rows that are on the way to a device at a time."""


class Concatenation(Checkpoints):
    """``parts`` as one sequence.

    Raises `ZooError` naming the first part that differs, and in what.
    """

    def __init__(self, parts: Sequence[Checkpoints]) -> None:
        if not parts:
            raise ZooError("no zoos given; at least one is needed")
        first = parts[0]
        _check_alike(parts)
        super().__init__(first.path, first.header)
        self.parts = tuple(parts)
        self.provenance = {"parts": [part.provenance for part in parts]}
        self._starts = np.cumsum([0, *map(len, parts)])
        self._stored = _common_type(parts)

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __reduce__(self) -> tuple[type, tuple[tuple[Checkpoints, ...]]]:
        return Concatenation, (self.parts,)

    def gather(self, rows: np.ndarray, out: Tensor | None = None) -> Tensor:
        """See `Checkpoints.gather`."""
        which = np.searchsorted(self._starts, rows, side="right") - 1
        if out is None:
            out = torch.empty(
                len(rows), self.header.layout.size, dtype=self._stored, device=self.device
            )
        for number in np.unique(which):
            here = np.flatnonzero(which == number)
            out[torch.from_numpy(here)] = (
                self.parts[number].gather(rows[here] - self._starts[number]).to(out.dtype)
            )
        return out

    def verify(self) -> None:
        """As `Zoo.verify` of each part."""
        for part in self.parts:
            part.verify()

    def _read_table(self) -> np.ndarray:
        tables = [part.table for part in self.parts]
        shift = np.cumsum([0, *(1 + int(table["member"].max(initial=-1)) for table in tables)])
        if shift[-1] > 2**31:
            raise ZooError(f"{self.path}: the parts together have member numbers beyond 2^31")
        whole = np.concatenate(tables)
        whole["member"] += np.repeat(shift[:-1], [len(table) for table in tables]).astype(np.int32)
        return whole


class Resident(Checkpoints):
    """All rows of ``base`` on a device; batches are made there.

    Raises `ZooError` where they do not fit.
    """

    def __init__(self, base: Checkpoints, device: torch.device | str) -> None:
        super().__init__(base.path, base.header)
        self.base, self.device, self.provenance = base, torch.device(device), base.provenance
        like = base.gather(np.zeros(0, dtype=np.int64))
        bytes_per_row = like.shape[1] * like.element_size()
        self._check_room(len(base) * bytes_per_row)
        self._weights = torch.empty(len(base), like.shape[1], dtype=like.dtype, device=self.device)
        step = max(1, _COPIED // bytes_per_row)
        for start in range(0, len(base), step):
            rows = np.arange(start, min(start + step, len(base)))
            self._weights[start : start + step] = base.gather(rows).to(self.device)

    def _check_room(self, needed: int) -> None:
        free = _free_bytes(self.device)
        if needed > free:
            raise ZooError(
                f"{self.path}: {len(self.base):,} rows need {needed:,} bytes, but {self.device} "
                f"has {free:,} free; keep the "
                "file mapped, or take fewer rows with zoo.where"
            )

    def __len__(self) -> int:
        return len(self.base)

    def gather(self, rows: np.ndarray, out: Tensor | None = None) -> Tensor:
        """See `Checkpoints.gather`."""
        if out is None and self.device.type == "cpu":
            # index_select's threads cost more than they bring for one batch
            taken = carried(self._weights).numpy().take(rows, axis=0)
            return torch.from_numpy(taken).view(self._weights.dtype)
        chosen = torch.from_numpy(rows).to(self.device, non_blocking=True)
        return torch.index_select(self._weights, 0, chosen, out=out)

    def verify(self) -> None:
        """As `Zoo.verify` of the file; what is on the device is not looked at."""
        self.base.verify()

    def _read_table(self) -> np.ndarray:
        return self.base.table.copy()


class Collection(Sequence[Checkpoints]):
    """Zoos of any architectures, a list with one entry per kind.

    Files of one kind are one entry, in the order they came.

    `loader` draws batches of one kind each; nothing is padded, and metadata are those of the kind.
    """

    def __init__(self, zoos: Sequence[Checkpoints]) -> None:
        if not zoos:
            raise ZooError("no zoos given; at least one is needed")
        kinds: list[list[Checkpoints]] = []
        for zoo in zoos:
            same = (kind for kind in kinds if not _difference(kind[0].header, zoo.header))
            kind = next(same, None)
            if kind is None:
                kinds.append([zoo])
            else:
                kind.append(zoo)
        self._kinds = [concatenate(kind) for kind in kinds]

    @overload
    def __getitem__(self, index: int) -> Checkpoints: ...
    @overload
    def __getitem__(self, index: slice) -> list[Checkpoints]: ...
    def __getitem__(self, index: int | slice) -> Checkpoints | list[Checkpoints]:
        return self._kinds[index]

    def __len__(self) -> int:
        return len(self._kinds)

    def __repr__(self) -> str:
        return f"Collection({self._kinds!r})"

    def loader(
        self, split: str | None = None, *, batch_size: int, shuffle: bool = False, seed: int = 0
    ) -> Iterator[tuple[int, Batch]]:
        """Pairs of the number of a kind and a batch of it, one pass.

        Shuffled, the kinds alternate at random.
        """
        loaders = [
            zoo.loader(split, batch_size=batch_size, shuffle=shuffle, seed=seed)
            for zoo in self._kinds
        ]
        order = np.repeat(np.arange(len(loaders)), [len(loader) for loader in loaders])
        batches = [iter(loader) for loader in loaders]
        order = np.random.default_rng(seed).permutation(order) if shuffle else order
        return ((int(kind), next(batches[kind])) for kind in order)

    def verify(self) -> None:
        """As `Zoo.verify` of every file."""
        for zoo in self._kinds:
            zoo.verify()


def concatenate(zoos: Sequence[Checkpoints]) -> Checkpoints:
    """Zoos of one kind as one sequence; see `Concatenation`."""
    return zoos[0] if len(zoos) == 1 else Concatenation(zoos)


def open(
    paths: str | Path | Sequence[str | Path],
    *,
    dtype: torch.dtype | None = None,
    mapped: bool = True,
) -> Checkpoints:
    """One zoo file, or several of one kind as one sequence.

    Raises `ZooError` naming a file that is wrong or differs. ``dtype`` and ``mapped`` as of `Zoo`.
    A coded file is opened as a `CodedZoo`.
    """
    if isinstance(paths, (str, Path)):
        return _opened(paths, dtype=dtype, mapped=mapped)
    files = [Path(path).absolute() for path in paths]
    for i, path in enumerate(files):
        if path in files[:i]:
            raise ZooError(f"{path}: is given twice")
    return concatenate([_opened(path, dtype=dtype, mapped=mapped) for path in files])


def _opened(path: str | Path, *, dtype: torch.dtype | None, mapped: bool) -> Checkpoints:
    if not is_coded(path):
        return Zoo(path, dtype=dtype, mapped=mapped)
    if dtype not in (None, torch.float32):
        raise ZooError(f"{path}: rows of a coded zoo are float32, not {dtype}")
    return CodedZoo(path)


def _check_alike(parts: Sequence[Checkpoints]) -> None:
    for part in parts[1:]:
        if difference := _difference(parts[0].header, part.header):
            raise ZooError(
                f"{part.path}: {difference} than in {parts[0].path}; only zoos of one kind "
                "are one sequence, "
                "others can be opened together as wsl.zoo.Collection"
            )


def _common_type(parts: Sequence[Checkpoints]) -> torch.dtype:
    """The type in which all are stored, or float32, which holds any of the others exactly."""
    stored = {part.gather(np.zeros(0, dtype=np.int64)).dtype for part in parts}
    return stored.pop() if len(stored) == 1 else torch.float32


def _difference(a: Header, b: Header) -> str | None:
    """What differs between two kinds, as the subject of a sentence; None if nothing does."""
    if a.layout != b.layout:
        return "has other tensors, shapes or types (dtype=torch.float32 makes types equal)"
    if a.spec != b.spec:
        return "has another specification"
    if dict(a.columns) != dict(b.columns):
        name = min(set(a.columns.items()) ^ set(b.columns.items()))[0]
        return f"has other columns (such as {name!r})"
    return None


def _free_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    meminfo = Path("/proc/meminfo")
    lines = meminfo.read_text().splitlines() if meminfo.exists() else []
    available = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    return available[0] if available else 1 << 62
