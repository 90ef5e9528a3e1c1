"""Load a trained functional of the package by its name.

Each is a folder: weights as safetensors, and what they are of (`about.json`: network, objective,
specification, what it was trained on and what it scores, licence, SHA-256 of the weights) with a
card in words. It reads networks of that one architecture. Nothing is unpickled.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

import wsl.nn
from wsl.base import did_you_mean
from wsl.params import Params
from wsl.symmetry import PermutationSpec
from wsl.training import objectives

_HERE = Path(__file__).parent
PRETRAINED = tuple(sorted(path.parent.name for path in _HERE.glob("*/about.json")))
"""Names that `pretrained` knows."""


@dataclasses.dataclass(frozen=True, eq=False)
class Pretrained:
    """A trained functional in evaluation mode, what it was trained to say, and on what.

    about: ``architecture``, ``trained_on``, ``test`` scores, ``licence`` and more.
    """

    network: nn.Module
    objective: Any
    spec: PermutationSpec
    about: Mapping[str, Any]

    @torch.no_grad()
    def predict(self, params: Params) -> Tensor:
        """What it says of one network, or of stacked ones (N, ...): a score or label each.

        Raises `SpecError` for weights of another architecture.
        """
        lead = self.spec.validate(params)
        rows = params if lead else {name: tensor[None] for name, tensor in params.items()}
        said = self.objective.predict(self.network(rows))
        return said if lead else said[0]


def pretrained(name: str) -> Pretrained:
    """The functional of that name; raises ValueError for one that does not exist or is damaged."""
    if name not in PRETRAINED:
        hint = did_you_mean(name, PRETRAINED)
        raise ValueError(f"pretrained: no '{name}'{hint}; there are {', '.join(PRETRAINED)}")
    about = json.loads((_HERE / name / "about.json").read_text())
    content = (_HERE / name / "network.safetensors").read_bytes()
    if hashlib.sha256(content).hexdigest() != about["sha256"]:
        raise ValueError(f"pretrained: the weights of '{name}' are damaged; install wsl again")
    spec = PermutationSpec.parse(about["specification"])
    objective = _made(objectives, about["objective"])
    with torch.random.fork_rng(devices=[]):
        network = _made(wsl.nn, about["network"], spec, out_features=objective.out_features)
    network.load_state_dict(safetensors.torch.load(content))
    return Pretrained(network.eval(), objective, spec, about)


def _made(room: Any, described: Mapping[str, Any], *given: Any, **more: Any) -> Any:
    arguments = {key: value for key, value in described.items() if key != "class"}
    return getattr(room, described["class"])(*given, **arguments, **more)
