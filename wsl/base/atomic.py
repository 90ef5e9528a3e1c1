"""A file appears whole or not at all: every writer of the library goes through here.

    write <temporary>;   fsync(temporary);   rename(temporary, path);   fsync(folder)

A process killed at any moment leaves either the old file or the new one under the final name.
`replacing` does not lock: of two writers of one path the last rename wins. `locked` is for writers
that must not meet.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

_MASK = os.umask(0)
"""What the system takes from the rights of new files. It can be read only by setting it, which is
done once, here: two threads that did so at a time could leave it at nothing."""
os.umask(_MASK)


@contextlib.contextmanager
def replacing(
    path: Path, temporary: Path | None = None, *, keep_suffix: bool = False
) -> Iterator[Path]:
    """Give a temporary path to write to, which becomes ``path`` if the body succeeds.

    The folder of ``path`` is made if it is missing. The temporary path is ``<path>.tmp``, which a
    process that was killed leaves and the next one writes over. With ``keep_suffix`` it is hidden,
    named after this process, and ends as ``path`` does, for writers that choose a format by the
    suffix. If the body fails it is removed, and an older ``path`` stays as it was.
    """
    if temporary is None:
        name = f".{os.getpid()}-{path.name}" if keep_suffix else path.name + ".tmp"
        temporary = path.with_name(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield temporary
        _grant(temporary, path)
        sync(temporary)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync(path.parent)


def _grant(temporary: Path, path: Path) -> None:
    """Give a new file the rights of the one it replaces, or those that the system gives new files.

    Some writers make theirs readable by one user only.
    """
    if not temporary.is_file():
        return
    temporary.chmod(path.stat().st_mode & 0o777 if path.is_file() else 0o666 & ~_MASK)


@contextlib.contextmanager
def explained(path: Path, kind: type[Exception] = ValueError) -> Iterator[None]:
    """Turn what the system says when ``path`` cannot be written into one sentence.

    An OSError of the body is raised again as an error of ``kind``.
    """
    try:
        yield
    except OSError as error:
        told = re.search("error message = '([^']*)'", str(error))  # in the midst of what HDF5 says
        reason = told[1] if told else error.strerror or " ".join(str(error).split())[:300]
        raise kind(
            f"{path}: cannot be written: {reason}; nothing that was there is lost. Free space or "
            "get permission, "
            "and run it again"
        ) from error


@contextlib.contextmanager
def locked(folder: Path, *, shared: bool = False) -> Iterator[None]:
    """Hold ``folder``, made if missing, alone or together with other ``shared`` holders.

    Waits until that is possible. The system lets go of it when the process ends, however it ends.
    Where the file system knows no locks, there is none.
    """
    while True:
        descriptor = _opened(folder)
        if descriptor is None:
            continue
        try:
            with _unsupported_is_fine():
                fcntl.flock(descriptor, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
            # while this process waited, another may have moved the folder away: try again then
            if _has_name(descriptor, folder):
                yield
                return
        finally:
            os.close(descriptor)


def _opened(folder: Path) -> int | None:
    """The folder, made if missing; None where another process took it away in that moment."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return os.open(folder, os.O_RDONLY)
    except FileNotFoundError:
        return None
    except FileExistsError:
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISDIR(folder.lstat().st_mode):
                raise
        return None


def _has_name(descriptor: int, folder: Path) -> bool:
    """Whether the open folder still has the name ``folder``."""
    try:
        return os.path.samestat(folder.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def _unsupported_is_fine() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS):
            raise


def sync(path: Path) -> None:
    """Force a file's content, or a folder's list of names, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
