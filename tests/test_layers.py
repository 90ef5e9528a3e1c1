"""The architecture: imports go to strictly lower layers, siblings never meet, third parties stay in their room."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "wsl"
LAYERS = {
    "params": 0,
    "symmetry": 1,
    **dict.fromkeys(["zoo", "nn", "matching", "metrics", "testing"], 2),
    **dict.fromkeys(["merging", "generative", "augment"], 3),
    **dict.fromkeys(["training", "plots"], 4),
    "cli": 5,
    "__main__": 6,
}
CONFINED = {
    "hydra": ["cli/"],
    "omegaconf": ["cli/"],
    "h5py": ["zoo/"],
    "scipy.optimize": ["matching/"],
    "torch_geometric": ["nn/graph.py"],
    "matplotlib": ["plots.py"],
    "lightning_fabric": ["training/"],
    "diffusers": ["generative/"],
    "sklearn": ["zoo/", "nn/"],
}
FILES = sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")


def room(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(path: Path) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: write absolute imports"
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_module_imports_only_from_lower_layers(path):
    mine = room(path)
    assert mine in LAYERS, f"{mine} has no layer; add it to DESIGN and to this table"
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "wsl" and parts[1:] and parts[1] in LAYERS and parts[1] != mine:
            assert LAYERS[parts[1]] < LAYERS[mine], f"{path} ({mine}) may not import {name}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_third_parties_stay_in_their_room(path):
    where = path.relative_to(ROOT).as_posix()
    for name in imports(path):
        for package, rooms in CONFINED.items():
            if name == package or name.startswith(package + "."):
                assert any(where.startswith(allowed) for allowed in rooms), f"{where} imports {name}, confined to {rooms}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_rooms_are_entered_by_their_door(path):
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "wsl" and parts[1:] and parts[1] in LAYERS and parts[1] != room(path) and parts[1] != "params":
            assert len(parts) <= 3, f"{path}: import {name} from the folder wsl.{parts[1]}, not from a file inside it"


def test_import_is_light():
    heavy = ["hydra", "torch_geometric", "h5py", "scipy.optimize", "matplotlib", "lightning_fabric", "diffusers", "sklearn"]
    code = f"import wsl, sys; sys.exit(' '.join(m for m in {heavy} if m in sys.modules) or None)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
