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

from wsl.params import Params
from wsl.zoo.exchange import read_checkpoint
from wsl.zoo.file import ZooError
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
    """The checkpoints in ``path`` and below.

    Folders that differ only in ``checkpoint-N`` are one member.
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


def read_sharded(index: Path) -> Params:
    """The tensors that an index (``weight_map``: name to file beside it) puts together.

    Raises `ZooError`.
    """
    names = _weight_map(index)
    params: Params = {}
    for file in natural({Path(name) for name in names.values()}):
        if file.name != str(file) or file.name in ("", ".", ".."):
            raise ZooError(f"{index}: names {str(file)!r}; shards lie beside their index")
        params |= read_checkpoint(index.with_name(file.name))[0]
    if difference := set(params) ^ set(names):
        name = min(difference)
        raise ZooError(
            f"{index}: {name}: is "
            f"{'in a shard but not in the index' if name in params else 'in no shard'}"
        )
    return {name: params[name] for name in names}


def _weight_map(index: Path) -> dict[str, str]:
    content = read_json(index)
    names = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(names, dict) or not names:
        raise ZooError(f"{index}: has no weight_map of tensor names to files")
    if not all(isinstance(file, str) for file in names.values()):
        raise ZooError(f"{index}: has no weight_map of tensor names to files")
    return names


def _run(folder: Path) -> Path:
    return folder.parent if _STEP.match(folder.name) else folder


def _read(folder: Path, member: int, origin: str) -> Checkpoint:
    file = next(folder / name for name in NAMES if (folder / name).is_file())
    params = read_sharded(file) if file.suffix == ".json" else read_checkpoint(file)[0]
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
