"""One's own models as a zoo: modules or state dicts become members 0..N-1 at epoch 0 of one file.
See `Zoo.from_models`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from wsl.symmetry import PermutationSpec
from wsl.zoo.file import Header, Layout, ZooError, column, kind_of, storage_name, to_stored
from wsl.zoo.rows import Fractions
from wsl.zoo.write.records import check_finite, records_of, write

Model = nn.Module | Mapping[str, Tensor]


def write_models(
    path: Path,
    models: Iterable[Model],
    *,
    spec: PermutationSpec,
    metadata: Mapping[str, Any],
    architecture: dict[str, Any] | None,
    provenance: dict[str, Any] | None,
    split: Fractions,
    seed: int,
    allow_nonfinite: bool,
    dtype: torch.dtype,
) -> None:
    """Write the zoo file ``path`` of ``models`` in memory; raises `ZooError` naming the model or
    column that does not fit.
    """
    name = storage_name(dtype)
    layout, rows = _pack(models, None if name == "float32" else dtype)
    for column_name, values in metadata.items():
        if not hasattr(values, "__len__") or isinstance(values, (str, bytes)):
            raise ZooError(
                f"column {column_name!r}: is a single value; give a list with one value for each "
                f"of {len(rows)} models"
            )
    columns = {key: column(key, values, count=len(rows)) for key, values in metadata.items()}
    kinds = {key: kind_of(key, type(values[0].item())) for key, values in columns.items()}
    header = Header(spec, layout, kinds, architecture, provenance or {}, dtype=name).checked()
    if not allow_nonfinite:
        check_finite(header.layout, rows, np.arange(len(rows)), np.zeros(len(rows), dtype=np.int64))
    stored = to_stored(rows, header.layout, header.dtype)
    records = records_of(header, stored, member=np.arange(len(rows)), epoch=0, metadata=columns)
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, header, records, [(np.arange(len(rows)), stored)], split=split, seed=seed)


def _pack(models: Iterable[Model], dtype: torch.dtype | None) -> tuple[Layout, np.ndarray]:
    layout, rows = None, []
    for i, model in enumerate(models):
        state = model.state_dict() if isinstance(model, nn.Module) else model
        try:
            layout = layout or Layout.of(state, _buffers(model)).cast(dtype)
            rows.append(
                layout.pack(
                    {name: tensor.unsqueeze(0) for name, tensor in state.items()},
                    rounding=dtype is not None,
                )
            )
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
