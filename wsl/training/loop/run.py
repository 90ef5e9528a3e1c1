"""What survives an interruption of a training run: weights, the best ones so far, the optimiser, a
row for each epoch.

    last.pt = (identity, theta, theta*, optimiser, history)

The file is replaced once the new one is whole. It is read back only for the same settings,
objective, network and zoo, which the identity tells; everything random is a function of seed and
epoch, so nothing else need be kept.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from wsl.base import replacing
from wsl.training.objectives import Objective
from wsl.zoo import Checkpoints


class Run:
    """The state of a run; saved to ``path`` after each epoch, if there is one."""

    def __init__(
        self,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        patience: int | None,
        *,
        path: Path | None,
        identity: str,
    ) -> None:
        self.network, self.optimizer, self.patience, self.path, self.identity = (
            network,
            optimizer,
            patience,
            path,
            identity,
        )
        self.history: list[dict[str, float]] = []
        self.best = copy(network)
        self.best_epoch, self.best_score = -1, -math.inf

    @property
    def epoch(self) -> int:
        """Number of epochs done."""
        return len(self.history)

    @property
    def stopped(self) -> bool:
        """Whether the validation score has not risen for ``patience`` epochs."""
        return self.patience is not None and self.epoch - 1 - self.best_epoch >= self.patience

    def record(self, loss: float, scores: Mapping[str, float], score: float) -> None:
        """An epoch is done: keep its weights if ``score`` is the best, and save."""
        if score > self.best_score or self.best_epoch < 0:
            self.best, self.best_epoch, self.best_score = copy(self.network), self.epoch, score
        self.history.append(
            {
                "epoch": self.epoch,
                "train_loss": loss,
                **{f"val_{name}": v for name, v in scores.items()},
            }
        )
        if self.path is not None:
            self._save(self.path)

    def _save(self, path: Path) -> None:
        state = {
            "identity": self.identity,
            "network": self.network.state_dict(),
            "best": self.best,
            "optimizer": self.optimizer.state_dict(),
            "history": self.history,
            "best_epoch": self.best_epoch,
            "best_score": self.best_score,
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            torch.save(state, temporary)

    def resume(self) -> None:
        """Go on from the file, if there is one; raises ValueError if it is of another run."""
        if self.path is None or not self.path.exists():
            return
        state = torch.load(self.path, weights_only=True, map_location="cpu")
        if state.get("identity") != self.identity:
            raise ValueError(
                f"{self.path} belongs to another run (other settings, network, objective or zoo); "
                "choose another folder or delete the file"
            )
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.history, self.best = state["history"], state["best"]
        self.best_epoch, self.best_score = state["best_epoch"], state["best_score"]


def identity(
    network: nn.Module, zoo: Checkpoints, objective: Objective, *, settings: object
) -> str:
    """What a saved state belongs to: settings, objective, the network's tensors and columns, the
    zoo's rows and origin.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    columns = getattr(network, "columns", None)
    return repr(
        (
            settings,
            objective,
            type(network).__name__,
            shapes,
            columns,
            str(zoo.spec),
            len(zoo),
            zoo.provenance,
        )
    )


def copy(network: nn.Module) -> dict[str, Tensor]:
    """Tensors of a network, on the CPU."""
    return {name: tensor.detach().cpu().clone() for name, tensor in network.state_dict().items()}
