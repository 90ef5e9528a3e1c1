"""The name under which zoo files and recipes know `wsl.populations.architectures`."""

from __future__ import annotations

import importlib
from typing import Any


def __getattr__(name: str) -> Any:
    return getattr(importlib.import_module("wsl.populations.architectures"), name)
