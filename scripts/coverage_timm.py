"""timm for `symmetry_coverage.py`: the smallest network of every family; run alone, it searches for
them.

    python scripts/coverage_timm.py        # writes coverage_timm.txt beside itself

A family is a module of timm, ``timm.list_modules()``. Its smallest member has the fewest
parameters, counted on the meta device or, where a constructor needs numbers, on the CPU; timm's own
test networks (``test_*``) are left out. The choice is kept in a text file, with timm's version in
its first line and the least side of the image that the network takes, so that a run need not search
again.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch
from coverage_networks import CLASSES, Build, Built, images, timm
from torch import nn

CHOICE = Path(__file__).with_suffix(".txt")
SIDES = (64, 96, 128, 160, 192, 224, 256, 384)


def networks() -> Iterator[tuple[str, Build]]:
    """The smallest network of each family, as family/name, in the order of their parameters."""
    version, *lines = CHOICE.read_text().splitlines()
    if version != f"timm {timm().__version__}":
        raise SystemExit(
            f"{CHOICE.name} was made with {version}; run `python scripts/coverage_timm.py` to "
            "choose again"
        )
    for family, name, _, side, own in sorted(map(str.split, lines), key=lambda line: int(line[2])):
        yield f"{family}/{name}", partial(_built, name, int(side), own == "built")


def _built(name: str, side: int, own: bool) -> Built:
    return make(name, **({"img_size": side} if own else {})), images(3, side, side), {}


def make(name: str, **options: int) -> nn.Module:
    """A network with random weights."""
    return timm().create_model(name, num_classes=CLASSES, **options)


def search() -> Iterator[str]:
    """Family, name, number of parameters, least side, and whether the network must be built for
    that side.
    """
    for family in timm().list_modules():
        names = [name for name in timm().list_models(module=family) if not name.startswith("test_")]
        count, name = min((parameters(name), name) for name in names)
        yield f"{family} {name} {count} {smallest(name)}"


def parameters(name: str) -> int:
    """Number of parameters."""
    try:
        with torch.device("meta"):
            model = make(name)
    except (RuntimeError, NotImplementedError):
        model = make(name)
    return sum(p.numel() for p in model.parameters())


@torch.no_grad()
def smallest(name: str) -> str:
    """The least side at which the network runs, ``built`` for it or for ``any``."""
    for side in SIDES:
        for own in (True, False):
            try:
                model, inputs, _ = _built(name, side, own)
                model.eval()(*inputs)
            except Exception:  # noqa: BLE001 - a size that does not fit fails in many ways
                continue
            return f"{side} {'built' if own else 'any'}"
    return f"{SIDES[-1]} any"


if __name__ == "__main__":
    CHOICE.write_text("\n".join([f"timm {timm().__version__}", *search()]) + "\n")
