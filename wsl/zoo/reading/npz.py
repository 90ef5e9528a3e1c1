"""One .npz file: a state dict as numpy arrays, by name.

Pickled objects are refused, claimed sizes checked first.
"""

from __future__ import annotations

import math
import zipfile
import zlib
from pathlib import Path

import numpy as np
import torch

from wsl.params import Params
from wsl.zoo.file import ZooError

_MAX_BYTES = 1 << 36
_DAMAGED = (
    OSError,
    ValueError,
    KeyError,
    EOFError,
    TypeError,
    SyntaxError,
    MemoryError,
    zipfile.BadZipFile,
    zlib.error,
    NotImplementedError,
    RuntimeError,
)
"""What numpy raises on broken archives."""


def read_npz(path: Path) -> Params:
    """The arrays of ``path`` as tensors.

    Raises `ZooError` if one is no array of numbers, or larger than the archive says.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                _check_size(path, archive, entry)
        with np.load(path, allow_pickle=False) as arrays:
            params = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    except _DAMAGED as error:
        raise ZooError(
            f"{path}: is not a readable .npz of plain arrays ({str(error)[:200]}); nothing was run"
        ) from None
    if not params:
        raise ZooError(f"{path}: holds no arrays")
    return params


def _check_size(path: Path, archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> None:
    with archive.open(entry) as file:
        version = np.lib.format.read_magic(file)
        reading = (
            np.lib.format.read_array_header_1_0
            if version == (1, 0)
            else np.lib.format.read_array_header_2_0
        )
        shape, _, dtype = reading(file)
    size = math.prod(shape) * dtype.itemsize
    if (
        any(length < 0 for length in shape)
        or not size <= entry.file_size <= size + 65536
        or size > _MAX_BYTES
    ):
        raise ZooError(
            f"{path}: {entry.filename} claims shape {shape} of {dtype}, but has {entry.file_size} "
            "bytes"
        )
