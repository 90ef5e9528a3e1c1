"""What a checkpoint holds, on one screen: sets of weights, shapes, types, what lies beside."""

from __future__ import annotations

import collections
from collections.abc import Iterator
from pathlib import Path

from torch import Tensor

from wsl.zoo import FoundCheckpoint, ZooError, is_coded, open_checkpoint

_SHOWN = 40
"""Lines of one set of weights, or of metadata; of longer ones the first and last are shown."""
_HDF5 = b"\x89HDF"


def is_zoo(path: str | Path) -> bool:
    """Whether ``path`` is an HDF5 file, as zoos are, or one of coded rows."""
    path = Path(path)
    if not path.is_file():
        return False
    if is_coded(path):
        return True
    with path.open("rb") as file:
        return file.read(4) == _HDF5


def describe(path: str | Path) -> Iterator[str]:
    """Lines that tell what lies at ``path``; raises `ZooError` if it is no checkpoint."""
    found = open_checkpoint(path)
    if not found.content.sets:
        found.choose()  # says why there is nothing to read
    yield str(found.path)
    yield from (f"note: {note}" for note in found.notes)
    for each in found.content.sets:
        where = f"--entry {each.name}" if each.name else "at the top"
        yield ""
        yield f"weights, {where}: {_summary(each.params)}"
        lines = [f"  {name}: {_shape(tensor)}" for name, tensor in each.params.items()]
        yield from _cut(lines)
        yield from (f"  {name}: no tensor, left out" for name in each.extra)
    yield from _beside(found)


def _beside(found: FoundCheckpoint) -> Iterator[str]:
    if found.metadata:
        yield ""
        yield "metadata"
        yield from _cut([f"  {name} = {_short(value)}" for name, value in found.metadata.items()])
    if found.content.others:
        yield ""
        yield f"not read: {', '.join(found.content.others)}"
    try:
        _, notes = found.choose()
    except ZooError:
        yield ""
        yield "several sets of weights; choose one with --entry NAME"
    else:
        yield from (f"note: {note}" for note in notes if note not in found.notes)


def _summary(params: dict[str, Tensor]) -> str:
    """How many tensors, values and bytes of which types."""
    kinds = collections.Counter(str(t.dtype).removeprefix("torch.") for t in params.values())
    values = sum(t.numel() for t in params.values())
    size = sum(t.numel() * t.element_size() for t in params.values())
    told = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
    return f"{len(params)} tensors ({told}), {values} values, {size / 2**20:.1f} MiB"


def _shape(tensor: Tensor) -> str:
    kind = str(tensor.dtype).removeprefix("torch.")
    return f"{' x '.join(map(str, tensor.shape)) or 'one number'} {kind}"


def _short(value: object) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= 80 else text[:77] + "..."


def _cut(lines: list[str]) -> list[str]:
    if len(lines) <= _SHOWN:
        return lines
    return [*lines[: _SHOWN - 5], f"  ... and {len(lines) - _SHOWN} more", *lines[-5:]]
