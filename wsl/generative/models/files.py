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

VERSION = 1


def write_whole(
    generator: Any, tensors: Mapping[str, Tensor], path: str | Path, *, config: Mapping[str, Any]
) -> None:
    """Write a generator's ``tensors``, its specification and the ``config`` that rebuilds it."""
    about = {
        "format": f"wsl.{type(generator).__name__}",
        "version": VERSION,
        "spec": str(generator.spec),
        "config": config,
    }
    whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
    safetensors.torch.save_file(whole, path, {"wsl": json.dumps(about)})


def read_about(path: str | Path, kind: str) -> dict[str, Any]:
    """The metadata of a file; raises ValueError unless it is a generator of class ``kind``."""
    with safetensors.safe_open(path, "pt") as file:
        about: dict[str, Any] = json.loads((file.metadata() or {}).get("wsl", "{}"))
    if (about.get("format"), about.get("version")) != (f"wsl.{kind}", VERSION):
        raise ValueError(
            f"{path}: not a saved {kind} of version {VERSION} (format {about.get('format')!r}, "
            f"version {about.get('version')!r}); write one with {kind}.save"
        )
    return about
