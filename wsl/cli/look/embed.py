"""What a trained functional sees of every row: the input of its last linear layer.

A functional that `wsl train` left is run over the rows; of the linear layers that ran with one
vector for each row, the last one's input is its embedding.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from wsl.cli.targets import ConfigError, locate
from wsl.zoo import Checkpoints

_BATCH = 256


def embeddings(run: str | Path, zoo: Checkpoints) -> Tensor:
    """Embeddings (N, F) of the rows of ``zoo`` by the functional in the folder ``run``.

    Raises `ConfigError` for a functional of another architecture, and for one that gives weights or
    reads columns beside them.
    """
    from wsl.cli.evaluate import load_weights
    from wsl.cli.train import build_network, build_objective  # Hydra, which no other page needs

    config = _config(run)
    network = build_network(config, zoo, build_objective(config, zoo, None))
    load_weights(network, Path(run) / "network.safetensors")
    return torch.cat([_seen(network, zoo, rows) for rows in _batches(len(zoo))])


def _config(run: str | Path) -> dict[str, Any]:
    """The configuration of a functional of weights alone that gives numbers."""
    trained = json.loads((Path(run) / "result.json").read_text())
    config = trained["config"]
    kind = locate(config["objective"]["_target_"])
    if "columns" in trained or kind.out_features is None:
        what = "reads columns beside them" if "columns" in trained else "gives weights"
        raise ConfigError(
            f"--embed {run}: embeddings are of functionals that read weights alone and give "
            f"numbers, but this one {what}"
        )
    return config


def _batches(count: int) -> list[np.ndarray]:
    return [np.arange(start, min(start + _BATCH, count)) for start in range(0, count, _BATCH)]


@torch.no_grad()
def _seen(network: nn.Module, zoo: Checkpoints, rows: np.ndarray) -> Tensor:
    """The input (B, F) of the last linear layer that runs on vectors; else the output."""
    seen: list[Tensor] = []

    def keep(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if inputs[0].shape[:-1] == (len(rows),):
            seen.append(inputs[0])

    layers = [module for module in network.modules() if isinstance(module, nn.Linear)]
    hooks = [layer.register_forward_pre_hook(keep) for layer in layers]
    try:
        output = network.eval()(zoo.read(rows)[0])
    finally:
        for hook in hooks:
            hook.remove()
    return (seen[-1] if seen else output.flatten(1)).float()
