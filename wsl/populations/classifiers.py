"""`ClassifierPopulation`: classifiers of one architecture with hyper-parameters, start and data of
their own.

    log lr_i ~ U(log lr);   log wd_i ~ U(log wd);   log scale_i ~ U(log init_scale);   fraction_i ~
        U{data_fraction};   ...

After Unterthiner et al. (2020), arXiv 2002.11448: hyper-parameters wide enough that accuracies
spread, so that there is something to predict from weights. Activation and optimiser change the
computation, so members that share them are trained as one group. Train metrics are over the train
split (its first ``train_images``), whatever part the member saw.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from wsl.base import Engine
from wsl.params import on_device
from wsl.populations.architectures import build_architecture
from wsl.populations.recipes import Recipe, Rows, Trainer
from wsl.populations.stacked import (
    Trained,
    build_optimizer,
    build_schedule,
    check_log_uniform,
    check_share,
    choose,
    initial_population,
    log_uniform,
    train_population,
    uniform,
)
from wsl.populations.tasks import Classification, SampledBatches, build_augmentation
from wsl.zoo import ZooError

METRICS = ("train_loss", "train_accuracy", "test_loss", "test_accuracy")
Choices = Mapping[str, Any] | Sequence[Mapping[str, Any]]
"""One description, or a list of them."""
Hyper = dict[str, Any]
"""Per member: tensors (n,), and lists of n texts."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassifierPopulation(Recipe):
    """A zoo of classifiers.

    Pairs are ranges: ``lr``, ``weight_decay`` and ``init_scale`` log-uniform (equal ends for a
    constant, zeros for none), ``dropout`` and ``label_noise`` uniform. ``data_fraction``, ``init``,
    ``activation``, ``optimizer`` and ``schedule`` are lists of choices; no ``activation`` means the
    architecture's. ``replacement`` False reads epoch by epoch.
    """

    batch_size: int
    lr: tuple[float, float]
    weight_decay: tuple[float, float] = (0.0, 0.0)
    init_scale: tuple[float, float] = (1.0, 1.0)
    data_fraction: tuple[float, ...] = (1.0,)
    dropout: tuple[float, float] = (0.0, 0.0)
    label_noise: tuple[float, float] = (0.0, 0.0)
    init: tuple[str, ...] = ("own",)
    activation: tuple[str, ...] = ()
    optimizer: Choices = dataclasses.field(default_factory=lambda: {"_target_": "wsl.zoo.AdamW"})
    schedule: Choices = dataclasses.field(default_factory=lambda: {"_target_": "wsl.zoo.Constant"})
    augment: Mapping[str, Any] | None = None
    clip: float | None = None
    replacement: bool = True
    train_images: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("lr", "weight_decay", "init_scale"):
            check_log_uniform(name, getattr(self, name))
        check_share("dropout", self.dropout, below=0.99)
        check_share("label_noise", self.label_noise, below=1.0)

    @property
    def columns(self) -> Mapping[str, type]:
        """Metrics, and every hyper-parameter that the classic five are, or that differs between
        members.
        """
        kinds = {"lr": float, "weight_decay": float, "init_scale": float, "data_fraction": float}
        ranges = {name: float for name in ("dropout", "label_noise") if getattr(self, name)[1]}
        lists = {
            "init": self.init,
            "activation": self.activation,
            "optimizer": _listed(self.optimizer),
            "schedule": _listed(self.schedule),
        }
        texts = {name: str for name, options in lists.items() if len(options) > 1}
        return {**dict.fromkeys(METRICS, float), **kinds, **ranges, **texts, "seed": int}

    def hyper_parameters(self, members: Tensor) -> Hyper:
        """What each of ``members`` is trained with: numbers as tensors (n,), choices as lists of
        names.
        """
        fractions = torch.tensor(self.data_fraction, dtype=torch.float64)
        return {
            "lr": log_uniform(self.lr, self.draw(members, 1)),
            "weight_decay": log_uniform(self.weight_decay, self.draw(members, 2)),
            "init_scale": log_uniform(self.init_scale, self.draw(members, 3)),
            "data_fraction": fractions[(self.draw(members, 4) * len(fractions)).long()],
            "dropout": uniform(self.dropout, self.draw(members, 5)),
            "label_noise": uniform(self.label_noise, self.draw(members, 6)),
            "init": choose(self.init, self.draw(members, 7)),
            "activation": choose(self.activation or ("",), self.draw(members, 8)),
            "optimizer": choose(_names(self.optimizer), self.draw(members, 9)),
            "schedule": choose(_names(self.schedule), self.draw(members, 10)),
            "seed": self.seeds(members),
        }

    def _check(self, data: Any) -> None:
        if not isinstance(data, Classification):
            raise ZooError(
                f"task: {self.task['_target_']} has no classes to learn; choose a classification "
                "task"
            )

    def _example_input(self, data: Any) -> Tensor:
        return data.train.images[:2]

    def _trainer(self, data: Any, engine: Engine) -> Trainer:
        group = functools.lru_cache(maxsize=None)(functools.partial(_Group, self, data, engine))

        def train(members: Tensor) -> Rows:
            hyper = self.hyper_parameters(members)
            kinds = list(zip(hyper["activation"], hyper["optimizer"], strict=True))
            places = [
                torch.tensor([i for i, own in enumerate(kinds) if own == kind])
                for kind in sorted(set(kinds))
            ]
            parts = [
                group(*kinds[int(place[0])]).train(members[place], _select(hyper, place))
                for place in places
            ]
            return Rows.cat(parts)

        return train

    def _batches(self, data: Any, hyper: Hyper) -> Any:
        return SampledBatches(
            *data.train,
            seeds=hyper["seed"],
            batch_size=self.batch_size,
            fraction=hyper["data_fraction"],
            replacement=self.replacement,
            label_noise=hyper["label_noise"] if any(self.label_noise) else None,
            augment=None if self.augment is None else build_augmentation(self.augment),
        )

    def _evaluate(
        self, data: Any, model: torch.nn.Module, trained: Trained, hyper: Hyper
    ) -> dict[str, Tensor]:
        """Metrics of every snapshot, one after another."""
        del hyper
        found: dict[str, list[Tensor]] = {name: [] for name in METRICS}
        for params in trained.snapshots:
            for split, limit in (("train", self.train_images), ("test", None)):
                for name, value in data.evaluate(model, params, split, limit=limit).items():
                    found[f"{split}_{name}"].append(value)
        return {name: torch.cat(values) for name, values in found.items()}


class _Group:
    """Members that share activation and optimiser."""

    def __init__(
        self,
        recipe: ClassifierPopulation,
        data: Any,
        engine: Engine,
        activation: str,
        optimizer: str,
    ) -> None:
        own = {"activation": activation} if activation else {}
        self.recipe, self.data, self.engine = recipe, data, engine
        self.make = functools.partial(build_architecture, {**recipe.architecture, **own})
        self.model = self.make()
        self.optimizer = build_optimizer(
            _listed(recipe.optimizer)[_names(recipe.optimizer).index(optimizer)]
        )

    def train(self, members: Tensor, hyper: Hyper) -> Rows:
        recipe = self.recipe
        drawn = initial_population(
            self.make, hyper["seed"].tolist(), scale=hyper["init_scale"], scheme=hyper["init"]
        )
        start = on_device(drawn, self.data.train.images.device)
        schedules = dict(
            zip(_names(recipe.schedule), map(build_schedule, _listed(recipe.schedule)), strict=True)
        )
        trained = train_population(
            self.model,
            start,
            F.cross_entropy,
            batches=recipe._batches(self.data, hyper),
            optimizer=self.optimizer,
            lr=hyper["lr"],
            weight_decay=hyper["weight_decay"],
            steps=recipe.steps,
            snapshots=recipe.snapshots,
            schedule=[schedules[name] for name in hyper["schedule"]]
            if len(schedules) > 1
            else next(iter(schedules.values())),
            clip=recipe.clip,
            dropout=hyper["dropout"] if any(recipe.dropout) else None,
            seeds=hyper["seed"],
            engine=self.engine,
        )
        metrics = recipe._evaluate(self.data, self.model, trained, hyper)
        return Rows.of(
            trained,
            members,
            metrics,
            {name: hyper[name] for name in recipe.columns if name in hyper},
        )


def _select(hyper: Hyper, place: Tensor) -> Hyper:
    return {
        name: value[place] if isinstance(value, Tensor) else [value[i] for i in place.tolist()]
        for name, value in hyper.items()
    }


def _listed(choices: Choices) -> list[Mapping[str, Any]]:
    return [choices] if isinstance(choices, Mapping) else list(choices)


def _names(choices: Choices) -> list[str]:
    """What a column says of a description: ``SGD(momentum=0.9)``."""

    def said(description: Mapping[str, Any]) -> str:
        arguments = ", ".join(f"{k}={v}" for k, v in description.items() if k != "_target_")
        return f"{description['_target_'].rpartition('.')[2]}({arguments})"

    return [said(description) for description in _listed(choices)]
