"""What the command line says: results on stdout, progress and errors on stderr.

    --quiet      nothing but errors
    --verbose    more on stderr: what a run took
    --json       one document on stdout, and everything else on stderr

A verb says its results in words and gives the same as a document (`answer`); which of the two is
shown is decided here.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tqdm import tqdm


@dataclasses.dataclass
class Manner:
    """How a verb speaks, and the document that it has given so far."""

    quiet: bool = False
    verbose: bool = False
    json: bool = False
    document: dict[str, Any] = dataclasses.field(default_factory=dict)


_manner = Manner()


@contextlib.contextmanager
def speaking(manner: Manner) -> Iterator[Manner]:
    """Everything inside is said in this manner."""
    global _manner
    before, _manner = _manner, manner
    try:
        yield manner
    finally:
        _manner = before


def say(text: str, *, error: bool = False) -> None:
    """Write a line."""
    if error or not _manner.quiet:
        (sys.stderr if error or _manner.json else sys.stdout).write(text + "\n")


def detail(text: str) -> None:
    """Write a line on stderr if more is asked for."""
    if _manner.verbose:
        sys.stderr.write(text + "\n")


def answer(document: Mapping[str, Any]) -> None:
    """Give the result as a document: its keys join what the verb has given before."""
    _manner.document.update(document)


def wanted() -> bool:
    """Whether a document is asked for: some cost time that nobody else needs to spend."""
    return _manner.json


def write_document(document: Mapping[str, Any]) -> None:
    """Write one JSON document to stdout; what JSON does not know is written as text."""
    sys.stdout.write(json.dumps(document, indent=2, default=str) + "\n")


def shown(path: Path) -> str:
    """A path as people see it: from the current folder, if it lies below."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def numbers(scores: Mapping[str, float | None]) -> str:
    """Scores on one line; one that is not defined says so."""
    return ", ".join(
        f"{name} {'undefined' if value is None else f'{value:.4f}'}"
        for name, value in scores.items()
    )


def bar(**options: Any) -> tqdm:
    """A bar on stderr, if stderr is a terminal, for what takes more than two seconds."""
    from tqdm import tqdm

    return tqdm(disable=True if _manner.quiet else None, delay=2, **options)


def progress(unit: str) -> Callable[[int, int], None]:
    """A callback ``(done, total)`` that draws one bar."""
    drawn: list[tqdm] = []

    def show(done: int, total: int) -> None:
        if not drawn:
            drawn.append(bar(total=total, unit=unit))
        drawn[0].update(done - drawn[0].n)
        if done >= total:
            drawn[0].close()

    return show
