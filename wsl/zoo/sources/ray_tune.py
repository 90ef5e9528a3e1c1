"""A tree of Ray Tune trials, as ModelZoos and SANE publish them; read without Ray.

    <trial>/params.json
    <trial>/result.json
    <trial>/checkpoint_000003/checkpoints          or checkpoint_3/model.pt, ...

A trial is a member. Results are JSON lines, one per training iteration; the one that belongs to a
checkpoint is the line that names its folder (``checkpoint_dir_name``), else the line whose
``training_iteration`` is the folder's number. The epoch is that iteration, read and never counted;
without a line it is the folder's number and the results are missing (NaN). Pickled side files
(``.tune_metadata``, ``dataset.pt``) are not opened.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from wsl.zoo.file import ZooError
from wsl.zoo.reading import SUFFIXES, open_checkpoint, read_json
from wsl.zoo.sources.checkpoint import (
    Checkpoint,
    Refused,
    Source,
    attempt,
    flatten,
    natural,
    sourced,
)
from wsl.zoo.sources.files import walk

_FOLDER = re.compile(r"checkpoint_(\d{1,9})\Z")
SETTINGS = "params.json"
_BARE = ("checkpoints", "checkpoint")
_NOISE = (
    "config",
    "date",
    "done",
    "experiment_id",
    "experiment_tag",
    "hostname",
    "node_ip",
    "pid",
    "timestamp",
    "trial_id",
    "warmup_time",
    "iterations_since_restore",
    "time_since_restore",
    "timesteps_since_restore",
    "should_checkpoint",
    "checkpoint_dir_name",
    "training_iteration",
)
"""Entries of a result about the machine, or that are read elsewhere."""
Results = list[dict[str, Any]]


def ray_tune(path: str | Path) -> Source:
    """The checkpoints of all trials below ``path``.

    Members are in natural order of the trials' folders.
    """
    root = Path(path)
    trials = natural(file.parent for file in walk(root) if file.name == SETTINGS)
    if not trials:
        raise ZooError(
            f"{root}: has no trials; folders with params.json and checkpoint_* are looked for"
        )
    yield from read_trials(root, trials)


def trials_in(found: Iterable[Path]) -> list[Path]:
    """The folders of trials, of the files ``found``: with settings, and checkpoints as folders."""
    settled = (file.parent for file in found if file.name == SETTINGS)
    return natural(
        folder for folder in settled if any(path.is_dir() for path in folder.glob("checkpoint_*"))
    )


def read_trials(root: Path, trials: Iterable[Path]) -> Source:
    """The checkpoints of ``trials`` below ``root``."""
    results = functools.cache(_results)
    about = functools.cache(lambda file: flatten(read_json(file), "config"))
    read = functools.partial(_read, about=about, results=results)
    for member, trial in enumerate(trials):
        for folder in natural(trial.glob("checkpoint_*")):
            if _FOLDER.match(folder.name):
                origin = folder.relative_to(root).as_posix()
                yield _attempt(root, _Place(member, folder, origin, folder), read)


class _Place(NamedTuple):
    """The member that a checkpoint is of, its folder, its name in messages, and its file."""

    member: int
    folder: Path
    origin: str
    file: Path


def _attempt(
    root: Path, place: _Place, read: Callable[[_Place], Checkpoint]
) -> Checkpoint | Refused:
    try:
        place = place._replace(file=_weights(place.folder))
    except ZooError as error:
        return Refused(place.origin, str(error))
    name = place.file.relative_to(root).as_posix()

    def checkpoint() -> Checkpoint:
        found = read(place)
        return found._replace(metadata=flatten(sourced(found.metadata, root, [name])))

    return attempt(place.origin, checkpoint, name)


def _read(
    place: _Place,
    *,
    about: Callable[[Path], Mapping[str, Any]],
    results: Callable[[Path], Results],
) -> Checkpoint:
    member, folder, origin, file = place
    settings = about(folder.parent / SETTINGS)
    line = _line(folder, results(folder.parent / "result.json"))
    epoch = line.get("training_iteration", _number(folder))
    if type(epoch) is not int or epoch < 0:
        raise ZooError(f"{origin}: training_iteration is {epoch!r}; a whole number is required")
    found = flatten({name: value for name, value in line.items() if name not in _NOISE})
    params, remarks = open_checkpoint(file).choose()
    return Checkpoint(member, epoch, params, {**settings, **found}, origin, remarks=remarks)


def _line(folder: Path, results: Results) -> dict[str, Any]:
    """The last result that names the folder, else the last of its number, else nothing."""
    named = [line for line in results if line.get("checkpoint_dir_name") == folder.name]
    numbered = [line for line in results if line.get("training_iteration") == _number(folder)]
    return (named or numbered or [{}])[-1]


def _number(folder: Path) -> int:
    match = _FOLDER.match(folder.name)
    return int(match[1]) if match else 0


def _weights(folder: Path) -> Path:
    bare = [folder / name for name in _BARE if (folder / name).is_file()]
    files = bare or natural(
        file for file in folder.iterdir() if file.suffix in SUFFIXES and file.is_file()
    )
    if len(files) != 1:
        raise ZooError(
            f"{folder}: has {len(files)} files with weights; one is expected, named checkpoints "
            "or ending in "
            f"{', '.join(SUFFIXES)}"
        )
    return files[0]


def _results(path: Path) -> Results:
    """Lines of results; one cut short by the end of the run is left out."""
    try:
        lines = path.read_text().splitlines() if path.is_file() else []
    except (OSError, UnicodeDecodeError) as error:
        raise ZooError(f"{path}: is not readable ({error})") from None
    found = []
    for line in lines:
        try:
            content = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(content, dict):
            found.append(content)
    return found
