"""Result files: written whole or not at all, without times or paths that differ between equal runs.

``result.json`` names the verb, the resolved configuration, the hashes of its inputs, the seed and
every number. A verb whose folder already holds the result of the same configuration and inputs has
nothing to do.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import wsl
from wsl.base import replacing, write_csv


def file_hash(path: str | Path) -> str:
    """SHA-256 of a file's content; of a folder, of its files' names and contents."""
    digest = hashlib.sha256()
    path = Path(path)
    inside = sorted(file for file in path.iterdir() if file.is_file()) if path.is_dir() else ()
    for file in inside:
        digest.update(f"{file.name}\0{file_hash(file)}\n".encode())
    if not path.is_dir():
        with path.open("rb", buffering=0) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    return digest.hexdigest()


def content_hash(value: Any) -> str:
    """SHA-256 of a JSON value, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def result(
    verb: str, config: Mapping[str, Any], inputs: Mapping[str, str | Path]
) -> dict[str, Any]:
    """The head of a result: what was asked for, on which inputs, by which version."""
    head = {
        "verb": verb,
        "wsl": wsl.__version__,
        "config": dict(config),
        "inputs": {
            name: {"file": Path(path).name, "sha256": file_hash(path)}
            for name, path in inputs.items()
        },
    }
    return {"hash": content_hash(head), **head}


def finished(folder: Path, head: Mapping[str, Any]) -> dict[str, Any] | None:
    """The result that ``folder`` already holds for this configuration and these inputs, if any."""
    try:
        done = json.loads((folder / "result.json").read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    return done if isinstance(done, dict) and done.get("hash") == head["hash"] else None


def write_json(path: Path, value: Any) -> None:
    """Write JSON, indented, atomically; a score that is not defined (NaN) becomes null."""
    write_text(path, json.dumps(_defined(value), indent=2, allow_nan=False) + "\n")


def write_table(path: Path, table: Mapping[str, Sequence[Any]]) -> None:
    """Write columns of equal length as CSV, atomically."""
    write_with(path, lambda temporary: write_csv(temporary, table))


def write_figure(path: Path, figure: Any) -> None:
    """Write a figure, atomically and without the writing program's version."""
    write_with(
        path, lambda temporary: figure.savefig(temporary, dpi=150, metadata={"Software": None})
    )


def write_text(path: Path, text: str) -> None:
    """Write a text file through a temporary name."""
    write_with(path, lambda temporary: temporary.write_text(text))


def write_with(path: Path, write: Callable[[Path], Any]) -> None:
    """Let ``write`` make a temporary file of the same ending, then put it in place in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, path.with_name(f".{os.getpid()}-{path.name}")) as temporary:
        write(temporary)


def _defined(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _defined(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_defined(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value
