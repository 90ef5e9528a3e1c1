"""Write every public name of the library to tests/data/public_names.txt, when a release is made.

python scripts/public_names.py
"""

import importlib
from pathlib import Path
from types import ModuleType

FILE = Path(__file__).parent.parent / "tests" / "data" / "public_names.txt"


def doors(door: str = "wsl") -> list[str]:
    """A door, and the rooms that it exports, to any depth."""
    room = importlib.import_module(door)
    found = [door]
    for name in getattr(room, "__all__", ()):
        inner = getattr(room, name)
        if isinstance(inner, ModuleType) and inner.__name__ == f"{door}.{name}":
            found += doors(inner.__name__)
    return found


if __name__ == "__main__":
    names = [
        f"{door} {name}"
        for door in sorted(doors())
        for name in sorted(getattr(importlib.import_module(door), "__all__", ()))
    ]
    FILE.write_text("\n".join(names) + "\n")
    print(f"{FILE}: {len(names)} names")
