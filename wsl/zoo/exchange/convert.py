"""Single checkpoints as files: rows of a zoo out, safetensors and PyTorch files in.

    <folder>/member-0007-epoch-020.safetensors      weights; spec and origin in __metadata__
    <folder>/table.csv                              a line per file: row, member, epoch, split, ...

Written files are whole or absent, and equal content gives equal bytes. Nothing is ever unpickled
beyond tensors and plain values: a file that would run code is refused, and the code does not run.
"""

from __future__ import annotations

import csv
import json
import pickle
import struct
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from wsl.base import replacing
from wsl.params import Params
from wsl.zoo.file import ZooError, to_json
from wsl.zoo.rows import Checkpoints

_NESTINGS = ("state_dict", "model_state_dict", "model", "model_state")
_SETTINGS = "hyper_parameters"
"""Where Lightning keeps the settings of a run."""
_DEPTH = 3
PICKLED = (".pt", ".pth", ".ckpt", ".bin", ".pth.tar")
"""Suffixes of files that the weights-only unpickler reads."""
_DAMAGED = (
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
)
"""What torch.load raises on broken files."""


def export(zoo: Checkpoints, rows: Iterable[int] | np.ndarray, folder: str | Path) -> list[Path]:
    """Write ``rows`` of ``zoo`` into ``folder``: a safetensors file each, and ``table.csv``.

    The files say all that the zoo says of their rows: imported again, all of them give the same zoo
    file.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    origin = _origin(zoo)
    records = [_export_row(zoo, int(row) % len(zoo), folder, origin=origin) for row in rows]
    names = ["file", "row", "member", "epoch", "split", *zoo.columns]
    _write_table(folder / "table.csv", names, records)
    return [folder / record["file"] for record in records]


def _write_table(path: Path, names: Sequence[str], records: Iterable[Mapping[str, Any]]) -> None:
    with replacing(path) as temporary, temporary.open("w", newline="") as file:
        table = csv.DictWriter(file, names)
        table.writeheader()
        table.writerows(records)


def _export_row(
    zoo: Checkpoints, row: int, folder: Path, *, origin: Mapping[str, str]
) -> dict[str, Any]:
    """Write one row; its line in the table."""
    params, metadata = zoo[row]
    name = f"member-{metadata['member']:04d}-epoch-{metadata['epoch']:03d}.safetensors"
    about = {key: str(value) for key, value in metadata.items() if key != "order"}
    notes = {**about, **origin, "row": str(row), "record": json.dumps(metadata)}
    write_checkpoint(folder / name, params, notes)
    return {"file": name, "row": row, **metadata}


def write_checkpoint(
    path: str | Path, params: Mapping[str, Tensor], metadata: Mapping[str, str]
) -> None:
    """Write ``params`` as the safetensors file ``path``, dtypes kept; ``metadata`` is text to text.

    The order of the tensors, which the format does not keep, is noted for `read_checkpoint`.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise ZooError(f"{path}: checkpoints are written as .safetensors; change the suffix")
    for name, text in metadata.items():
        if not isinstance(name, str) or not isinstance(text, str) or name == "order":
            raise ZooError(
                f"{path}: metadata {name!r}: {text!r}: safetensors holds text only, and 'order' "
                "is taken"
            )
    # copies: the format refuses tensors that share memory
    plain = {name: tensor.detach().cpu() for name, tensor in params.items()}
    own = {name: t.clone(memory_format=torch.contiguous_format) for name, t in plain.items()}
    blob = safetensors.torch.save(own, {**metadata, "order": to_json("order", list(params))})
    with replacing(path) as temporary:
        temporary.write_bytes(_with_sorted_metadata(blob))


def read_checkpoint(path: str | Path) -> tuple[Params, dict[str, Any]]:
    """Tensors and metadata of one checkpoint, by its suffix.

    That is .safetensors, or .pt, .pth, .ckpt, .bin by the weights-only unpickler.

    Descends into ``state_dict``, ``model_state_dict`` and ``model``; the plain values found beside
    them are the metadata. Raises `ZooError` if the file is missing, damaged, holds anything but
    tensors there, or would run code.
    """
    path = Path(path)
    if not path.is_file():
        raise ZooError(f"{path}: no such file")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    if path.name.endswith(PICKLED):
        return read_pickled(path)
    raise ZooError(f"{path}: unknown kind of checkpoint; use .safetensors, {', '.join(PICKLED)}")


def _origin(zoo: Checkpoints) -> dict[str, str]:
    task = {"task": to_json("task", zoo.provenance["task"])} if "task" in zoo.provenance else {}
    return {
        "spec": str(zoo.spec),
        "architecture": to_json("architecture", zoo.architecture),
        **task,
        "zoo": zoo.path.name,
        "columns": to_json("columns", zoo.columns),
        "buffers": to_json("buffers", zoo.buffers),
        "dtype": zoo.header.dtype,
        "provenance": to_json("provenance", zoo.provenance),
    }


def _with_sorted_metadata(blob: bytes) -> bytes:
    """The safetensors library writes its metadata in an order that changes from run to run."""
    end = 8 + int.from_bytes(blob[:8], "little")
    header = json.loads(blob[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + blob[end:]


def _read_safetensors(path: Path) -> tuple[Params, dict[str, Any]]:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            params = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, OSError, RuntimeError) as error:
        raise ZooError(f"{path}: is not a readable safetensors file ({error})") from None
    order = _names(metadata.get("order", ""))
    if sorted(order) == sorted(params):
        del metadata["order"]
        params = {name: params[name] for name in order}
    return params, metadata


def _names(text: str) -> list[str]:
    """The JSON list of names in ``text``, or an empty one if it is something else.

    A foreign file may say anything there.
    """
    try:
        names = json.loads(text)
    except (ValueError, RecursionError):
        return []
    return names if isinstance(names, list) and all(isinstance(name, str) for name in names) else []


def _objection(message: str) -> str:
    """What torch objects to, without its advice to load the file unsafely."""
    lines = [line.strip() for line in message.splitlines() if line.strip()] or [""]
    return next(
        (line for line in lines if "GLOBAL" in line or "WeightsUnpickler error" in line), lines[0]
    )[:200]


def read_pickled(path: Path) -> tuple[Params, dict[str, Any]]:
    """Tensors and metadata of a file that ``torch.save`` wrote, whatever its name.

    See `read_checkpoint`.
    """
    try:
        if zipfile.is_zipfile(path):
            _check_uncompressed(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ZooError(
            f"{path}: refused ({_objection(str(error))}): to be read it would run code, or it is "
            "damaged; nothing "
            "was run. Save the state_dict() of a source you trust as safetensors"
        ) from None
    except ZooError:
        raise
    except _DAMAGED as error:
        raise ZooError(
            f"{path}: is not a readable PyTorch checkpoint ({str(error)[:200]})"
        ) from None
    return _descend(path, content)


def _check_uncompressed(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        claimed = sum(entry.file_size for entry in archive.infolist())
    if claimed > path.stat().st_size:
        raise ZooError(
            f"{path}: unpacks to {claimed} bytes, more than the file has; PyTorch writes no "
            "compressed checkpoints"
        )


def _descend(path: Path, content: Any) -> tuple[Params, dict[str, Any]]:
    """The state dict within ``content``, and the plain values found on the way to it."""
    first = content[0] if isinstance(content, (tuple, list)) and content else None
    if isinstance(first, Mapping):  # (model, optimizer), as Ray Tune's examples save them
        content = first
    metadata: dict[str, Any] = {}
    for _ in range(_DEPTH):
        nested = _nested(content)
        if nested is not None:
            metadata |= _plain(dict(content))
            content = nested
    if not isinstance(content, Mapping) or not content:
        raise ZooError(
            f"{path}: holds a {type(content).__name__}; a non-empty dict of tensors is required, "
            "as state_dict() gives"
        )
    for name, value in content.items():
        _check_tensor(path, name, value)
    return {str(name): tensor.detach() for name, tensor in content.items()}, metadata


def _nested(content: Any) -> Mapping[Any, Any] | None:
    if not isinstance(content, Mapping):
        return None
    found = (content.get(name) for name in _NESTINGS)
    return next((inner for inner in found if isinstance(inner, Mapping)), None)


def _plain(content: Mapping[Any, Any]) -> dict[str, Any]:
    """The plain values of ``content``, and those of Lightning's settings in it."""
    settings = content.get(_SETTINGS)
    own = dict(settings) if isinstance(settings, Mapping) else {}
    values = {**content, **{f"{_SETTINGS}.{name}": value for name, value in own.items()}}
    return {str(k): value for k, value in values.items() if isinstance(value, (str, int, float))}


def _check_tensor(path: Path, name: Any, value: Any) -> None:
    if not isinstance(value, Tensor) or value.layout != torch.strided or value.is_quantized:
        raise ZooError(
            f"{path}: {name!r} is a {type(value).__name__}; every entry must be a plain "
            "tensor, as in state_dict()"
        )
    # a view of few stored values, repeated by its strides, could fill the memory when copied
    if value.numel() * value.element_size() > path.stat().st_size:
        raise ZooError(f"{path}: {name!r} claims {value.numel()} values, more than the file has")
