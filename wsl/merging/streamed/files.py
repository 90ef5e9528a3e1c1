"""Which tensor of a merge is written to which file: as in the first member where that can be done.

A result that has other tensors than the first member, as layers put together from several, is
written to shards of `SHARD` bytes in the order of its steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from wsl.matching import large
from wsl.merging.streamed.step import Step

SHARD = 5 * 10**9
_MODEL = "model"


def layout(
    steps: Sequence[Step],
    like: large.TensorFiles | None = None,
    *,
    one: str | None = None,
    metadata: Mapping[str, str] | None = None,
) -> large.TensorFiles:
    """Files for the results of ``steps``, with their index; all in the file ``one`` if it is told.

    ``metadata`` is the text of every file.
    """
    tensors = {s.name: large.FileTensor(Path(), s.kind, s.shape, 0) for s in steps}
    about = dict(metadata or {})
    if like is not None and like.tensors.keys() == tensors.keys():
        places = {name: list(file.tensors) for name, file in like.files.items()}
        index, index_file = like.index, like.index_file
    else:
        places = _by_size(tensors)
        index, index_file = _index(places), f"{_MODEL}.safetensors.index.json"
    if one is not None:
        places, index = {one: [name for names in places.values() for name in names]}, None
    files = {
        file: large.TensorFile(Path(file), {name: tensors[name] for name in names}, about)
        for file, names in places.items()
    }
    return large.TensorFiles(files, index, "" if index is None else index_file)


def _by_size(tensors: Mapping[str, large.FileTensor]) -> dict[str, list[str]]:
    shards: list[list[str]] = [[]]
    held = 0
    for name, tensor in tensors.items():
        if shards[-1] and held + tensor.size > SHARD:
            shards.append([])
            held = 0
        shards[-1].append(name)
        held += tensor.size
    if len(shards) == 1:
        return {f"{_MODEL}.safetensors": shards[0]}
    return {
        f"{_MODEL}-{i:05}-of-{len(shards):05}.safetensors": names
        for i, names in enumerate(shards, 1)
    }


def _index(places: Mapping[str, Sequence[str]]) -> dict[str, object] | None:
    if len(places) == 1:
        return None
    inside = {name: file for file, names in places.items() for name in names}
    return {"metadata": {"total_size": 0}, "weight_map": inside}
