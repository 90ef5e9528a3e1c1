"""One's own models as a zoo: modules or state dicts become members 0..N-1 at epoch 0 of one file. See `Zoo.from_models`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from wsl.symmetry import PermutationSpec
from wsl.zoo.columns import column, kind_of
from wsl.zoo.error import ZooError
from wsl.zoo.format import Header
from wsl.zoo.layout import Layout
from wsl.zoo.records import Fractions, check_finite, records_of, write

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
) -> None:
    """Write the zoo file ``path`` of ``models`` in memory; raises `ZooError` naming the model or column that does not fit."""
    layout, rows = _pack(models)
    for name, values in metadata.items():
        if not hasattr(values, "__len__") or isinstance(values, (str, bytes)):
            raise ZooError(f"column {name!r}: is a single value; give a list with one value for each of {len(rows)} models")
    columns = {name: column(name, values, count=len(rows)) for name, values in metadata.items()}
    kinds = {name: kind_of(name, type(values[0].item())) for name, values in columns.items()}
    header = Header(spec, layout, kinds, architecture, provenance or {}).checked()
    records = records_of(header, rows, member=np.arange(len(rows)), epoch=0, metadata=columns)
    if not allow_nonfinite:
        check_finite(header, rows, records)
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, header, records, [(np.arange(len(rows)), rows)], split=split, seed=seed)


def _pack(models: Iterable[Model]) -> tuple[Layout, np.ndarray]:
    layout, rows = None, []
    for i, model in enumerate(models):
        state = model.state_dict() if isinstance(model, nn.Module) else model
        try:
            layout = layout or Layout.of(state, _buffers(model))
            rows.append(layout.pack({name: tensor.unsqueeze(0) for name, tensor in state.items()}))
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
