"""HDF5 sets of flat parameters with a JSON layout, one file or shards.

    params (N, D)      param_config: JSON [["layer.kernel", [in, out]], ...]
    other arrays (N,) of numbers are metadata

fit-a-nef and the Neural Field Arena write them: Papa, Valperga, Knigge, Kofinas, Lippe, Sonke,
Gavves, How to Train Neural Field Representations (2023), arXiv 2312.10531. Field k of the shards in
natural order is member k at epoch 0. Kernels of linear layers are transposed to (out, in) and
called ``weight``. Links, external and pickled data are not followed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

from wsl.params import Params
from wsl.zoo.file import ZooError
from wsl.zoo.sources.checkpoint import Checkpoint, Source, flatten, natural, sourced

HDF5 = (".hdf5", ".h5", ".hdf")
_DAMAGED = (OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError, MemoryError)
_ROWS = 256
Tensors = list[tuple[str, tuple[int, ...]]]
"""Names and shapes."""


def flat_hdf5(path: str | Path) -> Source:
    """The rows of ``params`` in the file ``path``, or in all HDF5 files of the folder.

    Raises `ZooError`.
    """
    root = Path(path)
    files = natural(
        [root] if root.is_file() else (file for file in root.iterdir() if file.suffix in HDF5)
    )
    if not files:
        raise ZooError(f"{root}: has no files ending in {', '.join(HDF5)}")
    yield from read_hdf5(root.parent if root.is_file() else root, files)


def read_hdf5(root: Path, files: Iterable[Path]) -> Source:
    """The rows of ``params`` in ``files`` below ``root``, numbered on from one to the next."""
    member = 0
    for file in files:
        name = file.relative_to(root).as_posix()
        source = sourced({}, root, [name])
        for params, about in _rows(file):
            told = {**flatten(about), **source}
            origin = f"{name} member {member}"
            yield Checkpoint(member, 0, params, told, origin, files=(name,))
            member += 1


def holds_rows(file: Path) -> bool:
    """Whether ``file`` is HDF5 with ``params`` and their layout."""
    try:
        with h5py.File(file, "r", locking=False) as content:
            return "params" in content and (
                "param_config" in content or "param_config" in content.attrs
            )
    except _DAMAGED:
        return False


def told_hdf5(file: Path) -> str:
    """Why an HDF5 file beside checkpoints is left out."""
    try:
        with h5py.File(file, "r", locking=False) as content:
            if content.attrs.get("format") in ("wslzoo", b"wslzoo"):
                return "is a zoo file, and no checkpoint"
    except _DAMAGED:
        return "is called HDF5, but HDF5 cannot read it"
    return "is HDF5; it is read with --kind flat-hdf5"


def _rows(path: Path) -> Iterable[tuple[Params, dict[str, Any]]]:
    try:
        with h5py.File(path, "r", locking=False) as file:
            values, layout = _dataset(path, file, "params"), _layout(path, file)
            _check(path, values, layout)
            columns = _columns(file, len(values))
            for i, row in enumerate(_each_row(values)):
                about = {name: column[i].item() for name, column in columns.items()}
                yield _unflatten(row, layout), about
    except ZooError:
        raise
    except _DAMAGED as error:
        raise ZooError(f"{path}: HDF5 cannot read it ({str(error)[:200]})") from None


def _each_row(values: h5py.Dataset) -> Iterator[np.ndarray]:
    """The rows one by one in float32, read in blocks."""
    for start in range(0, len(values), _ROWS):
        yield from np.asarray(values[start : start + _ROWS], dtype=np.float32)


def _check(path: Path, values: h5py.Dataset, layout: Tensors) -> None:
    """Raise `ZooError` unless ``values`` are as the layout describes and the file can hold."""
    size = sum(math.prod(shape) for _, shape in layout)
    if values.ndim != 2 or values.shape[1] != size:
        raise ZooError(
            f"{path}: params has shape {values.shape}, but param_config describes rows of {size}"
        )
    claimed = math.prod(values.shape) * values.dtype.itemsize
    # compressed it may be smaller in the file, but not by more than deflate can do
    if values.dtype.kind != "f" or claimed > 1000 * path.stat().st_size:
        raise ZooError(
            f"{path}: params claims {values.shape} values of {values.dtype}, more than "
            "the file can hold"
        )


def _dataset(path: Path, file: h5py.File, name: str) -> h5py.Dataset:
    link = file.get(name, getlink=True) if name in file else None
    found = file[name] if isinstance(link, h5py.HardLink) else None
    if not isinstance(found, h5py.Dataset) or found.external or found.is_virtual:
        raise ZooError(f"{path}: has no array {name!r} of its own")
    return found


def _layout(path: Path, file: h5py.File) -> Tensors:
    try:
        content = json.loads(_layout_text(path, file))
        pairs = content.items() if isinstance(content, Mapping) else content
        layout = [(str(name), tuple(int(size) for size in shape)) for name, shape in pairs]
    except (ValueError, TypeError, RecursionError) as error:
        raise ZooError(
            f"{path}: param_config is not JSON of names and shapes ({str(error)[:200]})"
        ) from None
    if not layout or any(size < 1 for _, shape in layout for size in shape):
        raise ZooError(f"{path}: param_config describes no tensors, or one without values")
    return layout


def _layout_text(path: Path, file: h5py.File) -> str:
    if "param_config" in file.attrs:
        text = file.attrs["param_config"]
    else:
        text = np.ravel(_dataset(path, file, "param_config")[()])[0]
    return str(text, "utf-8") if isinstance(text, bytes) else str(text)


def _columns(file: h5py.File, count: int) -> dict[str, np.ndarray]:
    """Other arrays of one number or truth value per row."""
    found = {}
    for name in file:
        if name in ("params", "param_config") or not isinstance(
            file.get(name, getlink=True), h5py.HardLink
        ):
            continue
        data = file[name]
        if (
            isinstance(data, h5py.Dataset)
            and data.shape == (count,)
            and data.dtype.kind in "fiub"
            and not data.external
        ):
            found[name] = data[()]
    return found


def _unflatten(row: np.ndarray, layout: Tensors) -> Params:
    params, start = {}, 0
    for name, shape in layout:
        values = row[start : start + math.prod(shape)].reshape(shape)
        start += values.size
        if name.endswith("kernel"):
            name, values = (
                name.removesuffix("kernel") + "weight",
                values.T if values.ndim == 2 else values,
            )
        params[name] = torch.from_numpy(np.ascontiguousarray(values))
    return params
