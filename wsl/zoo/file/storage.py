"""How a row lies in the file: 4 bytes a value, or 2 on request.

    float32 -> f4        float16 -> f2        bfloat16 -> u2, the upper half of the float32's bits

float32 keeps every bit. A 2-byte type is the caller's own wish to round: floating values go to the
nearest, ties to even; a finite value that would become infinite, or an integer that would change,
is refused by name and never stored otherwise.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from wsl.zoo.file.error import ZooError
from wsl.zoo.file.layout import RowLayout

STORED = {"float32": np.dtype("<f4"), "float16": np.dtype("<f2"), "bfloat16": np.dtype("<u2")}
"""Type of ``/weights`` in the file, by logical type."""
TORCH = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
_CARRIER = {4: (np.dtype("<f4"), torch.float32), 2: (np.dtype("<i2"), torch.int16)}


def storage_name(dtype: torch.dtype) -> str:
    """Name in the file of a torch type.

    Raises `ZooError` for one in which weights are not stored.
    """
    for name, known in TORCH.items():
        if known == dtype:
            return name
    raise ZooError(f"dtype {dtype}: weights are stored as torch.{', torch.'.join(TORCH)}")


def to_stored(rows: np.ndarray, layout: RowLayout, dtype: str) -> np.ndarray:
    """Rows (n, P) float32 as the file holds them.

    Raises `ZooError` naming the tensor that ``dtype`` cannot hold.
    """
    if dtype == "float32":
        return np.ascontiguousarray(rows, dtype="<f4")
    exact = torch.from_numpy(np.ascontiguousarray(rows))
    rounded = exact.to(TORCH[dtype])
    back = rounded.to(torch.float32)
    wrong = (back.isinf() & exact.isfinite()) | (_is_integer(layout) & (back != exact))
    for row, place in wrong.nonzero()[:1].tolist():
        raise ZooError(
            f"{layout.tensor_at(place)}: holds {exact[row, place]:g}, which {dtype} cannot "
            "represent; store the zoo as float32, or leave this tensor out"
        )
    return carried(rounded).numpy().view(STORED[dtype])


def _is_integer(layout: RowLayout) -> Tensor:
    """(P,) bool: which values of a row belong to tensors that are not floating."""
    integer = torch.zeros(layout.size, dtype=torch.bool)
    for entry in layout.entries:
        integer[entry.start : entry.end] = not layout.dtypes[entry.name].is_floating_point
    return integer


def carried(block: Tensor) -> Tensor:
    """The memory of ``block`` as numbers that numpy knows: bfloat16 is none of them."""
    return block if block.dtype is torch.float32 else block.view(_CARRIER[block.element_size()][1])


def carrier(stored: np.ndarray) -> np.ndarray:
    """Stored rows as the numbers of `carried`."""
    return stored.view(_CARRIER[stored.dtype.itemsize][0])
