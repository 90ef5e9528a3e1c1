"""What survives an interruption of a training run: weights, the best so far, a row for each epoch.

    last.pt = (identity, theta, theta*, optimiser, history)

It is read back only for the same settings, objective, network and zoo, which the identity tells.
Everything random is a function of seed and epoch, so nothing else need be kept.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from wsl.training.columns import read_columns
from wsl.training.loop.minibatch import Saved
from wsl.training.objectives import Objective
from wsl.zoo import Checkpoints


class Run:
    """The state of a run; written to ``saved`` after each epoch."""

    def __init__(
        self,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        saved: Saved,
        *,
        patience: int | None = None,
    ) -> None:
        self.network, self.optimizer = network, optimizer
        self.saved, self.patience = saved, patience
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
        named = {f"val_{name}": value for name, value in scores.items()}
        self.history.append({"epoch": self.epoch, "train_loss": loss, **named})
        self.saved.write(
            {
                "network": self.network.state_dict(),
                "best": self.best,
                "optimizer": self.optimizer.state_dict(),
                "history": self.history,
                "best_epoch": self.best_epoch,
                "best_score": self.best_score,
            }
        )

    def resume(self) -> None:
        """Go on from the file, if there is one; raises ValueError if it is of another run."""
        state = self.saved.read()
        if state is None:
            return
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.history, self.best = state["history"], state["best"]
        self.best_epoch, self.best_score = state["best_epoch"], state["best_score"]


def identity(
    network: nn.Module, zoo: Checkpoints, objective: Objective, *, settings: object
) -> str:
    """Settings, objective, the network's tensors and columns, the zoo's rows and origin."""
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    reader = (type(network).__name__, shapes, read_columns(network))
    return repr((settings, objective, *reader, str(zoo.spec), len(zoo), zoo.provenance))


def copy(network: nn.Module) -> dict[str, Tensor]:
    """Tensors of a network, on the CPU."""
    return {name: tensor.detach().cpu().clone() for name, tensor in network.state_dict().items()}
