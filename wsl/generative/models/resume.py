"""The state of a fit on file, so that a run that was stopped ends where one in a piece does.

Network, average, optimiser, schedule and random numbers, as one safetensors file without pickle.
Numbers that are no tensors stand in its metadata; JSON keeps every float exactly.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from wsl.base import replacing

FORMAT = "wsl.FitState"


@dataclasses.dataclass(frozen=True, eq=False)
class FitState:
    """What `read` brings back and `write` keeps; false where there is no file to keep it in."""

    path: Path | None
    network: nn.Module
    average: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: Any

    def __bool__(self) -> bool:
        return self.path is not None

    def read(self, rng: torch.Generator) -> int:
        """The steps that are done: 0 without a file; raises ValueError for a file of another fit.

        ``rng`` goes on from where it was.
        """
        if self.path is None or not self.path.exists():
            return 0
        with safetensors.safe_open(self.path, "pt") as file:
            about = json.loads((file.metadata() or {}).get("wsl", "{}"))
        tensors = safetensors.torch.load_file(self.path)
        mine = {n: t.shape for n, t in self._modules().items()}
        same = {n: tensors[n].shape for n in mine if n in tensors} == mine
        if about.get("format") != FORMAT or not same:
            raise ValueError(
                f"{self.path}: not the state of a fit of this model; choose another checkpoint or "
                "delete the file"
            )
        for name, tensor in self._modules().items():
            tensor.copy_(tensors[name])
        self.optimizer.load_state_dict(
            {"state": _nested(tensors), "param_groups": about["param_groups"]}
        )
        self.schedule.load_state_dict(about["schedule"])
        rng.set_state(tensors["rng"])
        return int(about["step"])

    def write(self, step: int, rng: torch.Generator) -> None:
        """Replace the file, once the new one is whole."""
        if self.path is None:
            return
        state = self.optimizer.state_dict()
        tensors = {name: tensor.clone() for name, tensor in self._modules().items()}
        for i, values in state["state"].items():
            tensors |= {f"optimizer/{i}/{key}": value for key, value in values.items()}
        about = {
            "format": FORMAT,
            "step": step,
            "param_groups": state["param_groups"],
            "schedule": self.schedule.state_dict(),
        }
        with replacing(self.path) as temporary:
            safetensors.torch.save_file(
                {**tensors, "rng": rng.get_state()}, temporary, {"wsl": json.dumps(about)}
            )

    def _modules(self) -> dict[str, Tensor]:
        parts = {"network": self.network, "average": self.average}
        return {
            f"{part}/{name}": tensor
            for part, module in parts.items()
            for name, tensor in module.state_dict().items()
        }


def _nested(tensors: Mapping[str, Tensor]) -> dict[int, dict[str, Tensor]]:
    """optimizer/3/exp_avg and the like, by parameter and name."""
    found: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimizer/"):
            _, index, key = name.split("/")
            found.setdefault(int(index), {})[key] = tensor
    return found


def check_positive(settings: Any, *names: str) -> None:
    """Raise ValueError for the first of these fields of a training that is not above 0."""
    for name in names:
        if not getattr(settings, name) > 0:
            raise ValueError(f"{name}: {getattr(settings, name)}, but it must be above 0")
