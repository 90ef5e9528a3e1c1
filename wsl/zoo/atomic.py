"""A file appears whole or not at all: write under a temporary name, force to disk, rename, force the folder to disk.

A process killed at any moment leaves either the old file or the new one under the final name. It does not lock: of two
writers of one path the last rename wins.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(path: Path, temporary: Path | None = None) -> Iterator[Path]:
    """Give the temporary path (default ``<path>.tmp``) to write to; it becomes ``path`` if the body succeeds, else it goes."""
    temporary = temporary or path.with_name(path.name + ".tmp")
    try:
        yield temporary
        sync(temporary)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync(path.parent)


def sync(path: Path) -> None:
    """Force a file's content, or a folder's list of names, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
