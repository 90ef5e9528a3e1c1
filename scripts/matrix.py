"""The tests on every Python there is, and on the oldest torch that is promised.

    python scripts/matrix.py [--list] [--folder DIR] [-- PYTEST ARGUMENTS]

Looks for the versions below on PATH and among pyenv's, makes a virtual environment for each,
installs the package with the versions of constraints.txt, and runs the tests with two workers. The
oldest torch that pyproject.toml promises is tried on the oldest Python, without the constraints
that it contradicts. One line for each; everything else is in DIR/NAME.log. Exit code 1 if one
fails. Environments that are there are used again.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
VERSIONS = ("3.11", "3.12", "3.13")
TIED = ("torch", "sympy", "setuptools")
"""Pinned to what the pinned torch needs; an older torch needs others."""


@dataclass(frozen=True)
class Cell:
    """One environment: a name, its interpreter, and the torch to install, None for the pinned."""

    name: str
    python: Path
    torch: str | None = None


def interpreter(version: str) -> Path | None:
    """A Python of this version that runs: a shim of pyenv may stand on PATH without one."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    named = shutil.which(f"python{version}")
    installed = sorted(pyenv.glob(f"{version}.*/bin/python"), key=lambda p: natural(str(p)))
    for path in [*([Path(named)] if named else []), *reversed(installed)]:
        code = "import sys, venv, ensurepip; print('%d.%d' % sys.version_info[:2])"
        done = subprocess.run([path, "-c", code], capture_output=True, text=True, check=False)
        if done.stdout.strip() == version:
            return path
    return None


def natural(text: str) -> list:
    """Numbers in a text count as numbers: 3.11.10 comes after 3.11.9."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", text)]


def cells() -> list[Cell]:
    """What there is to run: each Python found, and the oldest with the oldest torch."""
    found = {version: path for version in VERSIONS if (path := interpreter(version))}
    oldest = re.search(r'"torch>=([\d.]+)"', (ROOT / "pyproject.toml").read_text())[1]
    made = [Cell(f"python{version}", path) for version, path in found.items()]
    if VERSIONS[0] in found:
        made.append(Cell(f"python{VERSIONS[0]}-torch{oldest}", found[VERSIONS[0]], oldest))
    return made


def constraints(cell: Cell, folder: Path) -> Path:
    """The pinned versions, without those that an older torch contradicts."""
    lines = (ROOT / "constraints.txt").read_text().splitlines(keepends=True)
    dropped = TIED if cell.torch else ()
    path = folder / f"{cell.name}.txt"
    path.write_text("".join(line for line in lines if line.split("==")[0] not in dropped))
    return path


def commands(cell: Cell, folder: Path, arguments: list[str]) -> dict[str, list[str]]:
    """What to run one after another, by the step's name."""
    venv = folder / cell.name
    python, pinned = str(venv / "bin" / "python"), str(constraints(cell, folder))
    install = [python, "-m", "pip", "install", "--quiet", "--constraint", pinned]
    torch = f"torch=={cell.torch}.*" if cell.torch else "torch"
    tests = [python, "-m", "pytest", "-n", "2", "--dist", "loadfile", *arguments]
    return {
        "venv": [str(cell.python), "-m", "venv", str(venv)],
        "torch": [*install, torch],
        "install": [*install, torch, "--editable", f"{ROOT}[dev]"],
        "tests": tests,
    }


def run(cell: Cell, folder: Path, arguments: list[str]) -> tuple[bool, str]:
    """Whether everything passed, and the line that says so."""
    log, start = folder / f"{cell.name}.log", time.monotonic()
    with log.open("w") as file:
        for step, command in commands(cell, folder, arguments).items():  # noqa: B007 - told below
            done = subprocess.run(command, cwd=ROOT, stdout=file, stderr=file, check=False)
            if done.returncode:
                break
    last = log.read_text().strip().splitlines()[-1:] or ["nothing was said"]
    passed = done.returncode == 0
    seconds = time.monotonic() - start
    verdict = last[0].strip("= ") if passed else f"FAILED at {step}: {last[0].strip('= ')}"
    return passed, f"{cell.name}: {verdict} ({seconds:.0f} s, {log})"


def main() -> int:
    """Run all cells; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--list", action="store_true", help="say what there is, and run nothing")
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "matrix")
    parser.add_argument("arguments", nargs="*", help="for pytest, after --")
    options = parser.parse_args()
    found = cells()
    for version in VERSIONS:
        if not any(cell.name == f"python{version}" for cell in found):
            print(f"python{version}: not found, not tried")
    if options.list:
        for cell in found:
            print(f"{cell.name}: {cell.python}, torch {cell.torch or 'as pinned'}")
        return 0 if found else 1
    options.folder.mkdir(parents=True, exist_ok=True)
    good = bool(found)
    for cell in found:
        passed, line = run(cell, options.folder, options.arguments)
        print(line, flush=True)
        good &= passed
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
