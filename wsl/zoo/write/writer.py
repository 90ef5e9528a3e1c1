"""`ZooWriter`: collect checkpoints as small crash-safe shards, then merge them into one zoo file.

    <path>.shards/<key>.npz     rows, member, epoch, crc32, columns of one task, and its build
    <path>                      all rows sorted by (member, epoch); replaces an older file at once

Any number of processes may append, one finalizes. A shard is whole or absent. Killed at any moment,
the build is started again: tasks whose key is present are skipped, and `finalize` may be repeated.
A failing build, for want of space or of permission too, leaves an existing file and the shards as
they were.
"""

from __future__ import annotations

import dataclasses
import functools
import secrets
import shutil
import zipfile
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wsl.base import explained, locked, replacing, sync
from wsl.symmetry import PermutationSpec
from wsl.zoo.file import Header, RowLayout, ZooError, kind_of, read, storage_name, to_stored
from wsl.zoo.rows import Split, read_column
from wsl.zoo.write.records import (
    Records,
    check_finite,
    check_replaceable,
    records_of,
    write,
)

_KEY = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")
_IDENTITY = ("member", "epoch", "crc32")
"""What tells a checkpoint from others."""
_DAMAGED = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile)
"""What numpy raises on a broken shard."""

Notes = Callable[[np.ndarray], Mapping[str, Any]]
"""Members of all rows, in any order -> additions to the provenance."""


class ZooWriter:
    """A build of the zoo file ``path``.

    ``like`` is one member (shapes and dtypes), ``buffers`` the names in it that are not trained
    (default: batch-norm statistics and integers), ``columns`` maps each metadata column to float,
    int, bool or str. Raises `ZooError` when these do not fit together, or when the shards already
    there belong to another build. ``dtype`` torch.bfloat16 or torch.float16 rounds the weights and
    halves the file.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        spec: PermutationSpec,
        like: Mapping[str, Tensor],
        columns: Mapping[str, type],
        architecture: dict[str, Any] | None = None,
        provenance: dict[str, Any] | None = None,
        buffers: Collection[str] | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        if not isinstance(columns, Mapping):
            raise ZooError(f"columns {columns!r}: map each name to float, int, bool or str")
        kinds = {name: kind_of(name, kind) for name, kind in columns.items()}
        self.path = Path(path).absolute()
        check_replaceable(self.path)
        name = storage_name(dtype)
        layout = RowLayout.of(like, buffers).cast(None if name == "float32" else dtype)
        self.header = Header(
            spec, layout, kinds, architecture, provenance or {}, dtype=name
        ).checked()
        self.shards = self.path.with_name(self.path.name + ".shards")
        for shard in self._present()[:1]:
            self._load(shard, [])

    @property
    def complete(self) -> bool:
        """Whether ``path`` is a finished file of this very build.

        That is of the same specification, layout, columns, architecture and provenance, the notes
        of `finalize` apart.
        """
        try:
            found = read(self.path).header
        except ZooError:
            return False
        notes = ["notes", *(found.provenance.get("notes") or [])]
        stored = {name: said for name, said in found.provenance.items() if name not in notes}
        return dataclasses.replace(found, provenance=stored).identity == self.header.identity

    def has(self, key: str) -> bool:
        """Whether a shard ``key`` waits to be merged."""
        return self._shard(key).exists()

    def append(
        self,
        key: str,
        params: Mapping[str, Tensor],
        *,
        member: int | Sequence[int] | np.ndarray | Tensor,
        epoch: int | Sequence[int] | np.ndarray | Tensor,
        metadata: Mapping[str, Any],
        allow_nonfinite: bool = False,
    ) -> None:
        """Store n >= 0 checkpoints, tensors (n, *shape), as one shard.

        A key that is present is skipped. ``member``, ``epoch`` and each metadata column hold n
        values, or one for all. Raises `ZooError` naming the tensor or column that does not fit; NaN
        and infinite weights are refused unless ``allow_nonfinite``.
        """
        if self.has(key):
            return
        layout, dtype = self.header.layout, self.header.dtype
        rows = layout.pack(params, rounding=dtype != "float32")
        if not allow_nonfinite:
            check_finite(layout, rows, member=member, epoch=epoch)
        stored = to_stored(rows, layout, dtype)
        records = records_of(self.header, stored, member=member, epoch=epoch, metadata=metadata)
        self._save(key, stored, records)

    def _save(self, key: str, stored: np.ndarray, records: Records) -> None:
        """Write a shard under a name of its own first: two processes may have the same task."""
        shard = self._shard(key)
        unique = self.shards / f"{key}.{secrets.token_hex(4)}.tmp"
        own = {f"_{name}": values for name, values in records.items()}
        build = np.array(self.header.identity)
        with (
            explained(shard, ZooError),
            locked(self.shards, shared=True),
            replacing(shard, unique) as temporary,
            temporary.open("wb") as file,
        ):
            np.savez(file, allow_pickle=False, build=build, weights=stored, **own)

    def finalize(
        self, split: Split = (0.8, 0.1, 0.1), seed: int = 0, *, notes: Notes | None = None
    ) -> Path:
        """Merge the shards into the zoo file, remove them, and return its path.

        A finished build is left as it is. Splits are drawn by member from ``seed``, or ``split``
        says the code of each member. ``notes``, given the members of all rows, says what only the
        end of a build knows; it is added to the provenance, and listed there as "notes". Processes
        that append or finalize meanwhile wait. Raises `ZooError` naming a damaged shard, two with
        the same checkpoint, or a finished file of this build with checkpoints that would be lost.
        """
        if not self._present() and self.complete:
            shutil.rmtree(self._removed, ignore_errors=True)
            return self.path
        with explained(self.path, ZooError), locked(self.shards):
            shards = self._present()
            if not shards and self.complete:  # another process has finalized while this one waited
                self.shards.rmdir()
                return self.path
            merged = self._merged(shards)
            if not self._known(merged.records):
                self._write(merged, split, seed, notes=notes)
            self._remove_shards()
            return self.path

    def _merged(self, shards: Sequence[Path]) -> _Merged:
        """What the shards hold together; raises `ZooError` if that is nothing, or not one build."""
        names = ["member", "epoch", "crc32", *self.header.columns]
        parts = [self._load(shard, [f"_{name}" for name in names]) for shard in shards]
        lengths = [len(part["_member"]) for part in parts]
        if not sum(lengths):
            raise ZooError(
                f"{self.shards}: nothing was appended; append at least one checkpoint before "
                "finalize"
            )
        merged = _Merged(
            tuple(shards),
            tuple(lengths),
            {name: np.concatenate([part[f"_{name}"] for part in parts]) for name in names},
        )
        merged.check_unique()
        return merged

    def _write(self, merged: _Merged, split: Split, seed: int, *, notes: Notes | None) -> None:
        header = self.header
        if notes and (said := notes(merged.records["member"])):
            provenance = {**header.provenance, **said, "notes": sorted(said)}
            header = dataclasses.replace(header, provenance=provenance)
        blocks = (
            (where, self._load(shard, ["weights"])["weights"])
            for shard, where in zip(merged.shards, merged.positions, strict=True)
        )
        write(self.path, header.checked(), merged.ordered, blocks=blocks, split=split, seed=seed)

    @property
    def _removed(self) -> Path:
        return self.shards.with_name(self.shards.name + ".removed")

    def _present(self) -> list[Path]:
        return sorted(self.shards.glob("*.npz"))

    def _shard(self, key: str) -> Path:
        if not 1 <= len(key) <= 128 or not _KEY.issuperset(key):
            raise ZooError(
                f"key {key!r}: use 1 to 128 letters, digits, '_' and '-', such as a hexadecimal "
                "hash"
            )
        return self.shards / f"{key}.npz"

    def _load(self, shard: Path, names: Iterable[str]) -> dict[str, np.ndarray]:
        """Arrays of a shard of this build; the zip container checks its own checksums."""
        try:
            with shard.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                build, loaded = str(arrays["build"]), {name: arrays[name] for name in names}
        except _DAMAGED as error:
            raise ZooError(
                f"{shard}: is damaged ({error}); remove it and run the build again"
            ) from None
        if build != self.header.identity:
            raise ZooError(
                f"{shard}: belongs to another build (other spec, tensors, columns, architecture "
                "or provenance); "
                f"finish that one, remove {self.shards.name}, or choose another path"
            )
        return loaded

    def _known(self, records: Records) -> bool:
        """Whether a finished file of this build holds all of ``records``, and more.

        Then there is nothing to add. Raises `ZooError` if it holds others, but not all of these.
        """
        if not self.complete:
            return False
        contents = read(self.path)
        have = _identities(read_column(contents, name) for name in _IDENTITY)
        given = _identities(records[name] for name in _IDENTITY)
        lost = {row[:2] for row in have} - {row[:2] for row in given}
        if lost and not given <= have:
            member, epoch = min(lost)
            raise ZooError(
                f"{self.path}: is finished and holds checkpoints that the shards lack, such as "
                f"member {member}, "
                f"epoch {epoch}; remove it, or choose another path, if it shall be replaced"
            )
        return bool(lost)

    def _remove_shards(self) -> None:
        """Out of the way at once: after a kill, no part of the shards is taken for all."""
        shutil.rmtree(self._removed, ignore_errors=True)
        self.shards.rename(self._removed)
        sync(self.path.parent)
        shutil.rmtree(self._removed)


@dataclasses.dataclass(frozen=True)
class _Merged:
    """The shards of a build as one: ``records`` of one after another, ``lengths`` rows in each."""

    shards: tuple[Path, ...]
    lengths: tuple[int, ...]
    records: Records

    @functools.cached_property
    def order(self) -> np.ndarray:
        """By (member, epoch)."""
        return np.lexsort((self.records["epoch"], self.records["member"]))

    @property
    def ordered(self) -> Records:
        """The records in the order of the file."""
        return {name: values[self.order] for name, values in self.records.items()}

    @property
    def positions(self) -> list[np.ndarray]:
        """Of each shard: at which rows of the file its rows belong."""
        return np.split(np.argsort(self.order), np.cumsum(self.lengths)[:-1])

    def check_unique(self) -> None:
        """Raise `ZooError` naming the shards of a checkpoint that occurs twice."""
        keys = np.repeat([shard.stem for shard in self.shards], self.lengths)[self.order]
        places = np.stack([self.records["member"], self.records["epoch"]], 1)[self.order]
        for i in np.flatnonzero((places[1:] == places[:-1]).all(1))[:1]:
            raise ZooError(
                f"member {places[i][0]}, epoch {places[i][1]}: is in shards {keys[i]} and "
                f"{keys[i + 1]}; "
                "each checkpoint may occur once"
            )


def _identities(columns: Iterable[np.ndarray]) -> set[tuple[int, ...]]:
    return set(zip(*(values.tolist() for values in columns), strict=True))
