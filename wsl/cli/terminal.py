"""What the command line says: results on stdout, progress and errors on stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tqdm import tqdm


def say(text: str, *, error: bool = False) -> None:
    """Write a line."""
    (sys.stderr if error else sys.stdout).write(text + "\n")


def numbers(scores: Mapping[str, float | None]) -> str:
    """Scores on one line; one that is not defined says so."""
    return ", ".join(
        f"{name} {'undefined' if value is None else f'{value:.4f}'}"
        for name, value in scores.items()
    )


def progress(unit: str) -> Callable[[int, int], None]:
    """A callback ``(done, total)`` that draws one bar on stderr, if stderr is a terminal."""
    from tqdm import tqdm

    bar: list[tqdm] = []

    def show(done: int, total: int) -> None:
        if not bar:
            bar.append(tqdm(total=total, unit=unit, disable=None))
        bar[0].update(done - bar[0].n)
        if done >= total:
            bar[0].close()

    return show
