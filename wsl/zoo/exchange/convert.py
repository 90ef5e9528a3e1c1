"""A zoo's rows as safetensors files, one each, and a table beside them.

    <folder>/member-0007-epoch-020.safetensors    weights; specification and origin in __metadata__
    <folder>/table.csv                            a line per file: row, member, epoch, columns

Written files are whole or absent, and equal content gives equal bytes. `wsl.zoo.reading` reads them
back.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from wsl.base import replacing
from wsl.zoo.file import ZooError, to_json
from wsl.zoo.rows import Checkpoints


def export(zoo: Checkpoints, rows: Iterable[int] | np.ndarray, folder: str | Path) -> list[Path]:
    """Write ``rows`` of ``zoo`` into ``folder``: a safetensors file each, and ``table.csv``.

    The files say all that the zoo says of their rows: imported again, all of them give the same zoo
    file.
    """
    numbers = zoo.row_numbers(np.asarray(list(rows)))
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    origin = _origin(zoo)
    records = [_export_row(zoo, int(row), folder, origin=origin) for row in numbers]
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
