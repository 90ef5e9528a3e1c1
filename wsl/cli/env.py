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
    *("torch", "numpy", "scipy", "h5py", "pyyaml", "einops", "hydra-core", "omegaconf"),
    *("torch-geometric", "safetensors", "scikit-learn", "networkx", "pillow", "tqdm"),
    *("matplotlib", "plotly", "lightning-fabric", "diffusers"),
)
EXTRAS = {
    "hub": ("huggingface_hub",),
    "ray": ("ray",),
    "lap": ("lapx",),
    "bench": ("nfn",),
    "docs": ("mkdocs-material", "mkdocstrings", "markdown-exec"),
    "dev": ("pytest", "pytest-xdist", "ruff", "pyright", "setuptools"),
}
"""What ``pip install 'weight-space-learning[EXTRA]'`` adds."""
COLLECTIONS = ("transformers", "timm", "torchvision", "peft", "mergekit")
"""What networks and files may come from; no extra of this package brings them."""


def run(arguments: Sequence[str]) -> None:
    """Print what this installation is made of; nothing of it names a user or a path."""
    _parser().parse_args(arguments)
    found = environment()
    answer(found)
    for head, lines in found.items():
        if not isinstance(lines, dict):
            say(f"{head:<18} {lines}")
    for head in ("packages", "collections"):
        say(f"\n{head}")
        for name, version in found[head].items():
            say(f"  {name:<16} {version or '-'}")
    say("\nextras")
    for extra, packages in found["extras"].items():
        lines = ", ".join(f"{name} {version or '-'}" for name, version in packages.items())
        say(f"  {extra:<16} {lines}")


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
        # its own word says whether it was built for CUDA, which the index's version may not
        "packages": {name: _version(name) for name in NEEDED} | {"torch": torch.__version__},
        "collections": {name: _version(name) for name in COLLECTIONS},
        "extras": {
            extra: {name: _version(name) for name in names} for extra, names in EXTRAS.items()
        },
    }


def _devices() -> list[str]:
    cuda = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    xpu = [torch.xpu.get_device_name(i) for i in range(torch.xpu.device_count())]
    return ["cpu", *cuda, *xpu, *(["mps"] if torch.backends.mps.is_available() else [])]


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _parser() -> argparse.ArgumentParser:
    return verb_parser("env", "Versions and devices, for reports of problems.")
