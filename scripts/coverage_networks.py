"""The collections that `symmetry_coverage.py` can run, and what they share.

Each collection is a function that yields names and builders, ``networks()`` of its module; a
builder returns a network, its inputs and its keyword arguments. A module imports its package when
it is asked for networks, not before: to have a collection in the table is no reason to install it.
torchvision and timm are imported for their model definitions only.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

Built = tuple[nn.Module, tuple[Any, ...], dict[str, Any]]
Build = Callable[[], Built]

CLASSES = 13
SUITES = {
    "torchvision": "coverage_torchvision",
    "timm": "coverage_timm",
    "transformers": "coverage_transformers",
    "geometric": "coverage_foreign:geometric",
    "peft": "coverage_foreign:peft",
    "zuko": "coverage_foreign:zuko",
    "operators": "coverage_foreign:operators",
}
"""Collections by the module that holds them, with the function there if it is not ``networks``."""


def networks(suite: str) -> Iterator[tuple[str, Build]]:
    """Names and builders of one collection."""
    module, _, function = SUITES[suite].partition(":")
    return getattr(importlib.import_module(module), function or "networks")()


def images(*shape: int) -> tuple[torch.Tensor]:
    """A batch of two random inputs."""
    return (torch.randn(2, *shape),)


def torchvision() -> Any:
    """torchvision beside a build of torch that cannot load its compiled operators: they are
    declared, and stay unusable.
    """
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.submodule_search_locations is None:
        raise SystemExit(
            "torchvision is missing; see scripts/README.md for the packages that this script needs"
        )
    source = (Path(spec.submodule_search_locations[0]) / "_meta_registrations.py").read_text()
    for name in sorted({*re.findall(r'register_meta\("([a-z_0-9]+)"\)', source), "nms", "qnms"}):
        if not hasattr(torch.ops.torchvision, name):
            _LIBRARY.define(f"{name}(Tensor a, *, int b=0) -> Tensor")
    return importlib.import_module("torchvision")


def timm() -> Any:
    """timm, which imports torchvision."""
    torchvision()
    if importlib.util.find_spec("timm") is None:
        raise SystemExit(
            "timm is missing; see scripts/README.md for the packages that this script needs"
        )
    return importlib.import_module("timm")


_LIBRARY = torch.library.Library("torchvision", "FRAGMENT")
