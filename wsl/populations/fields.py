"""`FieldPopulation`: one implicit neural representation per image, all fitted at once.

    min_theta_i  mean_p |f_theta_i(x_p) - image_i(x_p)|^2        full batch, Adam
    psnr_i = -10 log10(mean squared error)                       for pixels in [0, 1]

The INR data sets of Navon et al. (2023), arXiv 2301.12780, and Zhou et al. (2023), arXiv
2302.14040, were fitted one by one. Member i represents image i; each has its own start, since with
a shared one the weights could be read without knowing their symmetry.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wsl.base import Engine
from wsl.params import Params, on_device
from wsl.populations.architectures import build_architecture
from wsl.populations.recipes import Recipe, Rows, Trainer
from wsl.populations.stacked import (
    AdamW,
    MemberSettings,
    SharedSettings,
    Trained,
    build_schedule,
    initial_population,
    train_population,
)
from wsl.populations.tasks import Fields
from wsl.zoo import ZooError


@dataclasses.dataclass(frozen=True, kw_only=True)
class FieldPopulation(Recipe):
    """A zoo of implicit neural representations, member i of image i.

    ``lr`` is Adam's, the same for all. ``schedule`` describes what multiplies it over the steps,
    such as ``{_target_: wsl.zoo.Cosine}``. ``init_scale`` multiplies the initial weights and
    biases: the smaller, the more the image and the less the start decides where the weights end,
    and the better they can be read.
    """

    lr: float
    init_scale: float = 1.0
    schedule: Mapping[str, Any] = dataclasses.field(
        default_factory=lambda: {"_target_": "wsl.zoo.Constant"}
    )

    @property
    def columns(self) -> Mapping[str, type]:
        """Which image the member is of, and how well."""
        return {"label": int, "image": int, "loss": float, "psnr": float, "seed": int}

    def _check(self, data: Any) -> None:
        if not isinstance(data, Fields):
            raise ZooError(
                f"task: {self.task['_target_']} has no fields to fit; choose a task of fields"
            )
        if self.members > len(data.values):
            raise ZooError(
                f"members: {self.members} asked for, but the task has {len(data.values)} images, "
                "one for each member"
            )

    def _example_input(self, data: Any) -> Tensor:
        return data.coordinates

    def _trainer(self, data: Any, engine: Engine) -> Trainer:
        make = functools.partial(build_architecture, self.architecture)
        model = make()  # one for all chunks: what is compiled is kept by it

        def train(members: Tensor) -> Rows:
            seeds = self.seeds(members)
            drawn = initial_population(make, seeds.tolist())
            start = on_device(drawn, data.coordinates.device)
            trained = self._fitted(model, start, data.batch(members), engine=engine)
            own = {"label": data.labels[members], "image": members, "seed": seeds}
            metrics = _metrics(data, model, members, trained=trained)
            return Rows.of(trained, members, metrics=metrics, own=own)

        return train

    def _fitted(
        self, model: nn.Module, start: Params, batch: tuple[Tensor, Tensor], *, engine: Engine
    ) -> Trained:
        count = len(batch[0])
        return train_population(
            model,
            {name: tensor * self.init_scale for name, tensor in start.items()},
            F.mse_loss,
            batches=lambda _: batch,
            members=MemberSettings(
                lr=torch.full((count,), self.lr), weight_decay=torch.zeros(count)
            ),
            shared=SharedSettings(
                optimizer=AdamW(),
                steps=self.steps,
                snapshots=self.snapshots,
                schedule=build_schedule(self.schedule),
            ),
            engine=engine,
        )


def _metrics(
    data: Fields, model: nn.Module, members: Tensor, *, trained: Trained
) -> dict[str, Tensor]:
    """Of every snapshot, one after another."""
    metrics = [data.evaluate(model, params, members) for params in trained.snapshots]
    return {name: torch.cat([metric[name] for metric in metrics]) for name in metrics[0]}
