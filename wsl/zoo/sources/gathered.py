"""`Gathered`: the checkpoints of one architecture on their way into one zoo file.

    rows in a temporary file, metadata in memory -> the file, sorted by (member, epoch)

Members that hold the same weights are drawn into one split: copies of files are often left over,
and a copy of a training member says nothing about how well anything generalises.
"""

from __future__ import annotations

import collections
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from wsl.params import Params
from wsl.zoo.file import SPLITS, STORED, Block, Header, ZooError, create, row_checksums
from wsl.zoo.opening import Zoo
from wsl.zoo.rows import split_members
from wsl.zoo.sources.architectures import Told, renamed, types_of
from wsl.zoo.sources.checkpoint import Checkpoint
from wsl.zoo.sources.columns import KINDS, typed_columns
from wsl.zoo.sources.form import Form
from wsl.zoo.sources.options import ImportOptions

_BLOCK = 16 << 20
_UNSHOWN = re.compile(
    r"(^|[._])((hidden_)?act(ivation)?(_fn|_function)?|non_?linearity|\w*eps(ilon)?|negative_slope|"
    r"(num_|n_)?(attention_)?heads?|groups|stride|padding|dilation|omega(_0)?|w0)$"
)
"""Last names of settings that change what a network computes, and no shape."""


class Gathered:
    """What is known of the rows so far: ``form`` from the first on, then a value each.

    ``rows`` is the file that holds them; ``files`` are those that each row was read from.
    """

    def __init__(self, options: ImportOptions, rows: Path) -> None:
        self.options, self.rows = options, rows
        self.form: Form | None = None
        self.places: dict[tuple[int, int], str] = {}
        self.files: list[tuple[str, ...]] = []
        self.columns: dict[str, list[Any]] = {}
        self.said: collections.Counter[str] = collections.Counter()
        self.equal: dict[bytes, list[tuple[int, int]]] = {}
        self._texts: dict[str, str] = {}

    def add(self, item: Checkpoint, params: Params) -> None:
        """Write one checkpoint's row; raises `ZooError` if it does not fit those before."""
        note = ""
        if self.form is not None:
            params, note = renamed(params, list(self.form.layout.shapes))
        form = self.form or Form.of(item, params, self.options)
        self._check_new(item)
        row = form.row(params, item, nonfinite=self.options.allow_nonfinite)
        with self.rows.open("ab") as file:
            file.write(row.data)
        # Only now, since whatever fails above leaves nothing behind.
        self.form = form
        self.said.update(filter(None, [note]))
        self.equal.setdefault(_digest(row), []).append((item.member, item.epoch))
        self._note(item)

    def _check_new(self, item: Checkpoint) -> None:
        if (before := self.places.get((item.member, item.epoch))) is not None:
            raise ZooError(
                f"member {item.member}, epoch {item.epoch} was already given by {before}"
            )

    def _note(self, item: Checkpoint) -> None:
        """Keep all that is said of a checkpoint.

        Every column gets its value, None where there is none; equal texts are kept once.
        """
        for name in item.metadata.keys() - self.columns.keys():
            self.columns[name] = [None] * len(self.places)
        for name, values in self.columns.items():
            value = item.metadata.get(name)
            values.append(self._texts.setdefault(value, value) if isinstance(value, str) else value)
        self.places[item.member, item.epoch] = item.origin
        self.files.append(item.files or (item.origin,))

    @property
    def sources(self) -> list[str]:
        """The first file of each row."""
        return [files[0] for files in self.files]

    def told(self, name: str) -> Told:
        """What is gathered here, for a list of architectures."""
        layout = self._formed().layout
        count, types = len(layout.entries), types_of(layout.dtypes)
        return Told(name, len(self.places), count, layout.size, types, self.files[0][0])

    def notes(self, codes: np.ndarray | None = None) -> tuple[str, ...]:
        """What has to be said of the checkpoints that were taken, their splits being ``codes``."""
        said = [f"{count} checkpoints: {note}" for note, count in self.said.items()]
        said += [_differ(name, values) for name, values in self.columns.items() if _hidden(name)]
        said = list(filter(None, said))
        if copies := [places for places in self.equal.values() if len(places) > 1]:
            second, first = (self.places[copies[0][i]] for i in (1, 0))
            said.append(
                f"{sum(map(len, copies)) - len(copies)} checkpoints hold the same weights as "
                f"another, such as {second} and {first}; {self._where(copies, codes)}"
            )
        return tuple(said)

    def _where(self, copies: Sequence[Sequence[tuple[int, int]]], codes: np.ndarray | None) -> str:
        """In which splits members of equal weights stand."""
        if codes is None:
            return "as members of their own they may stand in different splits"
        split = dict(zip(np.unique(self._numbers("member")).tolist(), codes.tolist(), strict=True))
        apart = [places for places in copies if len({split[m] for m, _ in places}) > 1]
        if apart:
            return f"{len(apart)} of them stand in different splits, as the files say"
        return "their members stand in the same split"

    def write(self, path: Path, about: Mapping[str, Any]) -> tuple[Zoo, dict[str, str], np.ndarray]:
        """Sort what was gathered into the zoo file ``path``, whose provenance tells ``about``.

        Returns the zoo, the columns left out with the reason, and the codes of the splits.
        """
        form = self._formed()
        codes = self._splits(self.columns.pop("split", []))
        columns, left_out = typed_columns(self.columns, form.notes.get("columns", {}))
        header = self._header(form, columns, about)
        weights = self._weights(form)
        order, records = self._sorted({"crc32": _checksums(weights), **columns})
        blocks = _blocks(weights, np.argsort(order))
        create(path, header, records | {"split": codes}, blocks=blocks)
        return Zoo(path), left_out, codes

    def _weights(self, form: Form) -> np.ndarray:
        """The rows (N, P) in the order in which they came, mapped."""
        shape = (len(self.places), form.layout.size)
        return np.memmap(self.rows, STORED[form.stored], "r", shape=shape)

    def _formed(self) -> Form:
        if self.form is None:
            raise ZooError("no checkpoint was taken")
        return self.form

    def _splits(self, given: list[Any]) -> np.ndarray:
        member = self._numbers("member")
        if len(given) == len(member) and all(value in SPLITS for value in given):
            return _agreed(given, member)
        members = np.unique(member)
        if callable(self.options.split):
            return self.options.split(members)
        apart, of = np.unique(self._groups(members), return_inverse=True)
        return split_members(len(apart), self.options.split, self.options.seed)[of]

    def _groups(self, members: np.ndarray) -> np.ndarray:
        """A number for each of the members (M,), the same for those that share weights.

        They are drawn as one.
        """
        number = {m: i for i, m in enumerate(members.tolist())}
        first = list(range(len(number)))  # of each member: the first that shares weights with it
        for places in self.equal.values():
            roots = sorted({_root(first, number[m]) for m, _ in places})
            for root in roots[1:]:
                first[root] = roots[0]
        return np.array([_root(first, i) for i in range(len(first))])

    def _sorted(
        self, columns: Mapping[str, np.ndarray]
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """The rows in the order of the file, and all that is known of them in that order."""
        records = {**{name: self._numbers(name) for name in ("member", "epoch")}, **columns}
        order = np.lexsort((records["epoch"], records["member"]))
        return order, {name: values[order] for name, values in records.items()}

    def _numbers(self, name: str) -> np.ndarray:
        """Member or epoch of each row, in the order in which they came."""
        column = ("member", "epoch").index(name)
        return np.array([place[column] for place in self.places], dtype=np.int32)

    def _header(
        self, form: Form, columns: Mapping[str, np.ndarray], about: Mapping[str, Any]
    ) -> Header:
        told = {
            "specification": form.specification,
            "checkpoints": len(self.places),
            **about,
            **(self.options.provenance or {}),
        }
        return Header(
            form.spec,
            form.layout,
            {name: KINDS[values.dtype.kind] for name, values in columns.items()},
            self.options.architecture or form.notes.get("architecture"),
            form.notes.get("provenance", {"import": told}),
            dtype=form.stored,
        ).checked()


def _hidden(name: str) -> bool:
    """Whether a column may tell of an architecture what the shapes of its tensors do not."""
    return _UNSHOWN.search(name.lower()) is not None


def _differ(name: str, values: Sequence[Any]) -> str:
    """A note if the checkpoints have more than one value under ``name``."""
    counts = collections.Counter(value for value in values if value is not None)
    if len(counts) < 2:
        return ""
    told = ", ".join(f"{value} {count}" for value, count in counts.most_common(4))
    return f"checkpoints differ in {name} ({told}), which shapes do not show; --where selects"


def _digest(row: np.ndarray) -> bytes:
    return hashlib.blake2b(row.tobytes(), digest_size=16).digest()


def _root(first: list[int], i: int) -> int:
    while first[i] != i:
        i = first[i]
    return i


def _checksums(weights: np.ndarray) -> np.ndarray:
    every = np.arange(len(weights))
    return np.concatenate([row_checksums(block) for _, block in _blocks(weights, every)])


def _blocks(weights: np.ndarray, positions: np.ndarray) -> Iterator[Block]:
    step = max(1, _BLOCK // (weights.itemsize * weights.shape[1]))
    for start in range(0, len(weights), step):
        yield positions[start : start + step], weights[start : start + step]


def _agreed(given: Sequence[Any], member: np.ndarray) -> np.ndarray:
    """Code of each member, on which all of its rows must agree."""
    members, which = np.unique(member, return_inverse=True)
    codes = np.array([SPLITS.index(value) for value in given], dtype=np.uint8)
    first = np.zeros(len(members), dtype=np.uint8)
    first[which] = codes
    differ = np.flatnonzero(first[which] != codes)
    if len(differ):
        row = differ[0]
        both = f"{SPLITS[first[which][row]]} and in {SPLITS[codes[row]]}"
        raise ZooError(f"member {member[row]}: has checkpoints in {both}; splits are by member")
    return first
