"""`ClassifierPopulation`: classifiers of one architecture with a learning rate, weight decay, start and data of their own.

    log lr_i ~ U(log lr);   log wd_i ~ U(log wd);   log scale_i ~ U(log init_scale);   fraction_i ~ U{data_fraction}

After Unterthiner et al. (2020), arXiv 2002.11448: hyper-parameters wide enough that accuracies spread, so that there is
something to predict from weights. Train metrics are over the whole train split, whatever part the member saw.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from wsl.zoo.architectures import build_architecture
from wsl.zoo.engine import Engine
from wsl.zoo.error import ZooError
from wsl.zoo.optimizers import build_optimizer
from wsl.zoo.batches import SampledBatches
from wsl.zoo.population import train_population
from wsl.zoo.start import initial_population
from wsl.zoo.recipes import Recipe, Rows, Trainer

METRICS = ("train_loss", "train_accuracy", "test_loss", "test_accuracy")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassifierPopulation(Recipe):
    """A zoo of classifiers; ranges are (low, high), sampled log-uniformly, equal ends for a constant, zeros for none."""

    batch_size: int
    lr: tuple[float, float]
    weight_decay: tuple[float, float] = (0.0, 0.0)
    init_scale: tuple[float, float] = (1.0, 1.0)
    data_fraction: tuple[float, ...] = (1.0,)
    optimizer: Mapping[str, Any] = dataclasses.field(default_factory=lambda: {"_target_": "wsl.zoo.AdamW"})

    columns: ClassVar[Mapping[str, type]] = {**dict.fromkeys(METRICS, float), "lr": float, "weight_decay": float,
                                             "init_scale": float, "data_fraction": float, "seed": int}  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("lr", "weight_decay", "init_scale"):
            low, high = getattr(self, name)
            if not (0 < low <= high or low == high == 0):
                raise ZooError(f"{name}: the range ({low}, {high}) must have 0 < low <= high, or be (0, 0)")

    def hyper_parameters(self, members: Tensor) -> dict[str, Tensor]:
        """lr, weight_decay, init_scale, data_fraction and seed of each of ``members``, all (n,)."""
        choices = torch.tensor(self.data_fraction, dtype=torch.float64)
        return {"lr": _log_uniform(self.lr, self.draw(members, 1)),
                "weight_decay": _log_uniform(self.weight_decay, self.draw(members, 2)),
                "init_scale": _log_uniform(self.init_scale, self.draw(members, 3)),
                "data_fraction": choices[(self.draw(members, 4) * len(choices)).long()],
                "seed": self.seeds(members)}  # fmt: skip

    def _example_input(self, data: Any) -> Tensor:
        return data.train.images[:2]

    def _trainer(self, data: Any, engine: Engine) -> Trainer:
        make = functools.partial(build_architecture, self.architecture)
        model, optimizer = make(), build_optimizer(self.optimizer)

        def train(members: Tensor) -> Rows:
            hyper = self.hyper_parameters(members)
            start = initial_population(make, hyper["seed"].tolist(), scale=hyper["init_scale"])
            batches = SampledBatches(*data.train, seeds=hyper["seed"], batch_size=self.batch_size,
                                     fraction=hyper["data_fraction"])  # fmt: skip
            trained = train_population(model, start, F.cross_entropy, batches=batches, optimizer=optimizer, lr=hyper["lr"],
                                       weight_decay=hyper["weight_decay"], steps=self.steps, snapshots=self.snapshots,
                                       seeds=hyper["seed"], engine=engine)  # fmt: skip
            metrics: dict[str, list[Tensor]] = {name: [] for name in METRICS}
            for params in trained.snapshots:
                for split in ("train", "test"):
                    for name, value in data.evaluate(model, params, split).items():
                        metrics[f"{split}_{name}"].append(value)
            return Rows.of(trained, members, {name: torch.cat(values) for name, values in metrics.items()}, hyper)

        return train


def _log_uniform(bounds: tuple[float, float], u: Tensor) -> Tensor:
    low, high = bounds
    return torch.full_like(u, low) if low == high else low * (high / low) ** u
