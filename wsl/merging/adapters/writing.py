"""Adapters as PEFT folders: factors with a scale of one, so that all readers agree."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from wsl.base import replacing
from wsl.merging.adapters.parts import AdapterParts


def write(adapter: AdapterParts, folder: Path) -> None:
    """A folder of adapter_config.json and adapter_model.safetensors.

    Raises ValueError for what the format cannot say: biases and whole tensors.
    """
    for name in (*adapter.biases, *adapter.tensors):
        raise ValueError(f"{name}: is no low-rank change, and only those are written; apply it")
    if not adapter.changes:
        raise ValueError("the adapter changes nothing, so there is nothing to write")
    tensors: dict[str, Tensor] = {}
    for name in adapter.changes:
        stem = "base_model.model." + name.removesuffix(".weight")
        tensors |= {f"{stem}.{part}": tensor for part, tensor in _parts(adapter, name)}
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / "adapter_model.safetensors") as temporary:
        save_file(tensors, temporary, {"format": "pt"})
    with replacing(folder / "adapter_config.json") as temporary:
        temporary.write_text(json.dumps(_config(adapter), indent=1))


def _parts(adapter: AdapterParts, name: str) -> Iterator[tuple[str, Tensor]]:
    """PEFT's tensors for the change of one weight, a convolution's with its kernel in A."""
    change = adapter.changes[name]
    b = change.b * change.scale
    yield "lora_A.weight", change.a.view(change.rank, *change.shape[1:]).contiguous()
    yield "lora_B.weight", b.view(*b.shape, *[1] * len(change.shape[2:])).contiguous()
    if name in adapter.magnitudes:
        yield "lora_magnitude_vector", adapter.magnitudes[name].contiguous()


def _config(adapter: AdapterParts) -> dict[str, object]:
    """What PEFT needs to load it; alpha equals the rank of each module, so that scales are one."""
    ranks = {name.removesuffix(".weight"): c.rank for name, c in adapter.changes.items()}
    usual = max(ranks.values())
    others = {module: rank for module, rank in ranks.items() if rank != usual}
    return {
        "peft_type": "LORA",
        "task_type": None,
        "base_model_name_or_path": None,
        "r": usual,
        "lora_alpha": usual,
        "rank_pattern": others,
        "alpha_pattern": others,
        "target_modules": sorted(ranks),
        "bias": "none",
        "use_dora": bool(adapter.magnitudes),
        "inference_mode": True,
    }
