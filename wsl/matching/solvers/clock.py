"""Where the time of a matching goes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator


class Clock:
    """Seconds spent in what is timed, by its name."""

    def __init__(self) -> None:
        self.seconds = {"products": 0.0, "assignment": 0.0}

    @contextlib.contextmanager
    def timed(self, what: str) -> Iterator[None]:
        """Add the time of what is inside."""
        start = time.perf_counter()
        yield
        self.seconds[what] += time.perf_counter() - start
