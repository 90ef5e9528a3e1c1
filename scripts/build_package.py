"""Build the source archive and the wheel, twice, and compare: equal bytes or exit code 1.

    python scripts/build_package.py [-o dist]

The wheel is built from the source archive, so that what is released is what can be built again.
Times are those of the last commit (or SOURCE_DATE_EPOCH), since an archive holds the time of every
file. Needs git and setuptools, nothing from a network.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
BUILD = "import setuptools.build_meta as b, sys; print(getattr(b, sys.argv[1])(sys.argv[2]))"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "dist")
    out = parser.parse_args().output
    epoch = os.environ.get("SOURCE_DATE_EPOCH") or git("log", "-1", "--format=%ct")
    builds = []
    for _ in range(2):
        with tempfile.TemporaryDirectory() as folder:
            builds.append(built(Path(folder), int(epoch)))
    for name, content in builds[0].items():
        same = content == builds[1].get(name)
        print(
            f"{name}: {len(content)} bytes, {hashlib.sha256(content).hexdigest()}"
            f"{'' if same else ', DIFFERENT when built again'}"
        )
    if builds[0] != builds[1]:
        return 1
    out.mkdir(parents=True, exist_ok=True)
    for name, content in builds[0].items():
        (out / name).write_bytes(content)
    return 0


def git(*words: str) -> str:
    return subprocess.run(
        ["git", *words], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.strip()


def built(folder: Path, epoch: int) -> dict[str, bytes]:
    """The source archive of the last commit, and the wheel that it gives."""
    source, archives = folder / "source", folder / "archives"
    source.mkdir()
    archive = subprocess.run(["git", "archive", "HEAD"], cwd=ROOT, check=True, capture_output=True)
    extract(io.BytesIO(archive.stdout), source)
    sdist = archives / backend("build_sdist", source, archives, epoch)
    content = normalised(sdist, epoch)
    again = folder / "again"
    again.mkdir()
    extract(io.BytesIO(gzip.decompress(content)), again)
    wheel = archives / backend("build_wheel", next(again.iterdir()), archives, epoch)
    return {sdist.name: content, wheel.name: wheel.read_bytes()}


def extract(file: io.BytesIO, folder: Path) -> None:
    with tarfile.open(fileobj=file) as tar:
        tar.extractall(folder, filter="tar")


def backend(what: str, source: Path, out: Path, epoch: int) -> str:
    """Build in ``source``; the name of the file that is then in ``out``."""
    env = {**os.environ, "SOURCE_DATE_EPOCH": str(epoch)}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", BUILD, what, str(out)],
        cwd=source,
        env=env,
        check=True,
        capture_output=True,
        text=True,
    )
    shutil.rmtree(source / "build", ignore_errors=True)
    return done.stdout.strip().splitlines()[-1]


def normalised(path: Path, epoch: int) -> bytes:
    """A source archive with its files in order, of one time and of no user."""
    made = io.BytesIO()
    with tarfile.open(path) as given, tarfile.open(fileobj=made, mode="w") as tar:
        for member in sorted(given.getmembers(), key=lambda each: each.name):
            file = given.extractfile(member) if member.isfile() else None
            member.mtime, member.uid, member.gid = epoch, 0, 0
            member.uname = member.gname = ""
            member.pax_headers = {}
            tar.addfile(member, file)
    return gzip.compress(made.getvalue(), mtime=epoch)


if __name__ == "__main__":
    sys.exit(main())
