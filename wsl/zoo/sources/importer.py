"""`import_checkpoints`: any source of checkpoints becomes a zoo file, in one pass.

    source -> rows in <path>.rows.tmp, metadata in memory -> the file, sorted by (member, epoch)

Memory is bounded by the metadata. The first checkpoint fixes names, shapes and types. One that
cannot be read or does not fit is fatal, or left out and reported, as the caller wants; nothing is
cast, padded or dropped unasked. Without a specification every axis is fixed: the file is complete,
but layers and matchers find no symmetry in it; the result says so. An interrupted import is run
again.
"""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor, nn

from wsl.params import Params
from wsl.symmetry import PermutationSpec
from wsl.zoo.file import (
    MAX_TEXT,
    SPLITS,
    STORED,
    TORCH,
    Block,
    Header,
    RowLayout,
    ZooError,
    create,
    from_json,
    read_spec,
    row_checksums,
    storage_name,
    to_stored,
)
from wsl.zoo.opening import Zoo
from wsl.zoo.reading import Expected, fit
from wsl.zoo.rows import split_members
from wsl.zoo.sources.checkpoint import Checkpoint, Refused, Skipped
from wsl.zoo.write import FileOptions, check_finite

_BLOCK = 16 << 20
_NOTES = {"architecture": (dict, type(None)), "columns": dict, "buffers": list, "provenance": dict}
_KINDS = {"f": "float64", "i": "int64", "b": "bool", "U": "string"}
NO_SYMMETRY = (
    "none: every axis is fixed, because neither a specification nor an architecture was given"
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImportOptions(FileOptions):
    """How checkpoints are read and their file is written; those of `FileOptions` besides.

    Parameters
        spec: the specification; None: what exported files say of themselves, else all axes fixed.
        buffers: names of the tensors that are not trained; None: what exported files say, else
            batch-norm statistics and integers.
        prefix: removed from the names of tensors, for example ``"module."``; names without it stay.
        cast: floating tensors are first cast to this type, for example torch.float32.
        dtype: the type in which the file keeps them; None: what exported files say, else
            torch.float32.
        skip: leave out what cannot be read or does not fit, instead of raising.
        model: the network, which tells what weights are tied and may be saved once.
    """

    spec: PermutationSpec | None = None
    model: nn.Module | None = None
    buffers: Collection[str] | None = None
    prefix: str = ""
    cast: torch.dtype | None = None
    skip: bool = False


@dataclasses.dataclass(frozen=True)
class Imported:
    """What came of an import.

    The file, the checkpoints ``refused``, the columns ``left_out`` with the reason, where the
    specification is from, the files ``skipped`` as no checkpoints of their own, and ``notes`` of
    what was done to names and tensors, and of equal weights.
    """

    zoo: Zoo
    refused: tuple[Refused, ...]
    left_out: Mapping[str, str]
    specification: str
    skipped: tuple[Skipped, ...] = ()
    notes: tuple[str, ...] = ()


def import_checkpoints(
    source: Iterable[Checkpoint | Refused | Skipped],
    path: str | Path,
    *,
    progress: Callable[[int], None] | None = None,
    **options: Any,
) -> Imported:
    """Write the checkpoints of ``source`` (see `wsl.zoo.sources`) to the zoo file ``path``.

    ``options`` are the fields of `ImportOptions`: spec, architecture, provenance, buffers, prefix,
    cast, dtype, skip, split, seed, allow_nonfinite. ``progress`` is called with the number of
    checkpoints taken. Splits that the metadata give for every member are kept, others drawn. Raises
    `ZooError` naming file and tensor.
    """
    path = Path(path).absolute()
    rows = path.with_name(path.name + ".rows.tmp")
    gathered = _Gathered(ImportOptions(**options))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with rows.open("wb") as file:
            for item in source:
                gathered.take(item, file)
                if progress is not None:
                    progress(len(gathered.places))
        return gathered.write(path, rows)
    except OSError as error:
        raise ZooError(
            f"{path}: cannot be written ({error.strerror or error}); free space or choose another "
            "path"
        ) from error
    finally:
        rows.unlink(missing_ok=True)


@dataclasses.dataclass(frozen=True)
class _Form:
    """What the first checkpoint decides: what later ones must fit."""

    spec: PermutationSpec
    specification: str
    layout: RowLayout
    stored: str
    notes: Mapping[str, Any]

    @classmethod
    def of(cls, item: Checkpoint, params: Mapping[str, Tensor], options: ImportOptions) -> _Form:
        notes = _notes(item)
        dtype = options.dtype
        stored = notes.get("dtype", "float32") if dtype is None else storage_name(dtype)
        buffers = notes.get("buffers") if options.buffers is None else options.buffers
        layout = RowLayout.of(params, buffers).cast(None if stored == "float32" else TORCH[stored])
        if options.spec is not None:
            spec, specification = options.spec, "as given"
        elif "spec" in item.notes:
            spec, specification = read_spec(item.notes["spec"]), "from the files"
        else:
            spec, specification = _fixed(layout), NO_SYMMETRY
        Header(spec, layout, {}, None, {}, dtype=stored).checked()
        return cls(spec, specification, layout, stored, notes)

    def row(self, params: Mapping[str, Tensor], item: Checkpoint, *, nonfinite: bool) -> np.ndarray:
        """The row (1, P) of one checkpoint as the file stores it."""
        row = self.layout.pack_one(params, rounding=self.stored != "float32")
        if not nonfinite:
            check_finite(self.layout, row, member=item.member, epoch=item.epoch)
        return to_stored(row, self.layout, self.stored)


class _Gathered:
    """What is known of the rows so far: ``form`` from the first on, then a value each."""

    def __init__(self, options: ImportOptions) -> None:
        self.options = options
        self.form: _Form | None = None
        self.places: dict[tuple[int, int], str] = {}
        self.columns: dict[str, list[Any]] = {}
        self.refused: list[Refused] = []
        self.skipped: list[Skipped] = []
        self.fitted: collections.Counter[str] = collections.Counter()
        self.rows: dict[bytes, str] = {}
        self.equal: list[tuple[str, str]] = []
        self._texts: dict[str, str] = {}

    def take(self, item: Checkpoint | Refused | Skipped, file: BinaryIO) -> None:
        """Write one checkpoint's row to ``file``, or refuse it."""
        if isinstance(item, Skipped):
            self.skipped.append(item)
        if isinstance(item, Checkpoint):
            try:
                self._add(item, file)
            except ZooError as error:
                item = Refused(item.origin, f"{item.origin}: {error}")
        if isinstance(item, Refused):
            if not self.options.skip:
                raise ZooError(
                    f"{item.reason} (to leave such checkpoints out and report them: skip)"
                )
            self.refused.append(item)

    def _add(self, item: Checkpoint, file: BinaryIO) -> None:
        params = {
            name.removeprefix(self.options.prefix): self._cast(tensor)
            for name, tensor in item.params.items()
        }
        params = self._fit(params, item.origin)
        form = self.form or _Form.of(item, params, self.options)
        self.form = form
        place = (item.member, item.epoch)
        if place in self.places:
            raise ZooError(
                f"member {item.member}, epoch {item.epoch} was already given by "
                f"{self.places[place]}"
            )
        row = form.row(params, item, nonfinite=self.options.allow_nonfinite)
        file.write(row.data)
        self._compare(row, item.origin)
        self._note(item)
        self.places[place] = item.origin

    def _fit(self, params: Params, origin: str) -> Params:
        """Under the names of a given specification, where they are not there already."""
        spec = self.options.spec
        if spec is None or set(params) == set(spec.axes):
            return params
        found = fit(params, Expected.of(spec, self.options.model), origin)
        self.fitted.update(note.removeprefix(f"{origin}: ") for note in found.notes)
        return found.params

    def _compare(self, row: np.ndarray, origin: str) -> None:
        """Remember which checkpoints hold the same weights: copies of files are often left over."""
        digest = hashlib.blake2b(row.tobytes(), digest_size=16).digest()
        first = self.rows.setdefault(digest, origin)
        if first != origin:
            self.equal.append((first, origin))

    def notes(self) -> tuple[str, ...]:
        """What has to be said of the checkpoints that were taken."""
        said = [f"{count} checkpoints: {note}" for note, count in self.fitted.items()]
        if self.equal:
            first, second = self.equal[0]
            said.append(
                f"{len(self.equal)} checkpoints hold the same weights as another, such as {second} "
                f"and {first}; as members of their own they may stand in different splits"
            )
        return tuple(said)

    def _cast(self, tensor: Tensor) -> Tensor:
        cast = self.options.cast
        return tensor.to(cast) if cast is not None and tensor.is_floating_point() else tensor

    def _note(self, item: Checkpoint) -> None:
        """Append to every column, None where there is no value; equal texts are kept once."""
        for name in item.metadata.keys() - self.columns.keys():
            self.columns[name] = [None] * len(self.places)
        for name, values in self.columns.items():
            value = item.metadata.get(name)
            values.append(self._texts.setdefault(value, value) if isinstance(value, str) else value)

    def write(self, path: Path, rows: Path) -> Imported:
        """Sort what was gathered into the zoo file ``path``."""
        if self.form is None:
            raise self._nothing(path)
        form = self.form
        codes = _splits(self.columns.pop("split", []), self._numbers("member"), self.options)
        columns, left_out = _columns(self.columns, form.notes.get("columns", {}))
        header = self._header(form, columns)
        shape = (len(self.places), form.layout.size)
        weights = np.memmap(rows, STORED[form.stored], "r", shape=shape)
        order, records = self._sorted({"crc32": _checksums(weights), **columns})
        blocks = _blocks(weights, np.argsort(order))
        create(path, header, records | {"split": codes}, blocks=blocks)
        refused, skipped = tuple(self.refused), tuple(self.skipped)
        return Imported(Zoo(path), refused, left_out, form.specification, skipped, self.notes())

    def _sorted(
        self, columns: Mapping[str, np.ndarray]
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """The rows in the order of the file, and all that is known of them in that order."""
        records = {**{name: self._numbers(name) for name in ("member", "epoch")}, **columns}
        order = np.lexsort((records["epoch"], records["member"]))
        return order, {name: values[order] for name, values in records.items()}

    def _nothing(self, path: Path) -> ZooError:
        first = ""
        if self.refused:
            count, reason = len(self.refused), self.refused[0].reason
            first = f"; the first of {count} refusals: {reason}"
        return ZooError(f"{path}: no checkpoint could be imported{first}")

    def _numbers(self, name: str) -> np.ndarray:
        """Member or epoch of each row, in the order in which they came."""
        column = ("member", "epoch").index(name)
        return np.array([place[column] for place in self.places], dtype=np.int32)

    def _header(self, form: _Form, columns: Mapping[str, np.ndarray]) -> Header:
        about = {
            "specification": form.specification,
            "checkpoints": len(self.places),
            "refused": len(self.refused),
            **(self.options.provenance or {}),
        }
        return Header(
            form.spec,
            form.layout,
            {name: _KINDS[values.dtype.kind] for name, values in columns.items()},
            self.options.architecture or form.notes.get("architecture"),
            form.notes.get("provenance", {"import": about}),
            dtype=form.stored,
        ).checked()


def _checksums(weights: np.ndarray) -> np.ndarray:
    every = np.arange(len(weights))
    return np.concatenate([row_checksums(block) for _, block in _blocks(weights, every)])


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


def _fixed(layout: RowLayout) -> PermutationSpec:
    """The specification in which every axis is fixed."""
    sizes = ((entry.name, entry.shape) for entry in layout.entries)
    return PermutationSpec(
        (), tuple((name, tuple(((size,),) for size in shape)) for name, shape in sizes)
    )


def _splits(given: list[Any], member: np.ndarray, options: FileOptions) -> np.ndarray:
    """Code of each member: what its rows agree on, if every row says something, else drawn."""
    members, which = np.unique(member, return_inverse=True)
    if len(given) != len(member) or any(value not in SPLITS for value in given):
        if callable(options.split):
            return options.split(members)
        return split_members(len(members), options.split, options.seed)
    codes = np.array([SPLITS.index(value) for value in given], dtype=np.uint8)
    first = np.zeros(len(members), dtype=np.uint8)
    first[which] = codes
    differ = np.flatnonzero(first[which] != codes)
    if len(differ):
        row = differ[0]
        both = f"{SPLITS[first[which][row]]} and in {SPLITS[codes[row]]}"
        raise ZooError(f"member {member[row]}: has checkpoints in {both}; splits are by member")
    return first


def _columns(
    found: Mapping[str, list[Any]], kinds: Mapping[str, str]
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Typed columns in the order noted, else that of their names; and what cannot be held, why."""
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
        return _texts(values)
    if present == {bool} and not missing:
        return np.array(values, dtype=bool)
    if present == {int} and not missing and kind != "float64":
        fits = all(-(2**63) <= value < 2**63 for value in values)
        return np.array(values, dtype=np.int64) if fits else "holds an integer of more than 64 bits"
    try:
        numbers = [np.nan if value is None else float(value) for value in values]
    except OverflowError:
        return "holds a number that does not fit"
    return np.array(numbers, dtype=np.float64)


def _texts(values: list[Any]) -> np.ndarray | str:
    """Texts as they are, other values as JSON."""
    given = ("" if value is None else value for value in values)
    texts = [value if isinstance(value, str) else json.dumps(value) for value in given]
    if any("\0" in text or len(text.encode("utf-8", "replace")) > MAX_TEXT for text in texts):
        return f"holds text with a NUL character, or of more than {MAX_TEXT} bytes"
    return np.array(texts, dtype=str)
