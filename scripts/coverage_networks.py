"""The networks of `symmetry_coverage.py`, by collection. Every builder returns a network, its inputs and its keyword arguments.

torchvision and timm are imported for their model definitions only; their compiled operators are declared, and stay unusable.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

Build = Callable[[], tuple[nn.Module, tuple[Any, ...], dict[str, Any]]]
SIZES = {"inception_v3": 96, "googlenet": 64, "vit_l_16": 32}


def torchvision_networks() -> Iterator[tuple[str, Build]]:
    """Every classification network."""
    models = torchvision().models
    for name in models.list_models(module=models):
        yield name, partial(_torchvision, name)


def _torchvision(name: str) -> tuple[nn.Module, tuple[Any, ...], dict[str, Any]]:
    extra = {"image_size": 32 if not name.endswith("14") else 28} if name.startswith("vit") else {}
    extra |= {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    model = torchvision().models.get_model(name, num_classes=13, **extra)
    size = extra.get("image_size", SIZES.get(name, 224 if name.startswith("maxvit") else 64))
    return model, (torch.randn(2, 3, size, size),), {}


def torchvision() -> Any:
    """torchvision beside a build of torch that cannot load its operators: they are declared first."""
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.submodule_search_locations is None:
        raise SystemExit("torchvision is missing; see scripts/README.md for the packages that this script needs")
    source = (Path(spec.submodule_search_locations[0]) / "_meta_registrations.py").read_text()
    for name in sorted({*re.findall(r'register_meta\("([a-z_0-9]+)"\)', source), "nms", "qnms"}):
        if not hasattr(torch.ops.torchvision, name):
            _LIBRARY.define(f"{name}(Tensor a, *, int b=0) -> Tensor")
    import torchvision as package

    return package


_LIBRARY = torch.library.Library("torchvision", "FRAGMENT")

SUITES: dict[str, Callable[[], Iterator[tuple[str, Build]]]] = {
    "torchvision": torchvision_networks,
}
