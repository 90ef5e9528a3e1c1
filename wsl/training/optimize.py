"""The first name of `wsl.learned_optimizers`, from before they had a room of their own."""

from __future__ import annotations

import importlib
from typing import Any


def __getattr__(name: str) -> Any:
    return getattr(importlib.import_module("wsl.learned_optimizers"), name)
