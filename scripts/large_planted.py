"""Checkpoints for `large_match.py`: random weights, and a copy in which an element is planted.

Every tensor is drawn by its name, so that neither checkpoint is ever in memory as a whole.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import NamedTuple

import safetensors.torch
import torch
from torch import Tensor

from wsl import PermutationSpec
from wsl.params import Params
from wsl.symmetry import (
    LinearMaps,
    Permutation,
    Place,
    Rescaling,
    SymmetryElement,
    UnitSymmetry,
    act_at,
)

NOISE = 0.5
"""Of the planted copy, in standard deviations of the weights."""


def turning(spec: PermutationSpec) -> PermutationSpec:
    """With the rotations of every layer, whose axes are (kv, q, positions) and (kv, positions)."""
    units = []
    for name, axes in spec.annotations:
        if name.endswith("q_proj.weight"):
            keys = name.replace("q_proj", "k_proj")
            places = (Place(name, 0, 0, 2), Place(keys, 0, 0, 1, -1))
            units.append(UnitSymmetry("rotation", axes[0][0][0], places, form="half"))
    return dataclasses.replace(spec, units=tuple(units))


def drawn_element(spec: PermutationSpec, seed: int) -> SymmetryElement:
    """A random permutation, and a random phase for every pair where the specification turns."""
    rng = torch.Generator().manual_seed(seed)
    permutation = Permutation.random(spec, rng)
    maps = LinearMaps(spec, tuple(v / v.abs() for v in LinearMaps.random(spec, rng).values))
    return SymmetryElement(permutation, Rescaling.identity(spec), maps)


def drawn(name: str, shape: tuple[int, ...], seed: int) -> Tensor:
    """Weights of one tensor, the same whenever they are drawn; gains of norms are near 1."""
    key = int.from_bytes(hashlib.sha256(f"{seed} {name}".encode()).digest()[:7], "little")
    values = torch.randn(shape, generator=torch.Generator().manual_seed(key))
    return 1 + 0.1 * values if len(shape) == 1 else 0.02 * values


class Named(NamedTuple):
    """A tensor of a file: the specification's own, or that of one expert of all that it names."""

    weight: str
    number: int = 0
    names: tuple[str, ...] = ()

    def axis(self, spec: PermutationSpec) -> int:
        """The axis of the specification's tensor on which the experts lie."""
        axes = spec.axes[self.weight]
        return next(i for i, axis in enumerate(axes) if str(axis[0][0]).startswith("expert"))

    def shape(self, spec: PermutationSpec) -> tuple[int, ...]:
        sizes = list(spec.shapes[self.weight])
        if self.names:
            sizes[self.axis(spec)] //= len(self.names)
        return tuple(sizes)


def tensors_of(spec: PermutationSpec) -> dict[str, Named]:
    """The tensors of a checkpoint by name: each expert has its own."""
    found: dict[str, Named] = {}
    for weight, axes in spec.annotations:
        head, experts, rest = weight.partition(".experts.")
        if not experts:
            found[weight] = Named(weight)
            continue
        first = next(str(axis[0][0]) for axis in axes if str(axis[0][0]).startswith("expert"))
        names = tuple(f"{head}.experts.{i}.{rest}" for i in range(spec.groups[first]))
        found |= {name: Named(weight, i, names) for i, name in enumerate(names)}
    return found


def plant(element: SymmetryElement, name: str, here: Named) -> Tensor:
    """One tensor of the planted copy: noise is added, then it is permuted, then turned."""
    spec, permutation = element.spec, element.permutation
    joined, source, index = -1, name, torch.empty(0)
    if here.names:
        joined, count = here.axis(spec), len(here.names)
        whole = permutation.axis_index(spec.axes[here.weight][joined]).reshape(count, -1)
        source = here.names[int(whole[here.number, 0]) // whole.shape[1]]
        index = whole[here.number] % whole.shape[1]
    shape = here.shape(spec)
    noise = drawn(source, shape, 1)
    weights = drawn(source, shape, 0) + NOISE * (noise - 1 if len(shape) == 1 else noise)
    for axis, of_axis in enumerate(spec.axes[here.weight]):
        along = index if axis == joined else permutation.axis_index(of_axis)
        weights = weights if along is None else weights.index_select(axis, along)
    for unit, value in zip(spec.units, element.maps.values, strict=True):
        for place in (each for each in unit.places if each.tensor == here.weight):
            weights = act_at(spec, unit, value, place=place)(weights, 0)
    return weights


def write(folder: Path, spec: PermutationSpec, element: SymmetryElement | None = None) -> None:
    """One checkpoint, shard by shard: embedding, every four layers, the head."""
    folder.mkdir(parents=True)
    tensors_in = tensors_of(spec)
    names = sorted(tensors_in, key=shard_of)
    shards = [[n for n in names if shard_of(n) == k] for k in sorted({shard_of(n) for n in names})]
    weight_map, total = {}, 0
    for number, inside in enumerate(shards, 1):
        file = f"model-{number:05}-of-{len(shards):05}.safetensors"
        tensors: Params = {}
        for name in inside:
            here = tensors_in[name]
            if element is None:
                tensor = drawn(name, here.shape(spec), 0)
            else:
                tensor = plant(element, name, here)
            tensors[name] = tensor.bfloat16().contiguous()
            weight_map[name], total = file, total + tensors[name].nbytes
        safetensors.torch.save_file(tensors, folder / file, {"format": "pt"})
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "config.json").write_text(json.dumps({"torch_dtype": "bfloat16"}))


def shard_of(name: str) -> int:
    parts = name.split(".")
    return 1 + int(parts[2]) // 4 if "layers" in parts else 0 if "embed" in name else 10**6


def shares_recovered(planted: Permutation, found: Permutation) -> dict[str, float]:
    """The share of planted indices that are undone: experts, the units inside them, all others."""
    back = found @ planted
    still = Permutation.identity(planted.spec)
    equal: dict[str, list[Tensor]] = {}
    for group in planted.spec.declared:
        of_expert = (group.per or "").startswith("expert")
        kind = "experts" if group.name.startswith("expert") else "units of experts"
        kind = kind if of_expert or group.name.startswith("expert") else "all others"
        same = back.indices[group.name] == still.indices[group.name]
        equal.setdefault(kind, []).append(same.float().flatten())
    return {kind: float(torch.cat(flags).mean()) for kind, flags in equal.items()}


def phase_errors(planted: SymmetryElement, found: SymmetryElement) -> Tensor:
    """How far from nothing what was planted and found turns each pair, in radians."""
    back = found @ planted
    return torch.cat([value.angle().abs().flatten() for value in back.maps.values])
