"""`fit`: train a neural functional on a zoo. One loop on Lightning Fabric; early stop, best checkpoint, exact resume.

    theta ~ zoo,  minimise E loss(f(theta), y)  with AdamW, linear warm-up and a cosine to zero

Everything random depends on (seed, epoch) alone, so a run that was interrupted and resumed equals one that was not, bit for
bit at a fixed thread count. Selection uses the validation members only; the test members are read by `evaluate`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from tqdm import tqdm

from wsl.params import Params
from wsl.training.captured import Captured
from wsl.training.columns import codes
from wsl.training.compiled import prepare
from wsl.training.objective import Objective, column
from wsl.training.run import Run, identity
from wsl.training.variety import NONE, Batch, Prepared, Variety
from wsl.zoo import Checkpoints, Resident, ZooError


@dataclasses.dataclass(frozen=True)
class Settings:
    """How to train. ``patience`` epochs without a better validation score end the run; ``precision`` is Fabric's.

    ``fraction`` of the training members are used, the first of a fixed random order: a smaller share is part of a larger one.
    ``compile``: train under torch.compile; None where that wins back its cost (see `compiled`). ``capture``: on a GPU, replay
    recorded kernels (see `captured`).
    """

    epochs: int = 30
    fraction: float = 1.0
    batch_size: int = 32
    lr: float = 2e-3
    weight_decay: float = 1e-2
    warmup: float = 0.1
    clip: float = 1.0
    patience: int | None = None
    seed: int = 0
    accelerator: str = "auto"
    devices: int = 1
    precision: Any = "32-true"
    compile: bool | None = False
    capture: bool = False


@dataclasses.dataclass(frozen=True)
class Fit:
    """Evidence of a training run: a row per epoch, and which epoch's weights were kept."""

    history: list[dict[str, float]]
    best_epoch: int
    best_score: float


@runtime_checkable
class Estimator(Protocol):
    """A network that is fitted at once instead of trained, such as `wsl.nn.StatBoost`."""

    def fit(self, params: Params, targets: Tensor, *codes: Tensor) -> Any:
        """Take all training members (N, *shape), their targets (N,) and the codes of the columns it reads, if it reads any."""
        ...


def fit(
    network: nn.Module,
    zoo: Checkpoints,
    objective: Objective,
    *,
    settings: Settings = Settings(),
    folder: str | Path | None = None,
    variety: Variety = NONE,
    progress: bool = False,
) -> Fit:
    """Train ``network`` on the zoo's training members and leave the best epoch's weights in it.

    ``variety`` augments and mixes training checkpoints. With ``folder``, every epoch is saved to ``last.pt`` there and an
    interrupted run with equal settings goes on from it.
    A network with ``columns`` (a `wsl.nn.Columns`) is called with the codes of its rows after the weights.
    An `Estimator` is fitted on all training members at once; of the settings it reads ``fraction`` only.
    Raises ValueError when the folder holds another run (settings, network, zoo), when the loss stops being finite, or when
    ``variety`` moves what an edit is compared with.
    """
    if variety.moves_inputs and objective.out_features is None:
        raise ValueError("variety.rotate, stretch and translate move the image that is edited, not its target; set them to 0")
    rows = training_rows(zoo, settings.fraction)
    if isinstance(network, Estimator):
        return _fit_at_once(network, zoo, objective, rows)
    normalizer = getattr(network, "normalizer", None)
    if normalizer is not None:
        normalizer.fit((zoo if settings.fraction == 1 else zoo.subset(rows)).statistics("train"))
    fabric = Fabric(accelerator=settings.accelerator, devices=settings.devices, precision=settings.precision)
    fabric.launch()
    wrapped, optimizer = fabric.setup(_prepared(network, zoo, rows, settings), _optimizer(network, settings))
    run = Run(network, optimizer, settings.patience, None if folder is None else Path(folder) / "last.pt")
    run.identity = identity(network, zoo, objective, settings=(settings, variety))
    run.resume()
    near = _near(zoo, fabric.device)
    batches = _Batches(network, near, rows, variety.prepare(zoo, rows), settings.batch_size)
    hidden = None if progress else True
    epochs = tqdm(range(run.epoch, settings.epochs), disable=hidden, initial=run.epoch, total=settings.epochs, unit="epoch")
    for epoch in epochs:
        if run.stopped:
            break
        loss = _train_epoch(fabric, wrapped, optimizer, batches, objective, settings=settings, epoch=epoch)
        scores, _ = evaluate(network, near, objective, split="val", batch_size=settings.batch_size)
        run.record(loss, scores, scores[objective.monitor])
        epochs.set_postfix({objective.monitor: f"{scores[objective.monitor]:.3f}"})
    network.load_state_dict(run.best)
    return Fit(run.history, run.best_epoch, run.best_score)


def evaluate(
    network: nn.Module, zoo: Checkpoints, objective: Objective, *, split: str | None = "test", batch_size: int = 256
) -> tuple[dict[str, float], dict[str, Tensor]]:
    """Metrics of ``network`` on a split, and per row its number ``row`` and what the objective tells of it."""
    device = next((t.device for t in (*network.parameters(), *network.buffers())), torch.device("cpu"))
    rows = zoo.indices(split)
    if not len(rows):
        raise ValueError(f"{zoo.path}: split '{split}' has no members; build the zoo with more members or other fractions")
    outputs, targets = [], []
    training = network.training
    network.eval()
    with torch.no_grad():
        for theta, metadata, more in _batches(network, zoo, rows, batch_size):
            outputs.append(_on_cpu(network(_to(theta, device), *(code.to(device) for code in more))))
            targets.append(metadata)
    network.train(training)
    output, metadata = _joined(outputs), _joined(targets)
    return objective.metrics(output, metadata), {"row": torch.as_tensor(rows), **objective.rows(output, metadata)}


def _near(zoo: Checkpoints, device: torch.device) -> Checkpoints:
    """The zoo with its weights on ``device``, if that is an accelerator with room for them."""
    if device.type == "cpu":
        return zoo
    try:
        return Resident(zoo, device)
    except ZooError:  # larger than what is free: read from the file batch by batch
        return zoo


def _fit_at_once(network: Any, zoo: Checkpoints, objective: Objective, rows: np.ndarray) -> Fit:
    params, metadata = zoo.__getitems__(rows)
    more = codes(network, zoo, rows)
    network.fit(params, column(metadata, objective.column), *more)
    row = {"epoch": 0, "train_loss": float(objective.losses(network(params, *more), metadata).mean())}
    scores, _ = evaluate(network, zoo, objective, split="val")
    return Fit([{**row, **{f"val_{name}": value for name, value in scores.items()}}], 0, scores[objective.monitor])


def training_rows(zoo: Checkpoints, fraction: float) -> np.ndarray:
    """Rows of the training members, or of a ``fraction`` of them in (0, 1], at least one; whole members, as in a split."""
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction is {fraction}, but it must lie in (0, 1]: the share of the training members to use")
    rows = zoo.indices("train")
    member = zoo.table["member"][rows]
    order = np.random.default_rng(0).permutation(np.unique(member))
    return rows[np.isin(member, order[: max(1, round(fraction * len(order)))])]


@dataclasses.dataclass(frozen=True)
class _Batches:
    """Shuffled, augmented batches of the training rows, and how many there are in an epoch."""

    network: nn.Module
    zoo: Checkpoints
    rows: np.ndarray
    variety: Prepared
    size: int

    def epoch(self, fabric: Fabric, rng: torch.Generator) -> list[Tensor]:
        """Positions in ``rows`` of this process's batches, in random order."""
        order = torch.randperm(len(self.rows), generator=rng)[fabric.global_rank :: fabric.world_size]
        return list(order.split(self.size))

    def read(self, where: Tensor, rng: torch.Generator) -> tuple[Batch, tuple[Tensor, ...], dict[str, Tensor]]:
        """Weights, codes of columns if the network reads any, and metadata."""
        rows = self.rows[where.numpy()]
        theta, metadata = self.zoo.__getitems__(rows)
        batch = self.variety(theta, where, rng)
        return batch, tuple(batch.mix(code) for code in codes(self.network, self.zoo, rows)), metadata


def _train_epoch(
    fabric: Fabric, network: Any, optimizer: Any, batches: _Batches, objective: Objective, *, settings: Settings, epoch: int
) -> float:
    rng = torch.Generator().manual_seed(_mix(settings.seed, epoch))
    places = batches.epoch(fabric, rng)
    network.train()
    total = 0.0
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_mix(settings.seed, epoch) + 1)
        for step, where in enumerate(places):
            _set_lr(optimizer, settings, (epoch + step / len(places)) / settings.epochs)
            batch, more, metadata = batches.read(where, rng)
            outputs = network(_to(batch.params, fabric.device), *(code.to(fabric.device) for code in more))
            loss = batch.loss(objective, outputs, metadata)
            optimizer.zero_grad()
            fabric.backward(loss)
            norm = fabric.clip_gradients(network, optimizer, max_norm=settings.clip, error_if_nonfinite=False)
            if norm is None or not bool(torch.isfinite(norm)):
                raise ValueError(f"the gradient is not finite in epoch {epoch}, step {step}; lower the learning rate")
            optimizer.step()
            total += float(loss.detach())
    return total / len(places)


def _batches(
    network: nn.Module, zoo: Checkpoints, rows: np.ndarray, batch_size: int
) -> Iterator[tuple[Params, dict[str, Tensor], tuple[Tensor, ...]]]:
    for start in range(0, len(rows), batch_size):
        part = rows[start : start + batch_size]
        yield *zoo.__getitems__(part), codes(network, zoo, part)


def _optimizer(network: nn.Module, settings: Settings) -> torch.optim.Optimizer:
    matrices = [p for p in network.parameters() if p.dim() >= 2]
    vectors = [p for p in network.parameters() if p.dim() < 2]
    groups = [{"params": matrices, "weight_decay": settings.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=settings.lr)


def _set_lr(optimizer: torch.optim.Optimizer, settings: Settings, done: float) -> None:
    """Linear warm-up, then a cosine to zero; ``done`` in [0, 1)."""
    factor = min(1.0, (done + 1e-3) / settings.warmup) if settings.warmup else 1.0
    for group in optimizer.param_groups:
        group["lr"] = settings.lr * factor * 0.5 * (1 + math.cos(math.pi * done))


def _prepared(network: nn.Module, zoo: Checkpoints, rows: np.ndarray, settings: Settings) -> nn.Module:
    if settings.capture:
        return Captured(network, settings.batch_size)
    if settings.compile is False:
        return network
    steps, first = settings.epochs * len(rows) // settings.batch_size, rows[: settings.batch_size]
    example = zoo.__getitems__(first)[0], *codes(network, zoo, first)
    return prepare(network, *example, compiled=settings.compile, steps=steps)


def _mix(seed: int, epoch: int) -> int:
    return seed * 1_000_003 + 2 * epoch


def _on_cpu(outputs: Any) -> Any:
    """Numbers (B, features), or weights by name."""
    return {name: t.cpu() for name, t in outputs.items()} if isinstance(outputs, Mapping) else outputs.float().cpu()


def _joined(batches: Sequence[Any]) -> Any:
    """Batches along their first axis: tensors, or dicts of them."""
    if isinstance(batches[0], Mapping):
        return {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}
    return torch.cat(list(batches))


def _to(theta: Mapping[str, Tensor], device: torch.device) -> Params:
    return {name: tensor.to(device) for name, tensor in theta.items()}
