"""``wsl env``: versions, devices and threads, to paste into a report of a problem."""

from __future__ import annotations

import argparse
import os
import platform
import shutil
from collections.abc import Sequence
from importlib import metadata
from typing import Any

import torch

import wsl
from wsl.cli.parsers import verb_parser
from wsl.cli.terminal import answer, say

NEEDED = (
    *("torch", "numpy", "scipy", "h5py", "einops", "hydra-core", "torch-geometric", "safetensors"),
    *("scikit-learn", "tqdm", "matplotlib", "lightning-fabric", "diffusers"),
)
OPTIONAL = (
    *("transformers", "timm", "torchvision", "peft", "mergekit"),
    *("huggingface_hub", "ray", "lapx"),
)


def run(arguments: Sequence[str]) -> None:
    """Print what this installation is made of; nothing of it names a user or a path."""
    _parser().parse_args(arguments)
    found = environment()
    answer(found)
    for head, lines in found.items():
        if not isinstance(lines, dict):
            say(f"{head:<18} {lines}")
    for head in ("packages", "optional"):
        say(f"\n{head}")
        for name, version in found[head].items():
            say(f"  {name:<16} {version or '-'}")


def environment() -> dict[str, Any]:
    """Versions and devices; of packages that are not installed, None."""
    return {
        "wsl": wsl.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processors": os.cpu_count(),
        "threads of torch": torch.get_num_threads(),
        "devices": ", ".join(_devices()),
        "compiler": next((c for c in ("g++", "clang++", "cl") if shutil.which(c)), "none"),
        "packages": {name: _version(name) for name in NEEDED},
        "optional": {name: _version(name) for name in OPTIONAL},
    }


def _devices() -> list[str]:
    cuda = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return ["cpu", *cuda, *(["mps"] if torch.backends.mps.is_available() else [])]


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _parser() -> argparse.ArgumentParser:
    return verb_parser("env", "Versions and devices, for reports of problems.")
