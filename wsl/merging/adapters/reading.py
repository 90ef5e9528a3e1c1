"""Adapters from files: PEFT folders and single files, every key used or named.

The scale s of B A is alpha / r, with rank-stabilised LoRA (Kalajdzievski 2023, arXiv 2312.03732)
alpha / sqrt(r), with ``alpha_pattern`` for each module, and 1 where a file says nothing, as its
writers mean it.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from wsl.merging.adapters.lowrank import LowRank, total
from wsl.merging.adapters.parts import AdapterParts
from wsl.merging.adapters.styles import parsed, stripped
from wsl.params import Params
from wsl.zoo import read_checkpoint

CONFIG = "adapter_config.json"
WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
_SPECTRAL = ("pissa", "olora", "corda", "eva")
_READABLE = ("LORA", "")


def read(path: Path) -> AdapterParts:
    """See `Adapter.load`; the initial part of kinds that need one is not yet taken off."""
    config = _config(path)
    file = _weights_of(path)
    tensors = dict(read_checkpoint(file)[0])
    modules, rest = _sorted(tensors, path)
    parts: dict[str, Any] = {"changes": {}, "magnitudes": {}, "biases": {}}
    for module, own in modules.items():
        _add(parts, module, own, config=config)
    return AdapterParts(
        **parts, tensors=_whole(rest, config, path), kind=_kind(config, parts), source=str(path)
    )


def without(found: AdapterParts, initial: AdapterParts | None) -> AdapterParts:
    """The change since the start, of kinds that begin at the base's own singular vectors."""
    if initial is None:
        if found.kind.lower() in _SPECTRAL:
            raise ValueError(
                f"{found.source}: {found.kind} begins at singular vectors of the base, so its "
                "change is the difference to its start: give the adapter as it was before "
                "training as initial"
            )
        return found
    if set(initial.changes) != set(found.changes):
        only = sorted(set(initial.changes) ^ set(found.changes))[0]
        raise ValueError(f"{only}: only one of the adapter and its initial one has it")
    changes = {n: total([c, initial.changes[n]], [1, -1]) for n, c in found.changes.items()}
    return dataclasses.replace(found, changes=changes)


def _config(path: Path) -> Mapping[str, Any]:
    """A PEFT folder's configuration; a single file has none."""
    if not path.exists():
        raise ValueError(f"{path}: does not exist")
    if not path.is_dir():
        return {}
    try:
        config = json.loads((path / CONFIG).read_text())
    except OSError:
        raise ValueError(f"{path}: is no adapter folder: it has no {CONFIG}") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"{path / CONFIG}: is not JSON ({error})") from None
    if str(config.get("peft_type", "")).upper() not in _READABLE:
        raise ValueError(
            f"{path}: is an adapter of kind {config['peft_type']}, whose change is no low-rank "
            "sum of two factors; merge it into its base with the tool that made it"
        )
    return config


def _weights_of(path: Path) -> Path:
    if not path.is_dir():
        return path
    for name in WEIGHTS:
        if (path / name).exists():
            return path / name
    raise ValueError(f"{path}: has a configuration, but neither {' nor '.join(WEIGHTS)}")


def _sorted(tensors: Params, path: Path) -> tuple[dict[str, dict[str, Tensor]], Params]:
    """The parts of every module's change, and the tensors that are no part of one."""
    modules: dict[str, dict[str, Tensor]] = {}
    rest: Params = {}
    for name, tensor in tensors.items():
        key = parsed(name)
        if key is None:
            rest[name] = tensor
        elif key.part in modules.setdefault(key.module, {}):
            raise ValueError(f"{path}: {name} names a part of {key.module} that another key names")
        else:
            modules[key.module][key.part] = tensor
    if not modules:
        raise ValueError(f"{path}: none of its {len(tensors)} keys names a low-rank factor")
    return modules, rest


def _add(
    parts: dict[str, Any], module: str, own: Mapping[str, Tensor], *, config: Mapping[str, Any]
) -> None:
    a, b = _pair(module, own)
    scale = _scale(module, own, config, rank=a.shape[0])
    weight, transposed = f"{module}.weight", bool(config.get("fan_in_fan_out"))
    parts["changes"][weight] = _factors(a, b, scale, transposed=transposed)
    if "magnitude" in own and (transposed or "embedding a" in own):
        raise ValueError(
            f"{module}: has a magnitude and a transposed weight, which is not read; merge the "
            "adapter into its base with the tool that made it"
        )
    if "magnitude" in own:
        parts["magnitudes"][weight] = own["magnitude"].flatten()
    if "bias" in own:
        parts["biases"][f"{module}.bias"] = own["bias"] * scale


def _pair(module: str, own: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """A and B of a module; raises ValueError if one of them is missing."""
    embedding = "embedding a" in own
    a, b = (own.get(f"embedding {part}" if embedding else part) for part in "ab")
    if a is None or b is None:
        raise ValueError(f"{module}: has one of the two factors A and B, but not the other")
    # an embedding's weight is (tokens, width): its change is A^T B^T
    return (b.mT, a.mT) if embedding else (a, b)


def _factors(a: Tensor, b: Tensor, scale: float, *, transposed: bool) -> LowRank:
    """Factors of a matrix, or of a convolution (r, in, k, k) and (out, r, 1, 1)."""
    if transposed and a.dim() == 2:  # weights (in, out), as GPT-2 has them
        a, b = b.mT, a.mT
    shape = (b.shape[0], *a.shape[1:])
    return LowRank(b.flatten(1), a.flatten(1), scale, shape)


def _scale(
    module: str, own: Mapping[str, Tensor], config: Mapping[str, Any], *, rank: int
) -> float:
    if "alpha" in own:
        return float(own["alpha"]) / rank
    if not config:
        return 1.0
    alpha = _by_pattern(module, config.get("alpha_pattern")) or config.get("lora_alpha", rank)
    return float(alpha) / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _by_pattern(module: str, patterns: Mapping[str, Any] | None) -> Any:
    """PEFT's rule: a pattern is the end of a module's name, or a regular expression for it."""
    for pattern, value in (patterns or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            return value
    return None


def _whole(rest: Params, config: Mapping[str, Any], path: Path) -> Params:
    """Tensors that replace the base's; raises ValueError for keys that nothing explains."""
    saved = [str(name) for name in config.get("modules_to_save") or ()]
    found: Params = {}
    for name, tensor in rest.items():
        plain = stripped(name).replace(".modules_to_save", "").replace(".default", "")
        is_bias = plain.endswith(".bias") and config.get("bias", "none") != "none"
        if not is_bias and not any(f".{module}." in f".{plain}" for module in saved):
            raise ValueError(
                f"{path}: key {name} is no part of a low-rank change and no module that the "
                "adapter saves; nothing was read, since no key may be dropped"
            )
        found[plain] = tensor
    return found


def _kind(config: Mapping[str, Any], parts: Mapping[str, Any]) -> str:
    started = str(config.get("init_lora_weights", "")).lower()
    if started.startswith(_SPECTRAL):
        return next(kind for kind in ("PiSSA", "OLoRA", "CorDA", "EVA") if kind.lower() in started)
    if parts["magnitudes"]:
        return "DoRA"
    return "rsLoRA" if config.get("use_rslora") else "LoRA"
