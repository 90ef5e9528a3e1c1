"""The Small CNN Zoo of Unterthiner et al., as its three files.

    weights.npy (R, 4970)      metrics.csv.gz, a line per row      layout.csv, a line per tensor
    kernel (h, w, in, out) -> weight (out, in, h, w)         kernel (in, out) -> weight (out, in)

Unterthiner, Keysers, Gelly, Bousquet, Tolstikhin, Predicting Neural Network Accuracy from Weights
(2020), arXiv 2002.11448. A run (``modeldir``) is a member, ``step`` the epoch, every other column
of the metrics a column. Tensors are named as in a sequence of layers:
``sequential/conv2d_1/kernel:0`` becomes ``conv2d_1.weight``. Rows without finite weights are kept.
"""

from __future__ import annotations

import ast
import csv
import gzip
import math
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from wsl.zoo.file import ZooError
from wsl.zoo.sources.checkpoint import Checkpoint, Source, flatten, sourced, value_of

FILES = ("weights.npy", "layout.csv")
"""What is read besides the metrics."""
_AXES = {4: (3, 2, 0, 1), 3: (2, 1, 0), 2: (1, 0), 1: (0,)}
_KINDS = {"kernel": "weight", "bias": "bias", "gamma": "weight", "beta": "bias"}


class _Tensor(NamedTuple):
    name: str
    shape: tuple[int, ...]
    start: int
    end: int
    kernel: bool

    def of(self, row: np.ndarray) -> Tensor:
        values = row[self.start : self.end].reshape(self.shape)
        return torch.from_numpy(
            np.ascontiguousarray(values.transpose(_AXES[values.ndim]) if self.kernel else values)
        )


def small_cnn_zoo(path: str | Path) -> Source:
    """The rows of the three files in ``path``; raises `ZooError` where they do not fit together."""
    root = Path(path)
    tensors = _layout(root / "layout.csv")
    weights = _weights(root, tensors[-1].end)
    members: dict[str, int] = {}
    source = sourced({}, root, FILES[:1])
    for row, line in _numbered(root, len(weights)):
        member = members.setdefault(line["modeldir"], len(members))
        epoch, about = _about(root, row, line)
        values = np.array(weights[row])
        params = {tensor.name: tensor.of(values) for tensor in tensors}
        yield Checkpoint(member, epoch, params, {**about, **source}, f"row {row}", files=FILES)


def _numbered(root: Path, count: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """The lines of the metrics with their number; there must be one for each row of weights."""
    lines = 0
    for row, line in enumerate(_lines(root)):
        if row >= count:
            raise ZooError(
                f"{root}: the metrics have more lines than the {count} rows of weights.npy"
            )
        yield row, line
        lines += 1
    if lines != count:
        raise ZooError(f"{root}: weights.npy has {count} rows, but the metrics {lines} lines")


def _weights(root: Path, size: int) -> np.ndarray:
    """(R, ``size``) float32, mapped."""
    try:
        weights = np.load(root / "weights.npy", mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ZooError(f"{root / 'weights.npy'}: is not a readable array ({error})") from None
    if weights.ndim != 2 or weights.shape[1] != size or weights.dtype != np.float32:
        raise ZooError(
            f"{root}: weights.npy is {weights.dtype} of shape {weights.shape}, but layout.csv "
            "describes rows of "
            f"{size} float32 values"
        )
    return weights


def _about(root: Path, row: int, line: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """Epoch and metadata of a line of the metrics; the head of the table is line 1."""
    about = {key: value_of(text) for key, text in line.items() if key and text}
    epoch = about.pop("step")
    if not isinstance(epoch, int):
        raise ZooError(
            f"{root}: step is {epoch!r} in line {row + 2} of the metrics; a whole number is "
            "required"
        )
    return epoch, flatten(about)


def _lines(root: Path) -> Iterator[dict[str, Any]]:
    path = _metrics(root)
    try:
        with (
            gzip.open(path, "rt", newline="")
            if path.suffix == ".gz"
            else path.open(newline="") as file
        ):
            lines = csv.DictReader(file)
            if missing := {"modeldir", "step"} - set(lines.fieldnames or ()):
                raise ZooError(f"{path}: has no column {min(missing)!r}")
            yield from lines
    except (OSError, EOFError, zlib.error, csv.Error, UnicodeDecodeError) as error:
        raise ZooError(f"{path}: is not a readable table ({error})") from None


def _metrics(root: Path) -> Path:
    for name in ("metrics.csv.gz", "metrics.csv"):
        if (root / name).is_file():
            return root / name
    raise ZooError(f"{root}: has no metrics.csv.gz or metrics.csv")


def _layout(path: Path) -> list[_Tensor]:
    try:
        with path.open(newline="") as file:
            lines = list(csv.DictReader(file))
        found = [_tensor(line) for line in lines]
    except (OSError, KeyError, ValueError, SyntaxError, TypeError, csv.Error) as error:
        raise ZooError(
            f"{path}: is not a layout with varname, shape, start_idx, end_idx ({error!r})"
        ) from None
    if not found:
        raise ZooError(f"{path}: describes no tensors")
    start = 0
    for tensor in found:
        _check_place(path, tensor, start)
        start = tensor.end
    return found


def _check_place(path: Path, tensor: _Tensor, start: int) -> None:
    end = start + math.prod(tensor.shape)
    if (tensor.start, tensor.end) != (start, end) or len(tensor.shape) not in _AXES:
        raise ZooError(
            f"{path}: {tensor.name}: lies at {tensor.start}..{tensor.end} with shape "
            f"{tensor.shape}; tensors "
            "follow each other without gap"
        )


def _tensor(line: dict[str, str]) -> _Tensor:
    shape = ast.literal_eval(line["shape"])
    shape = (shape,) if isinstance(shape, int) else tuple(int(size) for size in shape)
    scope, _, kind = re.sub(r":\d+\Z", "", line["varname"]).rpartition("/")
    layer = scope.removeprefix("sequential/").replace("/", ".")
    name = f"{layer}.{_KINDS.get(kind, kind)}" if layer else _KINDS.get(kind, kind)
    return _Tensor(name, shape, int(line["start_idx"]), int(line["end_idx"]), kind == "kernel")
