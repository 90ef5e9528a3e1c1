"""A snapshot of a repository of the Hugging Face hub, or a folder of its Trainer.

    model.safetensors                    model.safetensors.index.json and shards
    pytorch_model.bin                    pytorch_model.bin.index.json and shards

Every folder with such weights is one checkpoint. Shards are put together by their index.
``checkpoint-500/`` is epoch 500 of the folder it lies in; the plain values of ``config.json`` and
of a checkpoint's ``trainer_state.json`` become columns. Links within the snapshot are followed, and
no Python file in it is looked at.

``hub:OWNER/NAME`` or ``hub:OWNER/NAME@REVISION`` stands for the repository itself: `snapshot`
fetches its weights and their JSON, or finds them in the hub's cache (extra ``hub``). Nothing is
fetched for a path.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from wsl.zoo.file import ZooError
from wsl.zoo.reading import read_checkpoint, read_json
from wsl.zoo.sources.checkpoint import Checkpoint, Source, attempt, flatten, natural
from wsl.zoo.sources.files import is_hidden, walk

NAMES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
"""Files with weights, the preferred first."""
_STEP = re.compile(r"checkpoint-(\d{1,9})\Z")
_ABOUT = {"config.json": "config", "trainer_state.json": "trainer"}
ADDRESS = "hub:"
"""What the name of a repository begins with where a path may stand too."""
_FETCHED = ("*.safetensors", "*.safetensors.index.json", "*.bin", "*.bin.index.json", *_ABOUT)


def hub(path: str | Path) -> Source:
    """The checkpoints in the folder ``path`` and below, or of ``hub:OWNER/NAME``.

    Folders that differ only in ``checkpoint-N`` are one member.
    """
    named = str(path).startswith(ADDRESS)
    root = snapshot(str(path).removeprefix(ADDRESS)) if named else Path(path)
    folders = _folders(root)
    if not folders:
        raise ZooError(f"{root}: is no snapshot; none of {', '.join(NAMES)} was found")
    runs = list(dict.fromkeys(_run(folder) for folder in folders))
    for folder in folders:
        member, origin = runs.index(_run(folder)), folder.relative_to(root).as_posix()
        yield attempt(origin, functools.partial(_read, folder, member, origin))


def _folders(root: Path) -> list[Path]:
    files = (file for file in walk(root) if file.name in NAMES)
    return natural({file.parent for file in files if not is_hidden(file, root)})


def snapshot(repository: str) -> Path:
    """The folder of the weights of ``OWNER/NAME`` or ``OWNER/NAME@REVISION`` of the hub.

    They are fetched where the cache lacks them. Raises `ZooError` if the extra is not installed, or
    the hub cannot give them.
    """
    try:
        # imported here: it is an extra
        from huggingface_hub import snapshot_download
    except ImportError:
        raise ZooError(
            f"{ADDRESS}{repository}: the package huggingface_hub is not installed; pip install "
            "weight-space-learning[hub], or give the folder of a snapshot"
        ) from None
    name, _, revision = repository.partition("@")
    patterns = [pattern for name in _FETCHED for pattern in (name, f"*/{name}")]
    try:
        return Path(snapshot_download(name, revision=revision or None, allow_patterns=patterns))
    except (OSError, ValueError) as error:  # what the hub's own errors derive from
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ZooError(
            f"{ADDRESS}{repository}: cannot be fetched ({reason[:200]}); check the name, the "
            "network and your right to read it, or give the folder of a snapshot"
        ) from None


def _run(folder: Path) -> Path:
    return folder.parent if _STEP.match(folder.name) else folder


def _read(folder: Path, member: int, origin: str) -> Checkpoint:
    file = next(folder / name for name in NAMES if (folder / name).is_file())
    params = read_checkpoint(file)[0]
    about = _about([folder, _run(folder)])
    return Checkpoint(member, _step(folder, about), params, about, origin)


def _step(folder: Path, about: Mapping[str, Any]) -> int:
    """The number in the name, else, of a final model beside checkpoints, what the Trainer noted.

    A model without checkpoints beside it is epoch 0.
    """
    if step := _STEP.match(folder.name):
        return int(step[1])
    if not any(_STEP.match(beside.name) for beside in folder.glob("checkpoint-*")):
        return 0
    step = about.get("trainer.global_step")
    if type(step) is not int:
        raise ZooError(
            f"{folder}: lies beside checkpoints, but no trainer_state.json says the step of it; "
            "rename it to checkpoint-STEP, or move it away"
        )
    return step


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
