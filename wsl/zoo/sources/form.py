"""`Form`: what the first checkpoint of an architecture decides, and later ones must fit."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from wsl.symmetry import PermutationSpec
from wsl.zoo.file import (
    TORCH,
    Header,
    RowLayout,
    ZooError,
    from_json,
    read_spec,
    storage_name,
    to_stored,
)
from wsl.zoo.sources.checkpoint import Checkpoint
from wsl.zoo.sources.options import ImportOptions
from wsl.zoo.write import check_finite

_NOTES = {"architecture": (dict, type(None)), "columns": dict, "buffers": list, "provenance": dict}
NO_SYMMETRY = (
    "none: every axis is fixed, because neither a specification nor an architecture was given"
)


@dataclasses.dataclass(frozen=True)
class Form:
    """What the first checkpoint decides: what later ones must fit."""

    spec: PermutationSpec
    specification: str
    layout: RowLayout
    stored: str
    notes: Mapping[str, Any]

    @classmethod
    def of(cls, item: Checkpoint, params: Mapping[str, Tensor], options: ImportOptions) -> Form:
        """What the first checkpoint ``item``, its tensors being ``params``, decides."""
        notes = _notes(item)
        dtype = options.dtype
        stored = notes.get("dtype", "float32") if dtype is None else storage_name(dtype)
        buffers = notes.get("buffers") if options.buffers is None else options.buffers
        layout = RowLayout.of(params, buffers).cast(None if stored == "float32" else TORCH[stored])
        spec, specification = _specification(item, layout, options)
        Header(spec, layout, {}, None, {}, dtype=stored).checked()
        return cls(spec, specification, layout, stored, notes)

    def row(self, params: Mapping[str, Tensor], item: Checkpoint, *, nonfinite: bool) -> np.ndarray:
        """The row (1, P) of one checkpoint as the file stores it."""
        row = self.layout.pack_one(params, rounding=self.stored != "float32")
        if not nonfinite:
            check_finite(self.layout, row, member=item.member, epoch=item.epoch)
        return to_stored(row, self.layout, self.stored)


def _specification(
    item: Checkpoint, layout: RowLayout, options: ImportOptions
) -> tuple[PermutationSpec, str]:
    """The specification, and where it is from."""
    if options.spec is not None:
        return options.spec, "as given"
    if "spec" in item.notes:
        return read_spec(item.notes["spec"]), "from the files"
    return _fixed(layout), NO_SYMMETRY


def _notes(item: Checkpoint) -> dict[str, Any]:
    """What an exported file says of its zoo, parsed and of the right form."""
    notes = {name: from_json(name, item.notes[name]) for name in _NOTES if name in item.notes}
    for name, value in notes.items():
        if not isinstance(value, _NOTES[name]):
            raise ZooError(
                f"its note {name!r} has the wrong form; the file was not written by wsl.zoo.export"
            )
    if "dtype" in item.notes:
        if item.notes["dtype"] not in TORCH:
            raise ZooError(
                f"its note 'dtype' is {item.notes['dtype'][:40]!r}, not one of {', '.join(TORCH)}"
            )
        notes["dtype"] = item.notes["dtype"]
    return notes


def _fixed(layout: RowLayout) -> PermutationSpec:
    """The specification in which every axis is fixed."""
    sizes = ((entry.name, entry.shape) for entry in layout.entries)
    return PermutationSpec(
        (), tuple((name, tuple(((size,),) for size in shape)) for name, shape in sizes)
    )
