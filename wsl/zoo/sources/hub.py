"""A snapshot folder of the Hugging Face hub, or of its Trainer: every folder with weights in it is
one checkpoint.

    model.safetensors | model.safetensors.index.json + shards | pytorch_model.bin |
    pytorch_model.bin.index.json + shards

Shards are put together by their index. ``checkpoint-500/`` is epoch 500 of the folder it lies in;
the plain values of ``config.json`` and of a checkpoint's ``trainer_state.json`` become columns.
Files are read, links within the snapshot followed; nothing is fetched, and no Python file in it is
looked at.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from wsl.zoo.file import ZooError
from wsl.zoo.reading import read_checkpoint
from wsl.zoo.sources.checkpoint import Checkpoint, Source, attempt, flatten, natural, read_json

NAMES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
"""Files with weights, the preferred first."""
_STEP = re.compile(r"checkpoint-(\d{1,9})\Z")
_ABOUT = {"config.json": "config", "trainer_state.json": "trainer"}


def hub(path: str | Path) -> Source:
    """The checkpoints in ``path`` and below; folders that differ only in ``checkpoint-N`` are one
    member.
    """
    root = Path(path)
    folders = natural({file.parent for name in NAMES for file in root.rglob(name)})
    if not folders:
        raise ZooError(f"{root}: is no snapshot; none of {', '.join(NAMES)} was found")
    runs = list(dict.fromkeys(_run(folder) for folder in folders))
    for folder in folders:
        member, origin = runs.index(_run(folder)), folder.relative_to(root).as_posix()
        yield attempt(
            origin,
            lambda folder=folder, member=member, origin=origin: _read(folder, member, origin),
        )


def _run(folder: Path) -> Path:
    return folder.parent if _STEP.match(folder.name) else folder


def _read(folder: Path, member: int, origin: str) -> Checkpoint:
    file = next(folder / name for name in NAMES if (folder / name).is_file())
    params = read_checkpoint(file)[0]
    step = _STEP.match(folder.name)
    return Checkpoint(
        member, int(step[1]) if step else 0, params, _about([folder, _run(folder)]), origin
    )


def _about(folders: Iterable[Path]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for folder in folders:
        for name, prefix in _ABOUT.items():
            if (folder / name).is_file():
                content = read_json(folder / name)
                plain = {
                    key: value
                    for key, value in content.items()
                    if isinstance(value, (bool, int, float, str))
                }
                found = {**flatten(plain, prefix), **found}
    return found
