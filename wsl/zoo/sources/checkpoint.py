"""The common form of every importer: an iterator of `Checkpoint`, `Refused` and `Skipped`.

    source(path) -> iterator of (member, epoch, state dict, metadata)

A file that is damaged or would run code does not end the iteration: it comes out as `Refused`, and
who asked decides. What is no checkpoint of its own, such as a hidden copy, comes out as `Skipped`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from wsl.params import Params
from wsl.zoo.file import RESERVED, ZooError


class Checkpoint(NamedTuple):
    """One state dict.

    ``metadata`` are plain values, ``origin`` says where it comes from in messages. ``notes``: what
    the file says of the whole zoo it was exported from. ``files``: what was read for it, relative
    to the source. ``remarks``: what has to be said of how it was read.
    """

    member: int
    epoch: int
    params: Params
    metadata: dict[str, Any]
    origin: str
    notes: Mapping[str, str] = {}
    files: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


class Refused(NamedTuple):
    """What could not be read, and why; ``files`` as those of `Checkpoint`."""

    origin: str
    reason: str
    files: tuple[str, ...] = ()


class Skipped(NamedTuple):
    """What was left out because it is no checkpoint of its own, and why; never an error."""

    origin: str
    reason: str
    files: tuple[str, ...] = ()


Source = Iterator[Checkpoint | Refused | Skipped]


def attempt(origin: str, read: Callable[[], Checkpoint], *files: str) -> Checkpoint | Refused:
    """What ``read`` makes of ``files``, or why it refused."""
    try:
        return read()._replace(files=files)
    except ZooError as error:
        return Refused(origin, str(error), files)


def sourced(about: Mapping[str, Any], root: Path, files: Sequence[str]) -> dict[str, Any]:
    """``about`` with the columns ``source``, the first of ``files`` below ``root``, and ``sha256``.

    The digest is that of the file. Of several, such as an index and its shards, it is that of the
    lines which sha256sum prints for them, in this order. A value that the file itself has under
    one of these names is called ``source_source`` or ``source_sha256``.
    """
    ours = {"source": files[0], "sha256": sha256(root, files)}
    told = {f"source_{name}" if name in ours else name: value for name, value in about.items()}
    return {**told, **ours}


def sha256(root: Path, files: Sequence[str]) -> str:
    """The SHA-256 of one of ``files`` below ``root``, or of the lines of several, as hexadecimals.

    Raises `ZooError` where one cannot be read.
    """
    if len(files) > 1:
        lines = "".join(f"{sha256(root, [name])}  {name}\n" for name in files)
        return hashlib.sha256(lines.encode()).hexdigest()
    try:
        with (root / files[0]).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ZooError(f"{root / files[0]}: cannot be read ({error.strerror})") from None


def natural(paths: Iterable[Path]) -> list[Path]:
    """Paths in the order that people expect: run2 before run10."""
    return sorted(
        paths,
        key=lambda path: [
            (int(part), "") if part.isdigit() else (-1, part)
            for part in re.split(r"(\d+)", str(path))
        ],
    )


def flatten(content: Any, prefix: str = "") -> dict[str, Any]:
    """Nested plain values under names joined by dots that a column may have.

    Lists and null as JSON text and NaN.
    """
    if isinstance(content, Mapping):
        found: dict[str, Any] = {}
        for key, value in content.items():
            found |= flatten(value, f"{prefix}.{key}" if prefix else str(key))
        return found
    name = _column_name(prefix)
    if isinstance(content, (bool, int, float, str)):
        return {name: content}
    return {} if content is None else {name: json.dumps(content, default=str)}


def _column_name(text: str) -> str:
    """``text`` as a name that a column may have."""
    name = re.sub(r"[^\w.\-]", "_", text, flags=re.ASCII)[:128]
    name = name if re.match("[A-Za-z_]", name) else f"_{name}"[:128]
    return f"source_{name}" if name in RESERVED else name


def value_of(text: str) -> int | float | bool | str:
    """The number or truth value that a cell of a table holds, or its text."""
    if text in ("True", "False"):
        return text == "True"
    if re.fullmatch(r"[+-]?\d{1,18}", text):
        return int(text)
    try:
        return float(text)
    except ValueError:
        return text
