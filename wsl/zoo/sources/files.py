"""Which files of a folder are checkpoints, and which are left out, each with its reason.

    a link to a folder            is followed, each real folder once
    a link to a file              is left out where the file itself is read: ``last.ckpt``
    a hidden file or folder       is left out: copies of editors, notebooks and macOS

Nothing is left out in silence: every file that looks like a checkpoint is read or named.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from wsl.zoo.sources.checkpoint import Skipped, natural


def checkpoint_files(root: Path, endings: Sequence[str]) -> tuple[list[Path], list[Skipped]]:
    """Files below ``root`` that end in one of ``endings``, and what of them is not read."""
    found = [file for file in walk(root) if file.name.endswith(tuple(endings))]
    hidden = {file for file in found if is_hidden(file, root)}
    seen = natural(file for file in found if file not in hidden)
    real = {file.resolve() for file in seen if not file.is_symlink()}
    links = [file for file in seen if file.is_symlink() and file.resolve() in real]
    skipped = [
        *(_skipped(file, root, "is a hidden copy") for file in natural(hidden)),
        *(
            _skipped(file, root, f"is a link to {os.readlink(file)}, which is read")
            for file in links
        ),
    ]
    return [file for file in seen if file not in links], skipped


def walk(root: Path) -> Iterator[Path]:
    """Every file below ``root``; links to folders are followed, each real folder once."""
    entered = set()
    for folder, folders, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in entered:  # a link in a circle, or the second to one folder
            folders.clear()
            continue
        entered.add(real)
        # real folders before links to them, so that a file keeps its own path
        folders.sort(key=lambda name, at=folder: (os.path.islink(os.path.join(at, name)), name))
        yield from (Path(folder, name) for name in files)


def is_hidden(file: Path, root: Path) -> bool:
    """Whether the file, or a folder between ``root`` and it, begins with a point."""
    return any(part.startswith(".") for part in file.relative_to(root).parts)


def _skipped(file: Path, root: Path, reason: str) -> Skipped:
    origin = file.relative_to(root).as_posix()
    return Skipped(origin, f"{origin}: {reason}")
