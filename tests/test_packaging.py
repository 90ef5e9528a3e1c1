"""The built wheel, in an empty folder: only ``wsl`` becomes importable, and the recipes come
along.
"""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NAMED_OTHERWISE = {
    "PIL": "pillow",
    "hydra": "hydra-core",
    "lap": "lapx",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}
"""Modules whose package has another name."""
PARTS = ["pyproject.toml", "README.md", "LICENSE", "wsl", "datasets", "models"]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder with nothing but the unpacked wheel."""
    source, site = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("site")
    for part in PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(
                ROOT / part,
                source / part,
                symlinks=True,
                ignore=shutil.ignore_patterns("__pycache__"),
            )
        else:
            shutil.copy(ROOT / part, source / part)
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(source),
        str(source),
    ]
    subprocess.run(command, check=True, capture_output=True)
    with zipfile.ZipFile(next(source.glob("*.whl"))) as wheel:
        wheel.extractall(site)
    return site


def run(installed, tmp_path, *command):
    env = {**os.environ, "PYTHONPATH": str(installed), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *command],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )


def test_only_wsl_becomes_importable(installed):
    names = {path.name for path in installed.iterdir()}
    assert names == {"wsl", next(name for name in names if name.endswith(".dist-info"))}
    assert (installed / "wsl" / "py.typed").exists()


def test_recipes_are_found_and_nothing_is_named_datasets_or_models(installed, tmp_path):
    code = (
        "import wsl, importlib.util as u; from wsl.cli.config import recipes;"
        "print(wsl.__file__); print(recipes('datasets'), recipes('models'));"
        "print([u.find_spec(name) for name in ('datasets', 'models', 'tests', 'scripts')])"
    )
    done = run(installed, tmp_path, "-c", code)
    assert done.returncode == 0, done.stderr
    where, found, specs = done.stdout.splitlines()
    assert where.startswith(str(installed))
    assert "digits_cnn" in found
    assert "weight_diffusion" in found
    assert specs == "[None, None, None, None]"


def test_a_verb_works_from_the_wheel(installed, tmp_path):
    tiny = ["population.members=2", "population.steps=1", "population.snapshots=[1]"]
    done = run(installed, tmp_path, "-m", "wsl", "zoo", "build", "datasets=digits_inr", *tiny)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "runs" / "zoos" / "digits_inr.h5").exists()


def test_what_the_library_imports_is_what_it_asks_for():
    """No package comes by chance, as another's dependency, and none is asked for in vain."""
    imported = {module for file in (ROOT / "wsl").rglob("*.py") for module in modules_of(file)}
    imported -= {*sys.stdlib_module_names, "wsl"}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = {package_of(line) for line in project["dependencies"]}
    extras = project["optional-dependencies"]
    optional = {package_of(line) for extra in ("hub", "ray", "lap") for line in extras[extra]}
    assert {NAMED_OTHERWISE.get(m, m.replace("_", "-")) for m in imported} == asked | optional


def package_of(requirement):
    return re.match(r"[\w-]+", requirement)[0].replace("_", "-")


def modules_of(file):
    """The modules that are imported anywhere in a file, by their first names."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module.split(".")[0]
