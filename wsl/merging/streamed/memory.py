"""Memory that is given back and asked for again all the time, as parts of tensors are.

The C library gives large pieces back to the system, which clears every page before it hands it out
anew: a third of the processor time of a streamed average. Told to keep them, it does not.
"""

from __future__ import annotations

import ctypes
import sys

_TRIM, _MMAP = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
_KEPT, _SMALL = 128 << 20, 16 << 20
"""Bytes that may be free and not given back; bytes from which a piece is the system's own."""


def keep_freed_memory() -> None:
    """For the rest of this process, on Linux with glibc; elsewhere nothing happens."""
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_TRIM, _KEPT)
        mallopt(_MMAP, _SMALL)
