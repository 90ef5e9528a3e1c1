"""Statistics of one member as a safetensors file, with what they are and of which weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from wsl.base import replacing
from wsl.params import Params

_FORMAT = "wsl.statistics"


def save_statistics(
    path: str | Path,
    statistics: Mapping[str, Tensor],
    *,
    kind: str,
    about: Mapping[str, str] | None = None,
) -> None:
    """Write ``statistics``; ``kind`` says what they are ("fisher"), ``about`` anything else."""
    head = {**(about or {}), "format": _FORMAT, "version": "1", "kind": kind}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in statistics.items()}
    with replacing(Path(path)) as temporary:
        save_file(tensors, temporary, head)


def load_statistics(path: str | Path, *, kind: str | None = None) -> Params:
    """Read what `save_statistics` wrote.

    Raises ValueError for a file that is none, or of another ``kind``.
    """
    try:
        with safe_open(path, "pt") as file:
            head = file.metadata() or {}
            found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{path}: statistics cannot be read ({error})") from None
    if head.get("format") != _FORMAT:
        raise ValueError(f"{path}: holds no statistics; write them by save_statistics")
    if kind is not None and head.get("kind") != kind:
        raise ValueError(f"{path}: holds statistics of kind '{head.get('kind')}', not '{kind}'")
    return found
