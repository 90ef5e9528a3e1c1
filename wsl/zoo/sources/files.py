"""Which files of a folder are checkpoints, and which are left out, each with its reason.

    a link to a folder            is followed, each real folder once
    a link to a file              is left out where the file itself is read: ``last.ckpt``
    a hidden file or folder       is left out: copies of editors, notebooks and macOS
    weights of another kind       are left out, told by their first bytes: ONNX, TorchScript, HDF5

Nothing is left out in silence: every file that looks like a checkpoint is read or named.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from wsl.zoo.reading import foreign, has_suffix, is_copy
from wsl.zoo.sources.checkpoint import Skipped, natural
from wsl.zoo.sources.flat_hdf5 import HDF5, told_hdf5

PLAIN = frozenset(
    {
        ".cfg",
        ".css",
        ".csv",
        ".gif",
        ".html",
        ".ini",
        ".ipynb",
        ".jpeg",
        ".jpg",
        ".js",
        ".json",
        ".jsonl",
        ".log",
        ".md",
        ".pdf",
        ".png",
        ".py",
        ".rst",
        ".sh",
        ".svg",
        ".toml",
        ".tsv",
        ".txt",
        ".xml",
        ".yaml",
        ".yml",
    }
)
"""Endings of files that hold no weights; they are not opened."""


def checkpoint_files(root: Path, found: Iterable[Path]) -> tuple[list[Path], list[Skipped]]:
    """Of the files ``found`` below ``root`` those called like checkpoints, and why others are not
    read.
    """
    ordered = natural(found)
    named = [file for file in ordered if has_suffix(file)]
    hidden = {file for file in named if is_copy(file, root)}
    seen = [file for file in named if file not in hidden]
    links = _links_to_others(seen)
    skipped = [
        *(skip(file, root, "is a hidden copy") for file in natural(hidden)),
        *(skip(file, root, f"is a link to {os.readlink(file)}, which is read") for file in links),
        *_other_kinds(root, (file for file in ordered if not has_suffix(file))),
    ]
    return [file for file in seen if file not in links], skipped


def _links_to_others(files: Sequence[Path]) -> list[Path]:
    """The links among ``files`` to one that is there itself."""
    real = {file.resolve() for file in files if not file.is_symlink()}
    return [file for file in files if file.is_symlink() and file.resolve() in real]


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


def skip(file: Path, root: Path, reason: str) -> Skipped:
    """``file`` below ``root`` is left out for this reason."""
    origin = file.relative_to(root).as_posix()
    return Skipped(origin, f"{origin}: {reason}")


def _other_kinds(root: Path, files: Iterable[Path]) -> Iterator[Skipped]:
    """Files that are not called checkpoints, and hold weights all the same."""
    for file in files:
        if file.suffix.lower() in PLAIN or is_copy(file, root) or not file.is_file():
            continue
        if file.suffix in HDF5:
            yield skip(file, root, told_hdf5(file))
        elif reason := foreign(file):
            yield skip(file, root, reason)
