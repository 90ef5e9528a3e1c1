"""`fit`: train a neural functional on a zoo. One loop on Lightning Fabric; early stop, best
checkpoint, exact resume.

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
from lightning_fabric import Fabric
from torch import Tensor, nn
from tqdm import tqdm

from wsl.params import Params, on_device
from wsl.training.columns import codes
from wsl.training.loop.captured import Captured
from wsl.training.loop.compiled import prepare
from wsl.training.loop.evaluate import evaluate
from wsl.training.loop.rows import Shuffled, near, training_rows
from wsl.training.loop.run import Run, identity
from wsl.training.loop.settings import DEFAULT, Fit, Settings
from wsl.training.loop.settle import settle
from wsl.training.objectives import Objective, column
from wsl.training.variety import NONE, Variety
from wsl.zoo import Checkpoints


@runtime_checkable
class Estimator(Protocol):
    """A network that is fitted at once instead of trained, such as `wsl.nn.StatBoost`."""

    def fit(self, params: Params, targets: Tensor, *codes: Tensor) -> Any:
        """Take all training members (N, *shape), their targets (N,) and the codes of the columns it
        reads, if it reads any.
        """
        ...


def fit(
    network: nn.Module,
    zoo: Checkpoints,
    objective: Objective,
    *,
    settings: Settings = DEFAULT,
    folder: str | Path | None = None,
    variety: Variety = NONE,
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
    if variety.moves_inputs and objective.out_features is None:
        raise ValueError(
            "variety.rotate, stretch and translate move the image that is edited, not its target; "
            "set them to 0"
        )
    rows = training_rows(zoo, settings.fraction)
    if isinstance(network, Estimator):
        return _fit_at_once(network, zoo, objective, rows)
    normalizer = getattr(network, "normalizer", None)
    if normalizer is not None:
        normalizer.fit((zoo if settings.fraction == 1 else zoo.subset(rows)).statistics("train"))
    fabric = Fabric(
        accelerator=settings.accelerator, devices=settings.devices, precision=settings.precision
    )
    fabric.launch()
    wrapped, optimizer = fabric.setup(
        _prepared(network, zoo, rows, settings), _optimizer(network, settings)
    )
    own = identity(network, zoo, objective, settings=(settings, variety))
    run = Run(
        network,
        optimizer,
        settings.patience,
        path=None if folder is None else Path(folder) / "last.pt",
        identity=own,
    )
    run.resume()
    here = near(zoo, fabric.device)
    batches = Shuffled(network, here, rows, variety.prepare(zoo, rows), settings.batch_size)
    hidden = None if progress else True
    epochs = tqdm(
        range(run.epoch, settings.epochs),
        disable=hidden,
        initial=run.epoch,
        total=settings.epochs,
        unit="epoch",
    )
    for epoch in epochs:
        if run.stopped:
            break
        loss = _train_epoch(
            fabric, wrapped, optimizer, batches, objective, settings=settings, epoch=epoch
        )
        settle(network, batches.sample())
        scores, _ = evaluate(network, here, objective, split="val", batch_size=settings.batch_size)
        run.record(loss, scores, scores[objective.monitor])
        epochs.set_postfix({objective.monitor: f"{scores[objective.monitor]:.3f}"})
    network.load_state_dict(run.best)
    return Fit(run.history, run.best_epoch, run.best_score)


def _fit_at_once(network: Any, zoo: Checkpoints, objective: Objective, rows: np.ndarray) -> Fit:
    params, metadata = zoo.__getitems__(rows)
    more = codes(network, zoo, rows)
    network.fit(params, column(metadata, objective.column), *more)
    row = {
        "epoch": 0,
        "train_loss": float(objective.losses(network(params, *more), metadata).mean()),
    }
    scores, _ = evaluate(network, zoo, objective, split="val")
    return Fit(
        [{**row, **{f"val_{name}": value for name, value in scores.items()}}],
        0,
        scores[objective.monitor],
    )


def _train_epoch(
    fabric: Fabric,
    network: Any,
    optimizer: Any,
    batches: Shuffled,
    objective: Objective,
    *,
    settings: Settings,
    epoch: int,
) -> float:
    rng = torch.Generator().manual_seed(_mix(settings.seed, epoch))
    places = batches.epoch(fabric, rng)
    network.train()
    losses, norms = [], []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_mix(settings.seed, epoch) + 1)
        for step, where in enumerate(places):
            _set_lr(optimizer, settings, (epoch + step / len(places)) / settings.epochs)
            batch, more, metadata = batches.read(where, rng)
            outputs = network(
                on_device(batch.params, fabric.device), *(code.to(fabric.device) for code in more)
            )
            loss = batch.loss(objective, outputs, metadata)
            optimizer.zero_grad()
            fabric.backward(loss)
            norms.append(
                fabric.clip_gradients(
                    network, optimizer, max_norm=settings.clip, error_if_nonfinite=False
                )
            )
            optimizer.step()
            losses.append(loss.detach())
    _check_finite(torch.stack(norms), epoch)  # not in each step: a GPU would be waited for
    return float(torch.stack(losses).double().mean())


def _check_finite(norms: Tensor, epoch: int) -> None:
    wrong = (~norms.isfinite()).nonzero()
    if len(wrong):
        raise ValueError(
            f"the gradient is not finite in epoch {epoch}, step {int(wrong[0])}; lower the "
            "learning rate"
        )


def _optimizer(network: nn.Module, settings: Settings) -> torch.optim.Optimizer:
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
    network: nn.Module, zoo: Checkpoints, rows: np.ndarray, settings: Settings
) -> nn.Module:
    if settings.capture:
        return Captured(network, settings.batch_size)
    if settings.compile is False:
        return network
    steps, first = settings.epochs * len(rows) // settings.batch_size, rows[: settings.batch_size]
    example = zoo.__getitems__(first)[0], *codes(network, zoo, first)
    return prepare(network, *example, compiled=settings.compile, steps=steps)


def _mix(seed: int, epoch: int) -> int:
    return seed * 1_000_003 + 2 * epoch
