"""One's own models as a zoo: modules or state dicts become members 0..N-1 at epoch 0 of a file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from wsl.symmetry import PermutationSpec
from wsl.zoo.file import Header, RowLayout, ZooError, column, kind_of, storage_name, to_stored
from wsl.zoo.write.options import FileOptions
from wsl.zoo.write.records import check_finite, records_of, write

Model = nn.Module | Mapping[str, Tensor]


def write_models(
    path: Path,
    models: Iterable[Model],
    *,
    spec: PermutationSpec,
    metadata: Mapping[str, Any],
    options: FileOptions,
) -> None:
    """Write the zoo file ``path`` of ``models`` in memory; see `Zoo.from_models`.

    Raises `ZooError` naming the model or column that does not fit.
    """
    dtype = storage_name(options.dtype or torch.float32)
    layout, rows = _pack(models, None if dtype == "float32" else options.dtype)
    columns = _columns(metadata, len(rows))
    kinds = {name: kind_of(name, type(values[0].item())) for name, values in columns.items()}
    architecture, provenance = options.architecture, options.provenance or {}
    header = Header(spec, layout, kinds, architecture, provenance, dtype=dtype).checked()
    member = np.arange(len(rows))
    if not options.allow_nonfinite:
        check_finite(header.layout, rows, member=member, epoch=0)
    stored = to_stored(rows, header.layout, header.dtype)
    records = records_of(header, stored, member=member, epoch=0, metadata=columns)
    blocks = [(member, stored)]
    write(path, header, records, blocks=blocks, split=options.split, seed=options.seed)


def _columns(metadata: Mapping[str, Any], count: int) -> dict[str, np.ndarray]:
    """One value of one kind per model; a single value for all would hide a mistake."""
    for name, values in metadata.items():
        if not hasattr(values, "__len__") or isinstance(values, (str, bytes)):
            raise ZooError(
                f"column {name!r}: is a single value; give a list with one value for each "
                f"of {count} models"
            )
    return {name: column(name, values, count=count) for name, values in metadata.items()}


def _pack(models: Iterable[Model], dtype: torch.dtype | None) -> tuple[RowLayout, np.ndarray]:
    """The layout that the first model has, and the rows of all."""
    layout, rows = None, []
    for i, model in enumerate(models):
        state = model.state_dict() if isinstance(model, nn.Module) else model
        try:
            layout = layout or RowLayout.of(state, _buffers(model)).cast(dtype)
            rows.append(layout.pack_one(state, rounding=dtype is not None))
        except ZooError as error:
            raise ZooError(f"model {i}: {error}") from None
    if layout is None:
        raise ZooError("no models given; at least one is needed")
    return layout, np.concatenate(rows)


def _buffers(model: Model) -> list[str] | None:
    if not isinstance(model, nn.Module):
        return None
    trained = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    return [name for name in model.state_dict() if name not in trained]
