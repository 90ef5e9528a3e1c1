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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from wsl.zoo.file import ZooError
from wsl.zoo.reading import (
    INDEX,
    has_suffix,
    is_copy,
    open_checkpoint,
    read_json,
    shard_names,
)
from wsl.zoo.sources.checkpoint import (
    Checkpoint,
    Refused,
    Skipped,
    Source,
    attempt,
    flatten,
    natural,
    sourced,
)
from wsl.zoo.sources.files import skip, walk

NAMES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
"""Files with weights, the preferred first."""
_STEP = re.compile(r"checkpoint-(\d{1,9})\Z")
_SIDE = re.compile(r"(optimizer|scheduler|scaler|rng_state|training_args|random_states)\w*\.")
"""What the Trainer and accelerate save beside the weights."""
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
    folders = snapshots(root, walk(root))
    if not folders:
        raise ZooError(f"{root}: is no snapshot; none of {', '.join(NAMES)} was found")
    yield from read_folders(root, folders)


def snapshots(root: Path, found: Iterable[Path]) -> list[Path]:
    """The folders that hold weights under a snapshot's names, of the files ``found``."""
    return natural(
        {file.parent for file in found if file.name in NAMES and not is_copy(file, root)}
    )


def read_folders(root: Path, folders: Sequence[Path]) -> Source:
    """The snapshots in ``folders`` below ``root``, and a line for the other weights beside them."""
    runs = list(dict.fromkeys(_run(folder) for folder in folders))
    for folder in folders:
        yield from _read_folder(root, folder, runs.index(_run(folder)))


def _read_folder(root: Path, folder: Path, member: int) -> Source:
    origin = folder.relative_to(root).as_posix()
    file = next(folder / name for name in NAMES if (folder / name).is_file())
    try:
        files = _files(root, file)
    except ZooError as error:
        yield Refused(origin, str(error), (file.relative_to(root).as_posix(),))
        return
    read = functools.partial(_read, root, folder, _Place(member, origin, files))
    yield attempt(origin, read, *files)
    yield from _beside(root, folder, files)


def is_side(file: Path) -> bool:
    """Whether ``file`` is the state of a training that lies beside a snapshot's weights."""
    return _SIDE.match(file.name) is not None


def _files(root: Path, file: Path) -> tuple[str, ...]:
    """What is read for the weights in ``file``: itself, and the shards if it is their index."""
    shards = shard_names(file) if file.name.endswith(INDEX) else ()
    places = (file, *(file.with_name(name) for name in shards))
    return tuple(place.relative_to(root).as_posix() for place in places)


def _beside(root: Path, folder: Path, files: Sequence[str]) -> Iterator[Skipped]:
    """Other files with weights in the folder of a snapshot."""
    for file in natural(folder.iterdir()):
        if (
            not has_suffix(file)
            or is_copy(file, root)
            or file.relative_to(root).as_posix() in files
        ):
            continue
        if is_side(file):
            yield skip(file, root, "is the state of a training beside the weights")
        else:
            yield skip(
                file, root, f"lies beside {Path(files[0]).name}, which is read; name it alone"
            )


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


class _Place(NamedTuple):
    """Member, name in messages and files of a snapshot."""

    member: int
    origin: str
    files: tuple[str, ...]


def _read(root: Path, folder: Path, place: _Place) -> Checkpoint:
    found = open_checkpoint(root / place.files[0])
    params, remarks = found.choose()
    about = _about([folder, _run(folder)])
    told = flatten(sourced(about, root, place.files))
    step = _step(folder, about)
    return Checkpoint(place.member, step, params, told, place.origin, remarks=remarks)


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
