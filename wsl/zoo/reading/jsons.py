"""JSON files beside weights: read whole, but never a huge one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from wsl.zoo.file import ZooError

_MOST = 64 << 20


def read_json(path: Path) -> Any:
    """Parse the JSON file ``path``; raises `ZooError`."""
    try:
        if path.stat().st_size > _MOST:
            raise ZooError(f"{path}: is larger than {_MOST} bytes; metadata are expected here")
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise ZooError(f"{path}: is not readable JSON ({error})") from None
