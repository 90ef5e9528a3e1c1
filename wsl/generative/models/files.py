"""The file of a generator: one safetensors file with all tensors and one entry of metadata.

All metadata is one entry, since the format keeps several in an order that changes from run to run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from wsl.base import explained, replacing

VERSION = 1


def write_whole(
    generator: Any, tensors: Mapping[str, Tensor], path: str | Path, *, config: Mapping[str, Any]
) -> None:
    """Write a generator's ``tensors``, its specification and the ``config`` that rebuilds it.

    The file appears whole or not at all, its folder too if it is missing. Raises ValueError where
    it cannot be written.
    """
    about = {
        "format": f"wsl.{type(generator).__name__}",
        "version": VERSION,
        "spec": str(generator.spec),
        "config": config,
    }
    whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
    with explained(Path(path)), replacing(Path(path)) as temporary:
        try:
            safetensors.torch.save_file(whole, temporary, {"wsl": json.dumps(about)})
        except safetensors.SafetensorError as error:
            raise OSError(str(error)) from None


def read_about(path: str | Path, kind: str) -> dict[str, Any]:
    """The metadata of a file; raises ValueError unless it is a generator of class ``kind``."""
    try:
        with safetensors.safe_open(path, "pt") as file:
            about: dict[str, Any] = json.loads((file.metadata() or {}).get("wsl", "{}"))
    except FileNotFoundError:
        raise
    except (OSError, ValueError, safetensors.SafetensorError) as error:
        raise ValueError(
            f"{path}: not a saved {kind}: it is no safetensors file, or was cut short ({error}); "
            f"write one with {kind}.save"
        ) from None
    if (about.get("format"), about.get("version")) != (f"wsl.{kind}", VERSION):
        raise ValueError(
            f"{path}: not a saved {kind} of version {VERSION} (format {about.get('format')!r}, "
            f"version {about.get('version')!r}); write one with {kind}.save"
        )
    return about
