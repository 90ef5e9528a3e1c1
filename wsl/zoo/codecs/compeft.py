"""ComPEFT: a residual as signs at its largest entries, positions Golomb-coded, one number of size.

    keep the top k of |tau|;   tau^ = alpha std(tau) sign(tau) there, 0 elsewhere
    gap g before a kept entry:   unary(g >> b), then b bits of g,    b by the share kept
    bits for a weight = k (1 + b + 1 / (1 - (1 - k)^(2^b)))          .339 at k = 5 %, 1.5 at 50 %

Yadav, Choshen, Raffel, Bansal (2023), "ComPEFT", arXiv 2311.13171; the code of positions is that of
sparse ternary compression (Sattler et al. 2019, arXiv 1903.02891), whose parameter is
b = 1 + floor(log2(log((sqrt(5) - 1) / 2) / log(1 - k))). The standard deviation is that of the
whole residual, as the paper says; its code takes it after zeroing. All learned tensors are one
vector, in their order. alpha is best chosen on validation data, as the paper does.

Quotients, remainders and signs are three streams, so that decoding is a search for the zeros of the
first and no loop. Decoding gives the ternary residual exactly; its size has 32 bits, theirs 16.
"""

from __future__ import annotations

import dataclasses
import math
import struct
from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from wsl.params import Params, Shapes, ravel, unravel

_HEAD = struct.Struct("<QQBf")
"""Entries, entries kept, bits of a remainder, and the size of an entry."""


@dataclasses.dataclass(frozen=True)
class ComPEFT:
    """Keeps this share of the entries, as plus or minus ``alpha`` standard deviations.

    Raises ValueError unless 0 < density <= 1 and alpha is positive.
    """

    name: ClassVar[str] = "compeft"

    density: float = 0.05
    alpha: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.density <= 1 or not self.alpha > 0:
            raise ValueError(
                f"ComPEFT: density is {self.density} and alpha {self.alpha}; a density above 0 and "
                "at most 1 and a positive alpha are needed"
            )

    def encode(self, residual: Mapping[str, Tensor]) -> bytes:
        """The code of floating tensors."""
        vector = ravel({n: t.detach().float().cpu() for n, t in residual.items()}).numpy()
        count = max(1, round(self.density * len(vector)))
        kept = np.sort(np.argpartition(np.abs(vector), len(vector) - count)[-count:])
        kept = kept[vector[kept] != 0]
        size = self.alpha * float(vector.std(ddof=1)) if len(vector) > 1 else abs(float(vector[0]))
        low = golomb_bits(self.density)
        gaps = np.diff(kept, prepend=-1) - 1
        head = _HEAD.pack(len(vector), len(kept), low, size)
        parts = _unary(gaps >> low), _remainders(gaps, low), vector[kept] < 0
        return head + b"".join(np.packbits(part).tobytes() for part in parts)

    def decode(self, data: bytes, shapes: Shapes) -> Params:
        """The ternary residual of these shapes, float32.

        Raises ValueError for a code that is damaged or of other shapes.
        """
        if len(data) < _HEAD.size:
            raise ValueError(f"a code of {len(data)} bytes has no head; it is damaged")
        entries, wanted = _HEAD.unpack_from(data)[0], sum(map(math.prod, shapes.values()))
        if entries != wanted:
            raise ValueError(f"the code is of {entries} entries, but the shapes have {wanted}")
        return unravel(torch.from_numpy(_decoded(data)), shapes)


def golomb_bits(density: float) -> int:
    """Bits of a remainder that make the code of positions shortest, for a share of entries kept."""
    if density >= 1:
        return 0
    ratio = math.log((math.sqrt(5) - 1) / 2) / math.log1p(-density)
    return max(0, 1 + math.floor(math.log2(ratio)))


def expected_bits(density: float) -> float:
    """Bits for a weight, signs included, of entries kept at random places."""
    low = golomb_bits(density)
    return density * (1 + low + 1 / (1 - (1 - density) ** (2**low)))


def _unary(quotients: np.ndarray) -> np.ndarray:
    """Each number as so many ones and a zero."""
    bits = np.ones(int(quotients.sum()) + len(quotients), dtype=bool)
    bits[np.cumsum(quotients + 1) - 1] = False
    return bits


def _remainders(gaps: np.ndarray, low: int) -> np.ndarray:
    return ((gaps[:, None] >> np.arange(low)) & 1).astype(bool).ravel()


def _decoded(data: bytes) -> np.ndarray:
    """The vector of a code."""
    entries, count, low, size = _HEAD.unpack_from(data)
    bits = np.unpackbits(np.frombuffer(data, np.uint8, offset=_HEAD.size))
    zeros = np.flatnonzero(bits == 0)[:count]
    if len(zeros) < count or low > 63:
        raise ValueError("the code ends within its positions; it is damaged")
    quotients = np.diff(zeros, prepend=-1) - 1
    at = _bytes(int(zeros[-1]) + 1 if count else 0)
    rest = bits[at : at + count * low]
    signs = bits[at + _bytes(count * low) :][:count]
    if len(rest) < count * low or len(signs) < count:
        raise ValueError("the code ends within its signs; it is damaged")
    low_bits = rest.reshape(count, low).astype(np.int64) @ (1 << np.arange(low, dtype=np.int64))
    places = np.cumsum((quotients << low) + low_bits + 1) - 1
    if count and places[-1] >= entries:
        raise ValueError(f"the code has a place beyond its {entries} entries; it is damaged")
    vector = np.zeros(entries, dtype=np.float32)
    vector[places] = np.where(signs == 1, -size, size)
    return vector


def _bytes(bits: int) -> int:
    """Whole bytes that hold so many bits, in bits."""
    return -(-bits // 8) * 8
