"""Whether a path holds an adapter: told by a folder's configuration, or by the keys of a file."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError, safe_open

from wsl.merging.adapters.reading import CONFIG
from wsl.merging.adapters.styles import parsed


def is_adapter(path: str | Path) -> bool:
    """Whether it is a PEFT folder, or a safetensors file of whose keys all name adapters' parts.

    No weights are read. A network that carries adapters beside its own weights is no adapter.
    """
    place = Path(path)
    if place.is_dir():
        return (place / CONFIG).is_file()
    if place.suffix != ".safetensors" or not place.is_file():
        return False
    try:
        with safe_open(place, framework="pt") as file:
            keys = list(file.keys())
    except (OSError, SafetensorError):
        return False  # what reads the file says what is wrong with it
    return bool(keys) and all(map(_names_a_part, keys))


def _names_a_part(key: str) -> bool:
    try:
        return parsed(key) is not None
    except ValueError:  # an adapter of a kind that is not read, which the reader says
        return True
