"""`import_checkpoints`: any source of checkpoints becomes a zoo file, in one pass and with bounded
memory.

    source -> rows in <path>.rows.tmp, metadata in memory -> the file, sorted by (member, epoch)

The first checkpoint fixes names, shapes and types. One that cannot be read or does not fit is
fatal, or left out and reported, as the caller wants; nothing is cast, padded or dropped unasked.
Without a specification every axis is fixed: the file is complete, but layers and matchers find no
symmetry in it; the result says so. An interrupted import is run again.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from wsl.symmetry import PermutationSpec
from wsl.zoo.file import (
    MAX_TEXT,
    SPLITS,
    STORED,
    TORCH,
    Block,
    Header,
    Layout,
    ZooError,
    create,
    from_json,
    read_spec,
    row_checksums,
    storage_name,
    to_stored,
)
from wsl.zoo.opening import Zoo
from wsl.zoo.rows import Fractions, split_members
from wsl.zoo.sources.checkpoint import Checkpoint, Refused
from wsl.zoo.write import check_finite

_BLOCK = 16 << 20
_NOTES = {"architecture": (dict, type(None)), "columns": dict, "buffers": list, "provenance": dict}
_KINDS = {"f": "float64", "i": "int64", "b": "bool", "U": "string"}
NO_SYMMETRY = (
    "none: every axis is fixed, because neither a specification nor an architecture was given"
)


@dataclasses.dataclass(frozen=True)
class Imported:
    """What came of it: the file, the checkpoints ``refused``, columns ``left_out`` with the reason,
    where the spec is from.
    """

    zoo: Zoo
    refused: tuple[Refused, ...]
    left_out: Mapping[str, str]
    specification: str


def import_checkpoints(
    source: Iterable[Checkpoint | Refused],
    path: str | Path,
    *,
    spec: PermutationSpec | None = None,
    architecture: dict[str, Any] | None = None,
    provenance: Mapping[str, Any] | None = None,
    buffers: Collection[str] | None = None,
    prefix: str = "",
    cast: torch.dtype | None = None,
    dtype: torch.dtype | None = None,
    skip: bool = False,
    split: Fractions = (0.8, 0.1, 0.1),
    seed: int = 0,
    allow_nonfinite: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Imported:
    """Write the checkpoints of ``source`` (see `wsl.zoo.sources`) to the zoo file ``path``.

    Parameters
        spec: the specification; None: what exported files say of themselves, else all axes fixed.
        prefix: removed from the names of tensors, for example ``"module."``; names without it stay.
        cast: floating tensors are first cast to this type, for example torch.float32.
        dtype: the type in which the file keeps them; None: torch.float32, or what exported files
        say.
        skip: leave out what cannot be read or does not fit, instead of raising.

    Splits that the metadata give for every member are kept, others drawn. Raises `ZooError` naming
    file and tensor.
    """
    path = Path(path).absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = path.with_name(path.name + ".rows.tmp")
    gather = _Gatherer(spec, buffers, prefix, cast, dtype, allow_nonfinite)
    try:
        with rows.open("wb") as file:
            for item in source:
                gather.take(item, file, skip=skip)
                if progress is not None:
                    progress(len(gather.places))
        return _write(path, rows, gather, architecture, provenance, split, seed)
    except OSError as error:
        raise ZooError(
            f"{path}: cannot be written ({error.strerror or error}); free space or choose another "
            "path"
        ) from error
    finally:
        rows.unlink(missing_ok=True)


class _Gatherer:
    """What is known of the rows so far; the first checkpoint decides what fits."""

    def __init__(
        self, spec: Any, buffers: Any, prefix: str, cast: Any, dtype: Any, allow_nonfinite: bool
    ) -> None:
        self.spec: Any
        self.spec, self.buffers, self.prefix, self.cast, self.dtype = (
            spec,
            buffers,
            prefix,
            cast,
            dtype,
        )
        self.allow_nonfinite = allow_nonfinite
        self.layout: Layout | None = None
        self.stored = "float32"
        self.specification, self.notes = "as given", dict[str, Any]()
        self.places: dict[tuple[int, int], str] = {}
        self.columns: dict[str, list[Any]] = {}
        self.refused: list[Refused] = []
        self._known: dict[str, str] = {}

    def take(self, item: Checkpoint | Refused, file: BinaryIO, *, skip: bool) -> None:
        """Write one checkpoint's row to ``file``, or refuse it."""
        if isinstance(item, Checkpoint):
            try:
                self._add(item, file)
            except ZooError as error:
                item = Refused(item.origin, f"{item.origin}: {error}")
        if isinstance(item, Refused):
            if not skip:
                raise ZooError(
                    f"{item.reason} (to leave such checkpoints out and report them: skip)"
                )
            self.refused.append(item)

    def _add(self, item: Checkpoint, file: BinaryIO) -> None:
        params = {
            name.removeprefix(self.prefix): self._cast(tensor)
            for name, tensor in item.params.items()
        }
        layout = self.layout or self._begin(item, params)
        place = (item.member, item.epoch)
        if place in self.places:
            raise ZooError(
                f"member {item.member}, epoch {item.epoch} was already given by "
                f"{self.places[place]}"
            )
        rows = layout.pack(
            {name: tensor.unsqueeze(0) for name, tensor in params.items()},
            rounding=self.stored != "float32",
        )
        if not self.allow_nonfinite:
            check_finite(layout, rows, np.array([item.member]), np.array([item.epoch]))
        stored = to_stored(rows, layout, self.stored)
        file.write(stored.data)
        for name in item.metadata.keys() - self.columns.keys():
            self.columns[name] = [None] * len(self.places)
        self.places[place] = item.origin
        for name, values in self.columns.items():
            value = item.metadata.get(name)
            values.append(self._known.setdefault(value, value) if isinstance(value, str) else value)

    def _cast(self, tensor: Tensor) -> Tensor:
        return (
            tensor.to(self.cast) if self.cast is not None and tensor.is_floating_point() else tensor
        )

    def _begin(self, item: Checkpoint, params: Mapping[str, Tensor]) -> Layout:
        notes = _notes(item)
        self.stored = (
            storage_name(self.dtype) if self.dtype is not None else notes.get("dtype", "float32")
        )
        kind = None if self.stored == "float32" else TORCH[self.stored]
        layout = Layout.of(
            params, notes.get("buffers") if self.buffers is None else self.buffers
        ).cast(kind)
        if self.spec is None and "spec" in item.notes:
            self.spec, self.specification = read_spec(item.notes["spec"]), "from the files"
        elif self.spec is None:
            self.spec, self.specification = _fixed(layout), NO_SYMMETRY
        Header(self.spec, layout, {}, None, {}, dtype=self.stored).checked()
        self.layout, self.notes = layout, notes
        return layout


def _write(
    path: Path,
    rows: Path,
    found: _Gatherer,
    architecture: dict[str, Any] | None,
    provenance: Mapping[str, Any] | None,
    split: Fractions,
    seed: int,
) -> Imported:
    if found.layout is None:
        first = (
            f"; the first of {len(found.refused)} refusals: {found.refused[0].reason}"
            if found.refused
            else ""
        )
        raise ZooError(f"{path}: no checkpoint could be imported{first}")
    member, epoch = np.array(list(found.places), dtype=np.int64).T
    order = np.lexsort((epoch, member))
    codes = _splits(found.columns.pop("split", []), member, split, seed)
    columns, left_out = _columns(found.columns, found.notes.get("columns", {}))
    kinds = {name: _KINDS[values.dtype.kind] for name, values in columns.items()}
    about = {
        "specification": found.specification,
        "checkpoints": len(member),
        "refused": len(found.refused),
        **(provenance or {}),
    }
    header = Header(
        found.spec,
        found.layout,
        kinds,
        architecture or found.notes.get("architecture"),
        found.notes.get("provenance", {"import": about}),
        dtype=found.stored,
    ).checked()
    weights = np.memmap(rows, STORED[found.stored], "r", shape=(len(member), found.layout.size))
    crc32 = np.concatenate(
        [row_checksums(block) for _, block in _blocks(weights, np.arange(len(member)))]
    )
    records = {
        "member": member.astype(np.int32),
        "epoch": epoch.astype(np.int32),
        "crc32": crc32,
        **columns,
    }
    records = {name: values[order] for name, values in records.items()}
    create(path, header, {**records, "split": codes}, _blocks(weights, np.argsort(order)))
    return Imported(Zoo(path), tuple(found.refused), left_out, found.specification)


def _blocks(weights: np.ndarray, positions: np.ndarray) -> Iterator[Block]:
    step = max(1, _BLOCK // (weights.itemsize * weights.shape[1]))
    for start in range(0, len(weights), step):
        yield positions[start : start + step], weights[start : start + step]


def _notes(item: Checkpoint) -> dict[str, Any]:
    """What an exported file says of its zoo, parsed and of the right form."""
    notes = {name: from_json(name, item.notes[name]) for name in _NOTES if name in item.notes}
    for name, value in notes.items():
        if not isinstance(value, _NOTES[name]):
            raise ZooError(
                f"its note {name!r} has the wrong form; the file was not written by wsl.zoo.export"
            )
    if "dtype" in item.notes:
        if item.notes["dtype"] not in TORCH:
            raise ZooError(
                f"its note 'dtype' is {item.notes['dtype'][:40]!r}, not one of {', '.join(TORCH)}"
            )
        notes["dtype"] = item.notes["dtype"]
    return notes


def _fixed(layout: Layout) -> PermutationSpec:
    return PermutationSpec(
        (),
        tuple((entry.name, tuple(((size,),) for size in entry.shape)) for entry in layout.entries),
    )


def _splits(given: list[Any], member: np.ndarray, split: Fractions, seed: int) -> np.ndarray:
    """Code of each member: what its rows agree on, if every row says something, else drawn."""
    members, which = np.unique(member, return_inverse=True)
    if len(given) != len(member) or any(value not in SPLITS for value in given):
        return split_members(len(members), split, seed)
    codes = np.array([SPLITS.index(value) for value in given], dtype=np.uint8)
    first = np.zeros(len(members), dtype=np.uint8)
    first[which] = codes
    for row in np.flatnonzero(first[which] != codes)[:1]:
        both = f"{SPLITS[first[which][row]]} and in {SPLITS[codes[row]]}"
        raise ZooError(f"member {member[row]}: has checkpoints in {both}; splits are by member")
    return first


def _columns(
    found: Mapping[str, list[Any]], kinds: Mapping[str, str]
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Typed columns in the order noted, else that of their names; and those that a zoo file cannot
    hold.
    """
    columns, left_out = {}, {}
    for name in [name for name in kinds if name in found] + sorted(found.keys() - kinds.keys()):
        values = _typed(found[name], kinds.get(name))
        if isinstance(values, str):
            left_out[name] = values
        else:
            columns[name] = values
    return columns, left_out


def _typed(values: list[Any], kind: str | None) -> np.ndarray | str:
    """An array of one kind, missing values as NaN or empty text; or why not."""
    present = {type(value) for value in values if value is not None}
    missing = None in values
    if kind == "string" or present - {bool, int, float}:
        texts = [
            "" if value is None else value if isinstance(value, str) else json.dumps(value)
            for value in values
        ]
        if any("\0" in text or len(text.encode("utf-8", "replace")) > MAX_TEXT for text in texts):
            return f"holds text with a NUL character, or of more than {MAX_TEXT} bytes"
        return np.array(texts, dtype=str)
    if present == {bool} and not missing:
        return np.array(values, dtype=bool)
    if present == {int} and not missing and kind != "float64":
        fits = all(-(2**63) <= value < 2**63 for value in values)
        return np.array(values, dtype=np.int64) if fits else "holds an integer of more than 64 bits"
    try:
        return np.array(
            [np.nan if value is None else float(value) for value in values], dtype=np.float64
        )
    except OverflowError:
        return "holds a number that does not fit"
