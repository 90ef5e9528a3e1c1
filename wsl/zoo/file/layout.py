"""`RowLayout`: where each tensor of a checkpoint lies in its flat float32 row.

    row[start:end] = tensor.flatten()          0 = start_1 < end_1 = start_2 < ... < end_T = P

The way there and back is exact: every value must be a float32 (true of float32, float16, bfloat16,
bool, and integers up to 2^24); what is not is refused, never rounded. Tensors come back with their
own dtype: integer buffers such as ``num_batches_tracked`` stay so.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wsl.params import Params
from wsl.zoo.file.error import ZooError

DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        torch.float32,
        torch.float64,
        torch.float16,
        torch.bfloat16,
        torch.bool,
        torch.int64,
        torch.int32,
        torch.int16,
        torch.int8,
        torch.uint8,
    )
}
_BUFFERS = ("running_mean", "running_var", "num_batches_tracked")
_MAX_AXES, _MAX_VIEWS = 16, 16
_View = tuple[str, tuple[int, ...], tuple[int, ...], int, torch.dtype]
"""Name of a tensor, its shape, strides, place and type."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """One tensor and its place in the row.

    The architecture trains it (``kind`` is ``param``) or does not (``buffer``).
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    start: int
    end: int
    kind: str

    @classmethod
    def of(cls, name: str, tensor: Tensor, *, start: int, kind: str) -> Entry:
        """The entry of ``tensor``; raises `ZooError` if it cannot be stored."""
        dtype = str(tensor.dtype).removeprefix("torch.")
        if dtype not in DTYPES or tensor.numel() == 0 or tensor.dim() > _MAX_AXES:
            raise ZooError(
                f"{name}: {dtype} tensor of shape {tuple(tensor.shape)} cannot be stored; "
                f"a zoo takes non-empty tensors of {', '.join(DTYPES)}"
            )
        return cls(name, tuple(tensor.shape), dtype, start, start + tensor.numel(), kind)

    def to_json(self) -> dict[str, Any]:
        """A plain dict, keys as in the file."""
        return {**dataclasses.asdict(self), "shape": list(self.shape)}

    @classmethod
    def from_json(cls, content: Any, start: int) -> Entry:
        """Read one untrusted entry that must begin at ``start``."""
        names = {field.name for field in dataclasses.fields(cls)}
        if not isinstance(content, dict) or set(content) != names:
            raise ZooError(
                "layout: an entry is not an object of name, shape, dtype, start, end, kind: "
                f"{str(content)[:80]}"
            )
        name, shape = _read_shape(content["name"], content["shape"])
        dtype, kind = content["dtype"], content["kind"]
        if dtype not in list(DTYPES) or kind not in ("param", "buffer"):
            raise ZooError(f"layout: {name}: dtype {dtype!r} or kind {kind!r} is unknown")
        end = start + math.prod(shape)
        if content["start"] != start or content["end"] != end:
            raise ZooError(
                f"layout: {name}: lies at {content['start']}..{content['end']}, not at {start}.."
                f"{end}; tensors follow each other without gap or overlap"
            )
        return cls(name, shape, dtype, start, end, kind)


def _read_shape(name: Any, shape: Any) -> tuple[str, tuple[int, ...]]:
    few = isinstance(shape, list) and len(shape) <= _MAX_AXES
    if not isinstance(name, str) or not name or not few:
        raise ZooError(
            f"layout: entry {str(name)[:80]!r} needs a name and a list of at most {_MAX_AXES} "
            "sizes as shape"
        )
    if any(type(size) is not int or size < 1 for size in shape):
        raise ZooError(f"layout: {name}: shape {shape} must hold positive integers")
    return name, tuple(shape)


@dataclasses.dataclass(frozen=True)
class RowLayout:
    """All tensors of one architecture, in state-dict order."""

    entries: tuple[Entry, ...]

    @classmethod
    def of(cls, params: Mapping[str, Tensor], buffers: Collection[str] | None = None) -> RowLayout:
        """The layout of one member.

        ``buffers`` names the untrained tensors (default: batch-norm statistics and integers).
        """
        entries: list[Entry] = []
        for name, tensor in params.items():
            # without names of buffers: what is usual
            guess = name.rpartition(".")[2] in _BUFFERS or not tensor.is_floating_point()
            kind = "buffer" if (guess if buffers is None else name in buffers) else "param"
            start = entries[-1].end if entries else 0
            entries.append(Entry.of(name, tensor, start=start, kind=kind))
        if unknown := sorted(set(buffers or ()) - set(params)):
            raise ZooError(f"buffers: {unknown[0]!r} is not among the tensors")
        if not entries:
            raise ZooError("no tensors given; a zoo stores at least one per checkpoint")
        return cls(tuple(entries))

    @classmethod
    def from_json(cls, content: Any) -> RowLayout:
        """Read an untrusted layout.

        Raises `ZooError` where it overlaps, leaves gaps or repeats a name.
        """
        if not isinstance(content, list) or not content:
            raise ZooError("layout: must be a non-empty list of tensors")
        entries: list[Entry] = []
        for item in content:
            entries.append(Entry.from_json(item, entries[-1].end if entries else 0))
        if len({entry.name for entry in entries}) != len(entries):
            raise ZooError("layout: a tensor is named twice")
        return cls(tuple(entries))

    def to_json(self) -> list[dict[str, Any]]:
        """Plain lists and dicts that `from_json` reads back."""
        return [entry.to_json() for entry in self.entries]

    @property
    def size(self) -> int:
        """P, the number of values in a row."""
        return self.entries[-1].end

    @property
    def shapes(self) -> dict[str, torch.Size]:
        """Shape of each tensor, by name."""
        return {entry.name: torch.Size(entry.shape) for entry in self.entries}

    @property
    def dtypes(self) -> dict[str, torch.dtype]:
        """Type of each tensor, by name."""
        return {entry.name: DTYPES[entry.dtype] for entry in self.entries}

    def cast(self, dtype: torch.dtype | None) -> RowLayout:
        """The same layout with ``dtype`` for every floating tensor; None leaves it as it is."""
        if dtype is None:
            return self
        name = str(dtype).removeprefix("torch.")
        floating = (DTYPES[entry.dtype].is_floating_point for entry in self.entries)
        return RowLayout(
            tuple(
                dataclasses.replace(entry, dtype=name) if cast else entry
                for entry, cast in zip(self.entries, floating, strict=True)
            )
        )

    def pack(self, params: Mapping[str, Tensor], *, rounding: bool = False) -> np.ndarray:
        """Rows (n, P) float32 of n checkpoints, tensors (n, *shape).

        Raises `ZooError` naming the tensor that does not fit. ``rounding``: floating tensors of any
        type are taken, to be rounded to the layout's type by who stores them.
        """
        if difference := set(params) ^ {entry.name for entry in self.entries}:
            name = min(difference)
            what = "is not in the layout of this zoo" if name in params else "is missing"
            raise ZooError(f"{name}: {what}; all checkpoints of a zoo have the same tensors")
        first = params[self.entries[0].name]
        count = first.shape[0] if first.dim() else 0
        rows = torch.empty(count, self.size, dtype=torch.float32)
        for entry in self.entries:
            values = _as_float32(entry, params[entry.name], count, rounding=rounding)
            rows[:, entry.start : entry.end] = values.reshape(count, entry.end - entry.start)
        return rows.numpy()

    def pack_one(self, params: Mapping[str, Tensor], *, rounding: bool = False) -> np.ndarray:
        """As `pack`, for the tensors of one checkpoint: a row (1, P)."""
        return self.pack({name: t.unsqueeze(0) for name, t in params.items()}, rounding=rounding)

    def unpack(self, rows: Tensor) -> Params:
        """Inverse of `pack`: tensors (B, *shape) of ``rows`` (B, P).

        Those of the rows' own type are views into ``rows``, others are cast back to their type.
        """
        rows = rows if rows.stride(1) == 1 else rows.contiguous()
        place = len(rows), rows.stride(0), int(rows.storage_offset())
        views, given = self._views.get(place) or self._plan(*place), rows.dtype
        params = {}
        for name, shape, strides, start, dtype in views:
            tensor = rows.as_strided(shape, strides, start)
            params[name] = tensor if dtype is given else tensor.to(dtype)
        return params

    def _plan(self, count: int, step: int, begin: int) -> list[_View]:
        """How `unpack` cuts a block of this form; kept, since it runs for every batch."""
        if len(self._views) >= _MAX_VIEWS:
            self._views.clear()
        views = [
            (
                entry.name,
                (count, *entry.shape),
                (step, *torch.empty(entry.shape, device="meta").stride()),
                begin + entry.start,
                DTYPES[entry.dtype],
            )
            for entry in self.entries
        ]
        self._views[count, step, begin] = views
        return views

    @functools.cached_property
    def _views(self) -> dict[tuple[int, int, int], list[_View]]:
        return {}

    def tensor_at(self, column: int) -> str:
        """Name of the tensor that column ``column`` of a row belongs to."""
        return next(entry.name for entry in self.entries if column < entry.end)


def _as_float32(entry: Entry, tensor: Tensor, count: int, *, rounding: bool) -> Tensor:
    """``tensor`` (count, *shape) as float32 on the processor, every value unchanged.

    With ``rounding`` a floating tensor of any type is taken: `storage.to_stored` rounds it later,
    and sees what overflows.
    """
    required, dtype = (count, *entry.shape), DTYPES[entry.dtype]
    if tuple(tensor.shape) != required:
        raise ZooError(
            f"{entry.name}: has shape {tuple(tensor.shape)}, but {required} is required: "
            "a leading axis of checkpoints, then the shape in this zoo"
        )
    if rounding and tensor.is_floating_point() and dtype.is_floating_point:
        return tensor.detach().cpu().to(torch.float32)
    if tensor.dtype != dtype:
        raise ZooError(
            f"{entry.name}: is {tensor.dtype}, but this zoo holds torch.{entry.dtype}; cast it "
            "first"
        )
    values = tensor.detach().cpu().to(torch.float32)
    if not _exact(values, tensor):
        raise ZooError(
            f"{entry.name}: holds {tensor.dtype} values that float32 cannot represent exactly; "
            "cast it to float32 yourself, or leave it out"
        )
    return values


def _exact(values: Tensor, tensor: Tensor) -> bool:
    """Whether all float32 ``values`` are those of ``tensor``, NaN for NaN."""
    if tensor.dtype in (torch.float32, torch.float16, torch.bfloat16, torch.bool):
        return True  # float32 holds every value of these
    back, tensor = values.to(tensor.dtype), tensor.detach().cpu()
    return bool(((back == tensor) | ((back != back) & (tensor != tensor))).all())
