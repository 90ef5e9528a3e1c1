"""One file's content: nested plain values and tensors, read without running anything.

    .safetensors        names to tensors, and text metadata
    torch.save          whatever nest of dicts, lists, tensors and plain values was saved
    .npz                names to arrays

PyTorch files go through the weights-only unpickler alone. What it refuses is told in our own words:
its advice is to allow the code, and nobody who was sent a file should follow that.
"""

from __future__ import annotations

import json
import pickle
import re
import struct
import warnings
import zipfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from wsl.zoo.file import ZooError
from wsl.zoo.reading.kinds import NPZ, SAFETENSORS, kind_of
from wsl.zoo.reading.npz import read_npz

DAMAGED = (
    RuntimeError,
    OSError,
    EOFError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    AssertionError,
    MemoryError,
    struct.error,
    zipfile.BadZipFile,
    safetensors.SafetensorError,
)
"""What readers raise on broken files."""

_SIZED = (Tensor, Mapping, list, tuple)
_GLOBAL = re.compile(r"GLOBAL ([\w.]+)")
_HARMLESS = re.compile(r"^(argparse\.Namespace|numpy\.|torch\.nn\.|pathlib\.|datetime\.)")
"""Classes that run nothing of their own when they are made; they are refused all the same."""
_WHOLE_MODEL = re.compile(
    r"^(torch\.nn\.modules|torchvision|timm|transformers|__main__)\b|\.models?\."
)


def read_content(path: Path) -> Any:
    """What the file holds; raises `ZooError` if it is damaged, unknown, or would run code."""
    if not path.is_file():
        raise ZooError(f"{path}: no such file")
    kind = kind_of(path)
    if kind == SAFETENSORS:
        return _safetensors(path)
    return read_npz(path) if kind == NPZ else _pickled(path)


def text_metadata(path: Path, names: Collection[str]) -> dict[str, str]:
    """The text beside the tensors ``names`` of a safetensors file; nothing for other kinds.

    The order of the tensors, which wsl notes there, is about the file and not about the weights.
    """
    if kind_of(path) != SAFETENSORS:
        return {}
    with safetensors.safe_open(path, framework="pt") as file:
        about = dict(file.metadata() or {})
    own = sorted(_names(about.get("order", ""))) == sorted(names)
    return {key: text for key, text in about.items() if not (own and key == "order")}


def _safetensors(path: Path) -> dict[str, Tensor]:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            params = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            order = _names((file.metadata() or {}).get("order", ""))
    except (safetensors.SafetensorError, OSError, RuntimeError) as error:
        raise ZooError(f"{path}: is not a readable safetensors file ({error})") from None
    # The format forgets the order of the tensors; files that wsl wrote remember it.
    return {name: params[name] for name in order} if sorted(order) == sorted(params) else params


def _names(text: str) -> list[str]:
    """The JSON list of names in ``text``; empty if it is something else, as a stranger's may be."""
    try:
        names = json.loads(text)
    except (ValueError, RecursionError):
        return []
    return names if isinstance(names, list) and all(isinstance(n, str) for n in names) else []


def _pickled(path: Path) -> Any:
    try:
        if zipfile.is_zipfile(path):
            _check_uncompressed(path)
        # As a file, not as a path: by some endings torch would choose another reader.
        with path.open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about protocols of pickle, of which nothing follows
            content = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ZooError(f"{path}: {_refusal(str(error))}") from None
    except ZooError:
        raise
    except DAMAGED as error:
        raise ZooError(
            f"{path}: is not a readable PyTorch checkpoint ({str(error)[:200]})"
        ) from None
    _check_sizes(path, content)
    return content


def _refusal(message: str) -> str:
    """What the unpickler objects to, in a sentence, and what the owner of the file can do."""
    found = _GLOBAL.search(message)
    if not found:
        return (
            "refused (it is damaged, or holds instructions that no checkpoint needs); nothing was "
            "run. Save the state_dict() of a source you trust as safetensors"
        )
    name = found[1]
    what = "a whole model" if _WHOLE_MODEL.search(name) else "more than plain data"
    why = (
        "only tensors and plain values are made" if _HARMLESS.search(name) else "it would run code"
    )
    return (
        f"refused (it holds {what}, {name}): {why}; nothing was run. Where you trust the file, "
        "load it in PyTorch and save the state_dict() alone, best as safetensors"
    )


def _check_uncompressed(path: Path) -> None:
    """A few bytes that unpack to terabytes are an attack, and PyTorch compresses nothing."""
    with zipfile.ZipFile(path) as archive:
        claimed = sum(entry.file_size for entry in archive.infolist())
    if claimed > path.stat().st_size:
        raise ZooError(
            f"{path}: unpacks to {claimed} bytes, more than the file has; PyTorch writes no "
            "compressed checkpoints"
        )


def _check_sizes(path: Path, content: Any) -> None:
    """A tensor that claims more than the file has is a view that repeats a few bytes."""
    limit = path.stat().st_size
    for name, tensor in _tensors(content):
        if tensor.layout == torch.strided and tensor.numel() * tensor.element_size() > limit:
            raise ZooError(
                f"{path}: {name!r} claims {tensor.numel()} values, more than the file has"
            )


def _tensors(content: Any) -> Iterator[tuple[str, Tensor]]:
    """Every tensor at any depth, with the last part of its name."""
    waiting = [("", content)]
    seen: set[int] = set()  # a nest may hold itself, or one part in many places
    while waiting:
        name, value = waiting.pop()
        if isinstance(value, Tensor):
            yield name, value
        elif isinstance(value, Mapping | list | tuple) and id(value) not in seen:
            seen.add(id(value))
            named = value.items() if isinstance(value, Mapping) else enumerate(value)
            waiting += [(str(k), item) for k, item in named if isinstance(item, _SIZED)]
