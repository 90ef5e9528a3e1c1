"""`SymmetryElement`: permutation, rescaling and linear maps, one element of the whole group.

    g = m r p, the permutation first
    (m r p)(m' r' p') = (m . r (p m' p^-1) r^-1)(r . p r' p^-1)(p p')
    (m r p)^-1        = (p^-1 r^-1 m^-1 r p)(p^-1 r^-1 p) p^-1

The semidirect product: permutations carry the values of the units along, and scales and signs carry
matrices along. Without ``maps`` the last factor is the identity.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from wsl.params import Params
from wsl.symmetry.elements.linear import LinearMaps, check_normal
from wsl.symmetry.elements.permutation import Permutation
from wsl.symmetry.elements.rescaling import Rescaling
from wsl.symmetry.spec import PermutationSpec, SpecError

_FORMAT = {"format": "wsl.SymmetryElement", "version": "1"}


@dataclasses.dataclass(frozen=True, eq=False)
class SymmetryElement:
    """A permutation, then a rescaling, then linear maps; all of one specification.

    ``maps`` may be left out where matrices stand still. With them, raises `SpecError` for a
    specification whose scales do not carry matrices to matrices.
    """

    permutation: Permutation
    rescaling: Rescaling
    maps: LinearMaps | None = None

    def __post_init__(self) -> None:
        if self.permutation.spec != self.rescaling.spec:
            raise SpecError(
                "the permutation and the rescaling belong to two different specifications"
            )
        if self.maps is not None:
            if self.maps.spec != self.spec:
                raise SpecError(
                    "the linear maps and the permutation belong to two different specifications"
                )
            check_normal(self.spec)

    @property
    def spec(self) -> PermutationSpec:
        """The specification of all parts."""
        return self.permutation.spec

    @classmethod
    def identity(cls, spec: PermutationSpec) -> SymmetryElement:
        """The element that changes nothing."""
        return cls(Permutation.identity(spec), Rescaling.identity(spec))

    @classmethod
    def random(
        cls,
        spec: PermutationSpec,
        generator: torch.Generator | None = None,
        *,
        maps: bool = False,
    ) -> SymmetryElement:
        """A uniformly random permutation, a `Rescaling.random`, with ``maps`` random matrices."""
        permutation = Permutation.random(spec, generator)
        rescaling = Rescaling.random(spec, generator)
        return cls(permutation, rescaling, LinearMaps.random(spec, generator) if maps else None)

    def __call__(self, params: Mapping[str, Tensor]) -> Params:
        """Act on weights; leading axes of the tensors are batch.

        Raises `SpecError` if they do not fit the specification.
        """
        moved = self.rescaling(self.permutation(params))
        return moved if self.maps is None else self.maps(moved)

    def __matmul__(self, other: SymmetryElement) -> SymmetryElement:
        """The product: ``(g @ h)(theta) == g(h(theta))`` to rounding."""
        moved = other.rescaling.permuted(self.permutation)
        maps = self.maps
        if other.maps is not None:
            theirs = other.maps.permuted(self.permutation).rescaled(self.rescaling)
            maps = theirs if maps is None else maps @ theirs
        return SymmetryElement(self.permutation @ other.permutation, self.rescaling @ moved, maps)

    def __invert__(self) -> SymmetryElement:
        """The inverse: ``(~g @ g)`` is the identity, to rounding."""
        back, undone = ~self.permutation, ~self.rescaling
        maps = None if self.maps is None else (~self.maps).rescaled(undone).permuted(back)
        return SymmetryElement(back, undone.permuted(back), maps)

    def save(self, path: str | Path) -> None:
        """Write the element as safetensors, with its specification in the header.

        Equal elements give equal bytes.
        """
        from safetensors.torch import save

        tensors = {f"permutation.{name}": v for name, v in self.permutation.indices.items()}
        tensors |= {f"rescaling.{i}": v for i, v in enumerate(self.rescaling.values)}
        for i, value in enumerate(() if self.maps is None else self.maps.values):
            tensors[f"maps.{i}"] = torch.view_as_real(value) if value.is_complex() else value
        header = {**_FORMAT, "spec": str(self.spec), "maps": json.dumps(self.maps is not None)}
        raw = save({k: v.cpu().contiguous() for k, v in tensors.items()}, header)
        Path(path).write_bytes(_ordered(raw))

    @classmethod
    def load(cls, path: str | Path) -> SymmetryElement:
        """Read what `save` wrote; raises `SpecError` if the file is something else or damaged."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, "pt") as file:
                header = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            if {key: header.get(key) for key in _FORMAT} != _FORMAT:
                raise SpecError(f"{path}: not a saved symmetry element; write it with save")
            return cls._from(PermutationSpec.parse(header["spec"]), tensors, header["maps"])
        except (SafetensorError, KeyError, json.JSONDecodeError) as error:
            raise SpecError(f"{path}: not a saved symmetry element ({error})") from None

    @classmethod
    def _from(
        cls, spec: PermutationSpec, tensors: Mapping[str, Tensor], maps: str
    ) -> SymmetryElement:
        """The element of the tensors that `save` names; KeyError if one is missing."""
        acting = sum(not unit.mixes for unit in spec.units)
        values = [tensors[f"rescaling.{i}"] for i in range(acting)]
        matrices = None
        if json.loads(maps):
            units = [unit for unit in spec.units if unit.mixes]
            raw = [tensors[f"maps.{i}"] for i in range(len(units))]
            matrices = LinearMaps(
                spec,
                tuple(
                    torch.view_as_complex(value) if unit.kind == "rotation" else value
                    for unit, value in zip(units, raw, strict=True)
                ),
            )
        permutation = Permutation(
            spec, {name: tensors[f"permutation.{name}"] for name in spec.groups}
        )
        return cls(permutation, Rescaling(spec, tuple(values)), matrices)


def _ordered(raw: bytes) -> bytes:
    """A safetensors file whose header is in order, where the library shuffles its text."""
    start = 8 + int.from_bytes(raw[:8], "little")
    text = json.dumps(json.loads(raw[8:start]), separators=(",", ":"), sort_keys=True).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + raw[start:]
