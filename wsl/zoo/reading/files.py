"""Which files a path means: a file, a folder with an index and shards, a hub snapshot.

    {"weight_map": {"h.0.weight": "model-00001-of-00002.safetensors", ...}}

The index decides which shard a tensor is read from, also where it lies in two. A shard or a tensor
that is missing, or a tensor that the index does not know, is an error; a shard left over is named.
Links are followed, and said.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from wsl.params import Params
from wsl.zoo.file import ZooError
from wsl.zoo.reading.formats import read_content
from wsl.zoo.reading.jsons import read_json

INDEX = ".index.json"
WHOLE = ("model.safetensors", "pytorch_model.bin")
"""What a snapshot calls its weights when one file holds them, the preferred first."""
INDICES = tuple(name + INDEX for name in WHOLE)
DIFFUSERS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")
SUFFIXES = (".pt", ".pth", ".ckpt", ".bin", ".safetensors", ".npz", ".pth.tar", ".pt.tar")
_COPY = re.compile(r"^(\.|~\$)|~$|\.(tmp|part|crdownload|swp)$")
_SHARD = re.compile(r"-\d{5}-of-\d{5}\.(safetensors|bin)$")


class Shards(NamedTuple):
    """Tensors put together from an index's shards, and what has to be said of it."""

    params: Params
    notes: tuple[str, ...]


def shard_names(index: Path) -> list[str]:
    """The shards that an index names, in its order; raises `ZooError` if it is no index."""
    return list(dict.fromkeys(_weight_map(index).values()))


def has_suffix(path: Path) -> bool:
    """Whether a file is called like a checkpoint."""
    return path.name.lower().endswith(SUFFIXES)


def is_copy(path: Path, root: Path) -> bool:
    """Hidden files and folders, and what editors, browsers and notebooks leave behind.

    Only what lies below ``root`` counts: a root may itself be hidden.
    """
    parts = path.relative_to(root).parts if path != root else (path.name,)
    return any(_COPY.search(part) for part in parts)


def resolve(path: str | Path) -> Path:
    """The file or index that ``path`` stands for; raises `ZooError` listing what a folder holds."""
    path = Path(path)
    if path.is_file():
        return path
    if not path.is_dir():
        told = "is a link to a file that is gone" if path.is_symlink() else "no such file"
        raise ZooError(f"{path}: {told}")
    for name in (*INDICES, *WHOLE, *(name + INDEX for name in DIFFUSERS), *DIFFUSERS):
        if (path / name).is_file():
            return path / name
    return _only_checkpoint(path)


def _only_checkpoint(folder: Path) -> Path:
    found = sorted(f for f in folder.iterdir() if has_suffix(f) and not is_copy(f, folder))
    if len(found) == 1:
        return found[0]
    if not found:
        raise ZooError(
            f"{folder}: has no checkpoint; {', '.join(WHOLE)}, an index beside its shards, or one "
            f"file ending in {', '.join(SUFFIXES)} is looked for"
        )
    if all(_SHARD.search(file.name) for file in found):
        raise ZooError(
            f"{folder}: has {len(found)} shards, but no index that says what lies where; "
            f"{' or '.join(INDICES)} is needed beside them"
        )
    names = ", ".join(file.name for file in found[:5])
    raise ZooError(f"{folder}: has {len(found)} checkpoints ({names}); name one of them")


def read_shards(index: Path) -> Shards:
    """The tensors that an index puts together; raises `ZooError` for one that is missing."""
    names = _weight_map(index)
    shards = {file: _shard(index, file, names) for file in dict.fromkeys(names.values())}
    _check_index(index, names, shards)
    params = {name: shards[file][name] for name, file in names.items()}
    return Shards(params, tuple(_shard_notes(index, names, shards)))


def _check_index(index: Path, names: dict[str, str], shards: dict[str, dict[str, Tensor]]) -> None:
    """Raise `ZooError` unless the index names what is in the shards, and nothing else."""
    missing = [name for name, file in names.items() if name not in shards[file]]
    if missing:
        raise ZooError(f"{index}: {missing[0]}: is in no shard; {names[missing[0]]} should hold it")
    if unknown := sorted({name for shard in shards.values() for name in shard} - set(names)):
        raise ZooError(f"{index}: {unknown[0]}: is in a shard but not in the index")


def _weight_map(index: Path) -> dict[str, str]:
    content = read_json(index)
    names = content.get("weight_map") if isinstance(content, dict) else None
    if (
        not isinstance(names, dict)
        or not names
        or not all(isinstance(f, str) for f in names.values())
    ):
        raise ZooError(f"{index}: has no weight_map of tensor names to files")
    for file in names.values():
        if Path(file).name != file or file in ("", ".", ".."):
            raise ZooError(f"{index}: names {file!r}; shards lie beside their index")
    return names


def _shard(index: Path, file: str, names: dict[str, str]) -> dict[str, Tensor]:
    path = index.with_name(file)
    if not path.is_file():
        count = sum(where == file for where in names.values())
        raise ZooError(f"{index}: {file}: no such file; {count} tensors lie in this shard")
    content = read_content(path)
    if not isinstance(content, dict) or not all(isinstance(t, Tensor) for t in content.values()):
        raise ZooError(f"{path}: holds more than tensors, as no shard does")
    return content


def _shard_notes(
    index: Path, names: dict[str, str], shards: dict[str, dict[str, Tensor]]
) -> Iterator[str]:
    twice = [
        n for n, file in names.items() for other in shards if other != file and n in shards[other]
    ]
    if twice:
        first = twice[0]
        yield (
            f"{index}: {', '.join(twice[:3])}: lies in several shards; the copy in "
            f"{names[first]}, which the index names, is read"
        )
    unused = sorted(
        file.name
        for file in index.parent.iterdir()
        if _SHARD.search(file.name) and file.name not in shards and file.suffix == _suffix(shards)
    )
    if unused:
        yield f"{index}: {', '.join(unused[:3])}: a shard that the index does not name, left out"


def _suffix(shards: dict[str, dict[str, Tensor]]) -> str:
    return Path(next(iter(shards))).suffix
