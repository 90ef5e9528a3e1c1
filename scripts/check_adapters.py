"""Adapters written by the package peft, read here: the same network, and sums that are exact.

    pip install peft            (in an environment of its own)
    python scripts/check_adapters.py

For each kind: peft's own merged weights beside `Adapter.load(...).apply(base)`; then two adapters
with weights (0.6, -0.4): our sum beside the dense one, and what peft's own combination gives.
"""

from __future__ import annotations

import copy
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wsl.merging.adapters import Adapter, combine


class Network(nn.Module):
    """An embedding, a convolution and two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(11, 8)
        self.conv = nn.Conv1d(8, 8, 3, padding=1)
        self.image = nn.Conv2d(1, 6, 3)
        self.up = nn.Linear(8, 16)
        self.down = nn.Linear(16, 8)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 7) tokens to (N, 5)."""
        h = self.conv(self.tokens(x).mT).mT
        h = h + self.down(torch.relu(self.up(h)))
        picture = self.image(h[:, None]).mean((1, 2, 3), keepdim=True)[..., 0]
        return self.head((h + picture).mean(1))


KINDS: Mapping[str, dict[str, Any]] = {
    "LoRA": {"target_modules": ["up", "down"]},
    "rsLoRA": {"target_modules": ["up", "down"], "use_rslora": True},
    "patterns": {
        "target_modules": ["up", "down"],
        "alpha_pattern": {"up": 3},
        "rank_pattern": {"down": 2},
    },
    "embedding": {"target_modules": ["tokens", "up"]},
    "convolution": {"target_modules": ["image", "conv", "up"]},
    "bias of B": {"target_modules": ["up"], "lora_bias": True},
    "DoRA": {"target_modules": ["up", "down"], "use_dora": True},
    "saved modules": {"target_modules": ["up"], "modules_to_save": ["head"]},
}


def trained(base: nn.Module, settings: dict[str, Any], seed: int) -> Any:
    """The base with an adapter whose tensors are random, as after training."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    model = get_peft_model(copy.deepcopy(base), LoraConfig(r=4, lora_alpha=8, **settings))
    for name, tensor in model.named_parameters():
        if tensor.requires_grad:
            tensor.data += 0.1 * torch.randn_like(tensor) * (2 if "lora_B" in name else 1)
    return model


def error(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> float:
    """The largest difference of any entry."""
    return max(float((found[n] - expected[n]).abs().max()) for n in found)


def one(folder: Path, kind: str, base: nn.Module) -> tuple[float, str]:
    """The difference to peft's own merge of one adapter."""
    model = trained(base, dict(KINDS[kind]), seed=1)
    model.save_pretrained(folder)
    expected = model.merge_and_unload().state_dict()
    adapter = Adapter.load(folder)
    found = adapter.apply(base.state_dict()).params
    return error(found, expected), adapter.kind


def two(folder: Path, base: nn.Module) -> tuple[float, float]:
    """Ours and peft's ``linear`` beside the dense sum of two adapters with weights 0.6 and -0.4."""
    settings = dict(KINDS["LoRA"])
    models = [trained(base, settings, seed) for seed in (1, 2)]
    for i, model in enumerate(models):
        model.save_pretrained(folder / str(i))
    weights = [0.6, -0.4]
    start = base.state_dict()
    own = [m.merge_and_unload().state_dict() for m in map(copy.deepcopy, models)]
    expected = {
        n: t + sum(w * (o[n] - t) for w, o in zip(weights, own, strict=True))
        for n, t in start.items()
    }
    adapters = [Adapter.load(folder / str(i)) for i in range(2)]
    ours = combine(adapters, weights).apply(start).params
    joined = models[0]
    joined.load_adapter(str(folder / "1"), "second")
    joined.add_weighted_adapter(["default", "second"], weights, "both", combination_type="linear")
    joined.set_adapter("both")
    theirs = joined.merge_and_unload(adapter_names=["both"]).state_dict()
    return error(ours, expected), error(theirs, expected)


def main() -> None:
    """Print the differences; exit 1 if one of ours exceeds 1e-6 times the size of the weights."""
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    base = Network()
    worst = 0.0
    with tempfile.TemporaryDirectory() as scratch:
        for i, kind in enumerate(KINDS):
            difference, name = one(Path(scratch) / str(i), kind, base)
            worst = max(worst, difference)
            print(f"{kind:<14} read as {name:<7} largest difference to peft {difference:.1e}")
        ours, theirs = two(Path(scratch) / "sum", base)
        print(f"0.6 a - 0.4 b  ours to the dense sum {ours:.1e}; peft's linear {theirs:.1e}")
    if max(worst, ours) > 2e-6:
        raise SystemExit("an adapter is not read as peft means it")


if __name__ == "__main__":
    main()
