"""`fit`: train a neural functional on a zoo, with early stop, best checkpoint and exact resume.

    theta ~ zoo,  minimise E loss(f(theta), y)  with AdamW, linear warm-up and a cosine to zero

Everything random depends on (seed, epoch) alone, so a run that was interrupted and resumed equals
one that was not, bit for bit at a fixed thread count. Selection uses the validation members only;
the test members are read by `evaluate`.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from wsl.params import Params
from wsl.training.augmentation import NONE, WeightAugmentation
from wsl.training.columns import codes
from wsl.training.loop.captured import Captured
from wsl.training.loop.compiled import prepare
from wsl.training.loop.evaluate import evaluate
from wsl.training.loop.minibatch import Descent, Saved, progress_bar
from wsl.training.loop.ranks import Ranks
from wsl.training.loop.recalibrate import recalibrate
from wsl.training.loop.rows import Shuffled, near, training_rows
from wsl.training.loop.run import Run, identity
from wsl.training.loop.settings import DEFAULT, Fit, Settings
from wsl.training.objectives import Objective, check_labels, column
from wsl.zoo import Checkpoints


@runtime_checkable
class Estimator(Protocol):
    """A network that is fitted at once instead of trained, such as `wsl.nn.StatBoost`."""

    def fit(self, params: Params, targets: Tensor, *codes: Tensor) -> Any:
        """Take all training members (N, *shape), their targets (N,) and codes, if it reads any."""
        ...


def fit(
    network: nn.Module,
    zoo: Checkpoints,
    objective: Objective,
    *,
    settings: Settings = DEFAULT,
    folder: str | Path | None = None,
    variety: WeightAugmentation = NONE,
    progress: bool = False,
) -> Fit:
    """Train ``network`` on the zoo's training members and leave the best epoch's weights in it.

    ``variety`` augments and mixes training checkpoints. With ``folder``, every epoch is saved to
    ``last.pt`` there and an interrupted run with equal settings goes on from it.
    A network with ``columns`` (a `wsl.nn.Columns`) is called with the codes of its rows after the
    weights. An `Estimator` is fitted on all training members at once; of the settings it reads
    ``fraction`` only. Raises ValueError when the folder holds another run (settings, network, zoo),
    when the loss stops being finite, or when ``variety`` moves what an edit is compared with.
    """
    _check(settings, variety, objective)
    check_labels(zoo, objective)
    rows = training_rows(zoo, settings.fraction)
    if isinstance(network, Estimator):
        settings.check_alone(f"{type(network).__name__} is")
        return _fit_at_once(network, zoo, objective, rows=rows)
    _fit_normalizer(network, zoo, rows)
    descent = _descent(network, zoo, rows, settings=settings)
    saved = Saved(
        None if folder is None else Path(folder) / "last.pt",
        identity(network, zoo, objective, settings=(settings, variety)),
        "settings, network, objective or zoo",
        descent.ranks,
    )
    run = Run(network, descent.optimizer, saved, patience=settings.patience)
    run.resume()
    here, prepared = near(zoo, descent.device), variety.prepare(zoo, rows)
    batches = Shuffled(network, here, rows, prepared, settings.batch_size, descent.ranks)
    with descent.ranks.explained():
        _train(run, descent, batches, objective=objective, settings=settings, progress=progress)
    network.load_state_dict(run.best)
    return Fit(run.history, run.best_epoch, run.best_score)


def _check(settings: Settings, variety: WeightAugmentation, objective: Objective) -> None:
    """Refuse what cannot be done, before anything is."""
    if variety.moves_inputs and objective.out_features is None:
        raise ValueError(
            "variety.rotate, stretch and translate move the image that is edited, not its target; "
            "set them to 0"
        )
    if settings.compile or settings.capture:
        settings.check_alone("compiled and captured steps are")


def _descent(
    network: nn.Module, zoo: Checkpoints, rows: np.ndarray, *, settings: Settings
) -> Descent:
    fabric = settings.hardware.start()
    prepared = _prepared(network, zoo, rows, settings=settings)
    return Descent(fabric, prepared, _optimizer(network, settings), clip=settings.clip)


def _train(
    run: Run,
    descent: Descent,
    batches: Shuffled,
    *,
    objective: Objective,
    settings: Settings,
    progress: bool,
) -> None:
    """Epoch by epoch until the last, or until the validation score stops rising."""
    ranks = descent.ranks
    epochs = progress_bar(run.epoch, settings.epochs, unit="epoch", shown=progress and ranks.first)
    for epoch in epochs:
        if run.stopped:
            break
        loss = _train_epoch(descent, batches, objective, settings=settings, epoch=epoch)
        recalibrate(run.network, batches.sample())
        how = {"split": "val", "batch_size": settings.batch_size, "ranks": ranks}
        scores, _ = evaluate(run.network, batches.zoo, objective, **how)
        run.record(loss, scores, scores[objective.monitor])
        epochs.set_postfix({objective.monitor: f"{scores[objective.monitor]:.3f}"})


def _train_epoch(
    descent: Descent,
    batches: Shuffled,
    objective: Objective,
    *,
    settings: Settings,
    epoch: int,
) -> float:
    """Mean loss of an epoch, each of whose batches is one step."""
    seed = _mix(settings.seed, epoch)
    rng = torch.Generator().manual_seed(seed)
    places = batches.epoch(rng)

    def loss(step: int) -> Tensor:
        return batches.loss(descent.network, places[step], objective, rng=rng)

    def rate(step: int) -> None:
        _set_lr(descent.optimizer, settings, (epoch + step / len(places)) / settings.epochs)

    descent.network.train()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed + 1 + (descent.ranks.rank << 40))  # each drops out units of its own
        losses, norms = descent.run(loss, range(len(places)), rate=rate)
    descent.ranks.average([losses])
    _check_finite(norms, epoch)  # not in each step: a GPU would be waited for
    return float(losses.double().mean())


def _check_finite(norms: Tensor, epoch: int) -> None:
    wrong = (~norms.isfinite()).nonzero()
    if len(wrong):
        raise ValueError(
            f"the gradient is not finite in epoch {epoch}, step {int(wrong[0])}; lower the "
            "learning rate"
        )


def _fit_normalizer(network: nn.Module, zoo: Checkpoints, rows: np.ndarray) -> None:
    """Give a network that standardises its inputs the statistics of the rows it is trained on."""
    normalizer = getattr(network, "normalizer", None)
    if normalizer is not None:
        whole = len(rows) == len(zoo.indices("train"))
        normalizer.fit((zoo if whole else zoo.subset(rows)).statistics("train"))


def _fit_at_once(network: Any, zoo: Checkpoints, objective: Objective, *, rows: np.ndarray) -> Fit:
    params, metadata = zoo.__getitems__(rows)
    more = codes(network, zoo, rows)
    network.fit(params, column(metadata, objective.column), *more)
    loss = float(objective.losses(network(params, *more), metadata).mean())
    scores, _ = evaluate(network, zoo, objective, split="val")
    named = {f"val_{name}": value for name, value in scores.items()}
    return Fit([{"epoch": 0, "train_loss": loss, **named}], 0, scores[objective.monitor])


def _optimizer(network: nn.Module, settings: Settings) -> torch.optim.Optimizer:
    """AdamW, whose weight decay spares biases and other vectors."""
    matrices = [p for p in network.parameters() if p.dim() >= 2]
    vectors = [p for p in network.parameters() if p.dim() < 2]
    groups = [
        {"params": matrices, "weight_decay": settings.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=settings.lr)


def _set_lr(optimizer: torch.optim.Optimizer, settings: Settings, done: float) -> None:
    """Linear warm-up, then a cosine to zero; ``done`` in [0, 1)."""
    factor = min(1.0, (done + 1e-3) / settings.warmup) if settings.warmup else 1.0
    for group in optimizer.param_groups:
        group["lr"] = settings.lr * factor * 0.5 * (1 + math.cos(math.pi * done))


def _prepared(
    network: nn.Module, zoo: Checkpoints, rows: np.ndarray, *, settings: Settings
) -> nn.Module:
    """The network as it is trained: recorded, compiled, or as it is."""
    if settings.capture:
        return Captured(network, settings.batch_size)
    if settings.compile is False or Ranks.current().count > 1:
        return network
    steps, first = settings.epochs * len(rows) // settings.batch_size, rows[: settings.batch_size]
    example = zoo.__getitems__(first)[0], *codes(network, zoo, first)
    return prepare(network, *example, compiled=settings.compile, steps=steps)


def _mix(seed: int, epoch: int) -> int:
    return seed * 1_000_003 + 2 * epoch
