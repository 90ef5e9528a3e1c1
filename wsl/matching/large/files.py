"""Safetensors on disk, read slice by slice: nothing is held that was not asked for.

    8 bytes          length of the header, little endian
    header           JSON: {name: {"dtype", "shape", "data_offsets"}, "__metadata__": {text: text}}
    the rest         tensors, row-major, at their offsets

A `Source` gives tensors by name that have a shape and a dtype and are read by slices of their first
axis. A dict of tensors is one, and so are the tensors of a file. Reads are plain reads into new
memory: pages of a mapping would be counted, and kept, as memory of the process.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import EllipsisType
from typing import Any, NamedTuple, Protocol, cast

import torch
from torch import Tensor

INDEX = ".index.json"
SUFFIX = ".safetensors"
DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
"""The types of the format that torch has and that weights come in."""
_PREFERRED = ("model", "diffusion_pytorch_model")


class TensorSlices(Protocol):
    """A tensor that is read by slices of its first axis; ``[...]`` reads all of it."""

    @property
    def shape(self) -> Sequence[int]:
        """The size of every axis."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """The type of its numbers."""
        ...

    def __getitem__(self, rows: slice | EllipsisType, /) -> Tensor:
        """Some rows, or all of it."""
        ...


Source = Mapping[str, TensorSlices]
"""Tensors by name, of one checkpoint, wherever they lie."""


@dataclasses.dataclass(frozen=True)
class FileTensor:
    """A tensor in a file; ``start`` is where its bytes begin."""

    path: Path
    dtype: torch.dtype
    shape: torch.Size
    start: int

    @property
    def row(self) -> int:
        """Bytes of one entry of the first axis."""
        return self.dtype.itemsize * math.prod(self.shape[1:])

    @property
    def size(self) -> int:
        """Bytes of all of it."""
        return self.dtype.itemsize * math.prod(self.shape)

    def __getitem__(self, rows: slice | EllipsisType, /) -> Tensor:
        """The tensor, or a slice of its first axis with step 1."""
        if isinstance(rows, EllipsisType):
            return self._read(self.start, self.shape)
        first, stop, _ = rows.indices(self.shape[0])
        shape = torch.Size((max(0, stop - first), *self.shape[1:]))
        return self._read(self.start + first * self.row, shape)

    def entries(self, first: int, stop: int) -> Tensor:
        """Entries (stop - first,) in the order of their bytes."""
        size = self.dtype.itemsize
        return self._read(self.start + first * size, torch.Size((stop - first,)))

    def _read(self, start: int, shape: torch.Size) -> Tensor:
        count = math.prod(shape)
        raw = torch.empty(count * self.dtype.itemsize, dtype=torch.uint8)
        with self.path.open("rb", buffering=0) as file:
            file.seek(start)
            into, done = memoryview(cast("Any", raw.numpy())), 0
            while done < len(into):
                if not (read := file.readinto(into[done:])):
                    raise ValueError(f"{self.path}: ends in the middle of a tensor; it is cut")
                done += read
        return raw.view(self.dtype).reshape(shape)


class TensorFile(NamedTuple):
    """One safetensors file: its tensors in the order of their bytes, and its text."""

    path: Path
    tensors: dict[str, FileTensor]
    metadata: dict[str, str]


class TensorFiles(NamedTuple):
    """The files of one checkpoint by name, and what the index ``index_file`` beside them says."""

    files: dict[str, TensorFile]
    index: dict[str, Any] | None = None
    index_file: str = ""

    @property
    def tensors(self) -> dict[str, FileTensor]:
        """All tensors by name."""
        return {name: t for file in self.files.values() for name, t in file.tensors.items()}

    @property
    def size(self) -> int:
        """Bytes of all tensors."""
        return sum(tensor.size for tensor in self.tensors.values())


def safetensors_of(path: str | Path) -> Path | None:
    """The safetensors file or index that ``path`` stands for; None if it is something else."""
    path = Path(path)
    if path.is_file():
        return path if path.name.endswith((SUFFIX, SUFFIX + INDEX)) else None
    for name in _PREFERRED:
        for file in (path / f"{name}{SUFFIX}{INDEX}", path / f"{name}{SUFFIX}"):
            if file.is_file():
                return file
    found = sorted(path.glob(f"[!.]*{SUFFIX}")) if path.is_dir() else []
    return found[0] if len(found) == 1 else None


def open_files(path: str | Path) -> TensorFiles:
    """The tensors of a safetensors file, an index, or a folder; only headers are read.

    Raises ValueError where there is no such file, or where one is damaged or does not hold what
    the index says.
    """
    file = safetensors_of(path)
    if file is None:
        raise ValueError(
            f"{path}: is no safetensors file and no folder with {_PREFERRED[0]}{SUFFIX}{INDEX} or "
            "one such file; save the weights as safetensors"
        )
    if not file.name.endswith(INDEX):
        return TensorFiles({file.name: read_header(file)})
    index = _index(file)
    shards = sorted(set(index["weight_map"].values()))
    files = {name: read_header(file.with_name(name)) for name in shards}
    _check_index(file, index["weight_map"], files)
    return TensorFiles(files, index, file.name)


def _check_index(file: Path, names: Mapping[str, str], shards: Mapping[str, TensorFile]) -> None:
    """Raise ValueError unless the shards hold what the index says, and nothing else."""
    for tensor, name in names.items():
        if tensor not in shards[name].tensors:
            raise ValueError(f"{file}: {tensor}: is in no shard; {name} should hold it")
    for name, shard in shards.items():
        if unknown := [tensor for tensor in shard.tensors if names.get(tensor) != name]:
            raise ValueError(f"{file}: {unknown[0]}: is in {name} but not in the index")


def read_header(path: Path) -> TensorFile:
    """What a safetensors file holds, its tensors in the order of their bytes."""
    try:
        about, found, size = _read_header(path)
    except KeyError as error:
        raise ValueError(f"{path}: holds tensors of type {error}, which cannot be read") from None
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise ValueError(f"{path}: is not a readable safetensors file ({error})") from None
    if any(tensor.start + tensor.size > size for tensor in found.values()):
        raise ValueError(f"{path}: is cut: it ends before the tensors that it names")
    ordered = sorted(found.items(), key=lambda pair: (pair[1].start, pair[0]))
    return TensorFile(path, dict(ordered), about)


def _read_header(path: Path) -> tuple[dict[str, str], dict[str, FileTensor], int]:
    """The text of a file, its tensors, and its size in bytes."""
    with path.open("rb") as file:
        first = 8 + int.from_bytes(file.read(8), "little")
        size = os.fstat(file.fileno()).st_size
        content = json.loads(file.read(min(first, size) - 8))
    about = content.pop("__metadata__", {})
    return about, {name: _described(path, first, told) for name, told in content.items()}, size


def _described(path: Path, first: int, told: Mapping[str, Any]) -> FileTensor:
    start, _ = told["data_offsets"]
    return FileTensor(path, DTYPES[told["dtype"]], torch.Size(told["shape"]), first + start)


def structure(source: Source) -> dict[str, Tensor]:
    """Tensors on the meta device with the shapes and types of a source."""
    return {
        name: torch.empty(tuple(tensor.shape), dtype=tensor.dtype, device="meta")
        for name, tensor in source.items()
    }


def _index(file: Path) -> dict[str, Any]:
    try:
        index = json.loads(file.read_text())
        names = index["weight_map"]
        plain = all(Path(name).name == name for name in names.values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        plain, index = False, {}
    if not plain:
        raise ValueError(f"{file}: has no weight_map of tensor names to files beside it")
    return index
