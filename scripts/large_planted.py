"""Checkpoints for `large_match.py`: random weights, and a copy in which an element is planted.

Every tensor is drawn by its name, so that neither checkpoint is ever in memory as a whole.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

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


def plant(element: SymmetryElement, name: str, weights: Tensor) -> Tensor:
    """One tensor of the planted copy, before noise: permuted, then turned."""
    for axis, of_axis in enumerate(element.spec.axes[name]):
        if (index := element.permutation.axis_index(of_axis)) is not None:
            weights = weights.index_select(axis, index)
    for unit, value in zip(element.spec.units, element.maps.values, strict=True):
        for place in (each for each in unit.places if each.tensor == name):
            weights = act_at(element.spec, unit, value, place=place)(weights, 0)
    return weights


def write(folder: Path, spec: PermutationSpec, element: SymmetryElement | None = None) -> None:
    """One checkpoint, shard by shard: embedding, every four layers, the head."""
    folder.mkdir(parents=True)
    names = sorted(spec.axes, key=shard_of)
    shards = [[n for n in names if shard_of(n) == k] for k in sorted({shard_of(n) for n in names})]
    weight_map, total = {}, 0
    for number, inside in enumerate(shards, 1):
        file = f"model-{number:05}-of-{len(shards):05}.safetensors"
        tensors: Params = {}
        for name in inside:
            tensor = drawn(name, tuple(spec.shapes[name]), 0)
            if element is not None:
                noise = drawn(name, tuple(tensor.shape), 1)
                noise = noise - 1 if tensor.dim() == 1 else noise
                tensor = plant(element, name, tensor + NOISE * noise)
            tensors[name] = tensor.bfloat16().contiguous()
            weight_map[name], total = file, total + tensors[name].nbytes
        safetensors.torch.save_file(tensors, folder / file, {"format": "pt"})
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "config.json").write_text(json.dumps({"torch_dtype": "bfloat16"}))


def shard_of(name: str) -> int:
    parts = name.split(".")
    return 1 + int(parts[2]) // 4 if "layers" in parts else 0 if "embed" in name else 10**6


def share_recovered(planted: Permutation, found: Permutation) -> float:
    back = found @ planted
    still = Permutation.identity(planted.spec)
    equal = [(back.indices[n] == still.indices[n]).float().flatten() for n in back.indices]
    return float(torch.cat(equal).mean())


def phase_errors(planted: SymmetryElement, found: SymmetryElement) -> Tensor:
    """How far from nothing what was planted and found turns each pair, in radians."""
    back = found @ planted
    return torch.cat([value.angle().abs().flatten() for value in back.maps.values])
