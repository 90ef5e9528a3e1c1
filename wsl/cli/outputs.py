"""Where results go: checked before the work, written whole.

-o out.safetensors     one file; out.result.json and the like beside it
-o out/                a folder like the one that was read: weights, and B's configuration and
                       tokeniser beside them, so that it loads where B did
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wsl.cli.addresses import saved_by_package
from wsl.cli.results import write_with
from wsl.cli.targets import ConfigError
from wsl.params import Params
from wsl.zoo import write_checkpoint

_OTHERS = (".bin", ".pt", ".pth", ".ckpt", ".npz", ".msgpack", ".h5", ".onnx", ".gguf")
"""Endings of weights that are read, or known, and not written."""
_COPIED = 64 << 20
"""Files beside weights that are larger are no configuration."""


def check_output(output: str, *, folder: bool = False) -> Path:
    """The path of a result, once it is known that it can be written; ``folder`` if it may be one.

    Raises `ConfigError` for a place that cannot be written or a name that does not fit.
    """
    path = Path(output)
    if path.suffix.lower() in _OTHERS or not (folder or names_file(path)):
        raise ConfigError(
            f"-o {output}: checkpoints are written as .safetensors; change the suffix"
        )
    if names_file(path) and path.is_dir():
        raise ConfigError(f"-o {output}: is a folder")
    check_writable(path.parent if names_file(path) else path)
    return path


def names_file(path: Path) -> bool:
    """Whether a result is one file; any other name is a folder's, dots or not (``merged-v1.2``)."""
    return path.suffix == ".safetensors"


def check_elsewhere(path: Path, *inputs: str) -> None:
    """Raise `ConfigError` for a result that would overwrite what it is made of while it is read."""
    for text in inputs:
        if path.exists() and os.path.realpath(path) == os.path.realpath(text):
            raise ConfigError(f"-o {path}: is an input; files are read while the result is written")


def check_document(path: Path) -> None:
    """Raise `ConfigError` unless a document may be written to ``path``.

    What is there already must be one: a forgotten name after --json would cost a checkpoint.
    """
    check_writable(path.parent)
    if path.is_file():
        with path.open("rb") as file:
            if file.read(1) not in (b"{", b""):
                raise ConfigError(f"--json {path}: is there and holds no JSON; name another file")


def check_writable(folder: Path) -> None:
    """Raise `ConfigError` unless files can be made in ``folder``, which need not exist yet."""
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    if not place.is_dir():
        raise ConfigError(f"{folder}: {place} is a file, so nothing can be written there")
    if not os.access(place, os.W_OK | os.X_OK):
        raise ConfigError(f"{folder}: no permission to write in {place}")


def beside(path: Path, kind: str) -> Path:
    """Where a result's companion is written: ``out.result.json`` or ``out/wsl.result.json``.

    An ``element`` holds matrices and is a safetensors file.
    """
    name = f"{kind}.safetensors" if kind == "element" else f"{kind}.json"
    return path.with_suffix(f".{name}") if names_file(path) else path / f"wsl.{name}"


def write_result(
    path: Path,
    params: Params,
    about: Mapping[str, Any],
    *,
    like: str | None = None,
    address: str | None = None,
) -> None:
    """Write weights to ``path``; a folder gets what lies beside the weights in ``like`` as well.

    A transformers model at ``address`` writes a folder itself, under the names of its files.
    """
    text = as_text(about)
    if names_file(path):
        write_with(path, lambda temporary: write_checkpoint(temporary, params, text))
        return
    path.mkdir(parents=True, exist_ok=True)
    if like is not None and Path(like).is_dir():
        copy_companions(Path(like), path)
    if address is not None and saved_by_package(address, params, path):
        return
    target = path / "model.safetensors"
    write_with(
        target, lambda temporary: write_checkpoint(temporary, params, {**text, "format": "pt"})
    )


def as_text(about: Mapping[str, Any]) -> dict[str, str]:
    """Metadata as safetensors holds them: numbers and truth values as JSON, text as it is."""
    told = {
        str(name): value if isinstance(value, str) else json.dumps(value)
        for name, value in about.items()
        if isinstance(value, str | int | float | bool)
    }
    return {name: text for name, text in told.items() if name != "order"}


def copy_companions(source: Path, target: Path) -> None:
    """Copy what lies beside the weights in one folder to another: configuration, tokeniser."""
    for file in sorted(source.iterdir()):
        is_weights = file.suffix in (".safetensors", *_OTHERS) or file.name.endswith(".index.json")
        hidden = file.name.startswith((".", "wsl."))
        if file.is_file() and not is_weights and not hidden and file.stat().st_size < _COPIED:
            shutil.copyfile(file, target / file.name)
