"""`ClassifierPopulation`: classifiers of one architecture, each with settings of its own.

    log lr_i ~ U(log lr)      log wd_i ~ U(log wd)      log scale_i ~ U(log init_scale)
    fraction_i ~ U{data_fraction}                  and so on for every range and list of choices

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
from torch import Tensor, nn
from torch.nn import functional as F

from wsl.base import Engine
from wsl.params import on_device
from wsl.populations.architectures import build_architecture
from wsl.populations.ranges import (
    check_log_uniform,
    check_share,
    choose,
    log_uniform,
    uniform,
)
from wsl.populations.recipes import Recipe, Rows, Trainer
from wsl.populations.stacked import (
    MemberSettings,
    Optimizer,
    Schedule,
    SharedSettings,
    Trained,
    build_optimizer,
    build_schedule,
    initial_population,
    train_population,
)
from wsl.populations.tasks import Classification, SampledBatches, build_augmentation
from wsl.zoo import ZooError

METRICS = ("train_loss", "train_accuracy", "test_loss", "test_accuracy")
Choices = Mapping[str, Any] | Sequence[Mapping[str, Any]]
"""One description, or a list of them."""
Hyper = dict[str, Any]
"""Per member: tensors (n,), and lists of n texts."""
Metrics = dict[str, Tensor]
"""Of one chunk: a value per row, (n snapshots,)."""


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
        if self.batch_size < 1:
            raise ZooError(f"batch_size: is {self.batch_size}, but at least 1 is needed")
        for name in ("lr", "weight_decay", "init_scale", "dropout", "label_noise"):
            if len(getattr(self, name)) != 2:
                raise ZooError(f"{name}: is {getattr(self, name)}, but a pair is needed, a range")
        for name in ("lr", "weight_decay", "init_scale"):
            check_log_uniform(name, getattr(self, name))
        check_share("dropout", self.dropout, below=0.99)
        check_share("label_noise", self.label_noise, below=1.0)

    @property
    def columns(self) -> Mapping[str, type]:
        """Metrics, the classic hyper-parameters, and every other that differs between members."""
        classic = ("lr", "weight_decay", "init_scale", "data_fraction")
        ranges = [name for name in ("dropout", "label_noise") if getattr(self, name)[1]]
        texts = [name for name, options in self._options.items() if len(options) > 1]
        return {
            **dict.fromkeys([*METRICS, *classic, *ranges], float),
            **dict.fromkeys(texts, str),
            "seed": int,
        }

    def hyper_parameters(self, members: Tensor) -> Hyper:
        """What each of ``members`` is trained with.

        Numbers are tensors (n,), choices lists of n names. Each has a stream of draws of its own,
        1 to 10, so that a wider range of one leaves the others as they were.
        """
        drawn = functools.partial(self.draw, members)
        fractions = torch.tensor(self.data_fraction, dtype=torch.float64)
        numbers = {
            "lr": log_uniform(self.lr, drawn(1)),
            "weight_decay": log_uniform(self.weight_decay, drawn(2)),
            "init_scale": log_uniform(self.init_scale, drawn(3)),
            "data_fraction": fractions[(drawn(4) * len(fractions)).long()],
            "dropout": uniform(self.dropout, drawn(5)),
            "label_noise": uniform(self.label_noise, drawn(6)),
        }
        texts = {
            name: choose(options, drawn(stream))
            for stream, (name, options) in enumerate(self._options.items(), 7)
        }
        return {**numbers, **texts, "seed": self.seeds(members)}

    @property
    def _options(self) -> dict[str, Sequence[str]]:
        """Names of the choices."""
        return {
            "init": self.init,
            "activation": self.activation or ("",),
            "optimizer": _names(self.optimizer),
            "schedule": _names(self.schedule),
        }

    def _check(self, data: Any) -> None:
        if not isinstance(data, Classification):
            raise ZooError(
                f"task: {self.task['_target_']} has no classes to learn; choose a classification "
                "task"
            )
        classes, outputs = self._classes(data), self._outputs(data)
        if outputs.dim() != 2 or outputs.shape[1] < classes:
            raise ZooError(
                f"architecture: gives {tuple(outputs.shape)} for two images, but the task has "
                f"{classes} classes, so (2, {classes}) is needed; change its last size"
            )

    def _classes(self, data: Classification) -> int:
        """How many outputs a member needs at least: one for each class of its task."""
        return 1 + max(int(part.labels.max()) for part in (data.train, data.val, data.test))

    def _outputs(self, data: Classification) -> Tensor:
        """What the architecture gives for two of the images, before anything is trained."""
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            model = build_architecture(self.architecture).eval()
            inputs = data.train.images[:2].cpu()
            try:
                return model(inputs)
            except RuntimeError as error:
                raise ZooError(
                    f"architecture: does not take the task's images {tuple(inputs.shape[1:])}: "
                    f"{error}"
                ) from None

    def _example_input(self, data: Any) -> Tensor:
        return data.train.images[:2]

    def _trainer(self, data: Any, engine: Engine) -> Trainer:
        # a group is kept, so that what was compiled for it in one chunk serves the next
        group = functools.lru_cache(maxsize=None)(
            lambda kind: _Group(self, data, engine, kind=kind)
        )

        def train(members: Tensor) -> Rows:
            hyper = self.hyper_parameters(members)
            kinds = list(zip(hyper["activation"], hyper["optimizer"], strict=True))
            parts = []
            for kind in sorted(set(kinds)):
                place = torch.tensor([i for i, own in enumerate(kinds) if own == kind])
                parts.append(group(kind).train(members[place], _select(hyper, place)))
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

    def _evaluate(self, data: Any, model: nn.Module, trained: Trained, **own: Any) -> Metrics:
        """Metrics of every snapshot, one after another; ``own`` are the members' settings."""
        del own
        found: dict[str, list[Tensor]] = {name: [] for name in METRICS}
        for params in trained.snapshots:
            for split, limit in (("train", self.train_images), ("test", None)):
                for name, value in data.evaluate(model, params, split, limit=limit).items():
                    found[f"{split}_{name}"].append(value)
        return {name: torch.cat(values) for name, values in found.items()}

    def _named_optimizer(self, name: str) -> Optimizer:
        return build_optimizer(_listed(self.optimizer)[_names(self.optimizer).index(name)])

    def _schedules(self, names: Sequence[str]) -> Schedule | list[Schedule]:
        """One schedule for all members where there is no choice, else that of each."""
        built = map(build_schedule, _listed(self.schedule))
        schedules = dict(zip(_names(self.schedule), built, strict=True))
        if len(schedules) == 1:
            return next(iter(schedules.values()))
        return [schedules[name] for name in names]


class _Group:
    """Members that share activation and optimiser, the two names of ``kind``."""

    def __init__(
        self, recipe: ClassifierPopulation, data: Any, engine: Engine, *, kind: tuple[str, str]
    ) -> None:
        activation, optimizer = kind
        own = {"activation": activation} if activation else {}
        self.recipe, self.data, self.engine = recipe, data, engine
        self.make = functools.partial(build_architecture, {**recipe.architecture, **own})
        self.model = self.make()
        self.optimizer = recipe._named_optimizer(optimizer)

    def train(self, members: Tensor, hyper: Hyper) -> Rows:
        """Checkpoints of ``members`` with the settings ``hyper`` of each."""
        recipe = self.recipe
        trained = self._trained(hyper)
        metrics = recipe._evaluate(self.data, self.model, trained, hyper=hyper)
        own = {name: hyper[name] for name in recipe.columns if name in hyper}
        return Rows.of(trained, members, metrics=metrics, own=own)

    def _trained(self, hyper: Hyper) -> Trained:
        recipe = self.recipe
        drawn = initial_population(
            self.make, hyper["seed"].tolist(), scale=hyper["init_scale"], scheme=hyper["init"]
        )
        return train_population(
            self.model,
            on_device(drawn, self.data.train.images.device),
            F.cross_entropy,
            batches=recipe._batches(self.data, hyper),
            members=MemberSettings(
                lr=hyper["lr"],
                weight_decay=hyper["weight_decay"],
                dropout=hyper["dropout"] if any(recipe.dropout) else None,
                seeds=hyper["seed"],
            ),
            shared=SharedSettings(
                optimizer=self.optimizer,
                steps=recipe.steps,
                snapshots=recipe.snapshots,
                schedule=recipe._schedules(hyper["schedule"]),
                clip=recipe.clip,
            ),
            engine=self.engine,
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
