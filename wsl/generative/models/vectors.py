"""What learned distributions of vectors share: conditions, guidance, training, early stopping.

    loss    = E_{t, eps} |out_theta(x_t, t, c) - target(x_t, t)|^2 + w(t) penalty(clean(x_t, t), x)
    guided:   out = out(x, t, none) + w (out(x, t, c) - out(x, t, none))

A subclass says how x is noised and how noise is carried back. Guidance: Ho and Salimans (2022),
arXiv 2207.12598. The network is averaged over its steps. The same seed gives the same model and the
same samples on one machine, and a run that goes on from its file ends where one in a piece does.
"""

from __future__ import annotations

import abc
import copy
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn

from wsl.base import Progress
from wsl.generative.models.denoiser import Denoiser
from wsl.generative.models.resume import FitState, check_positive
from wsl.generative.models.watch import NoveltyWatch, Watched
from wsl.training import Descent, RandomRows

CHUNK, NUMBERS = 256, 2**17
"""At most so many vectors, and about so many numbers, are drawn at a time: working memory grows
neither with how many are asked for nor with their length, and stays near the processor."""


class Predicted(NamedTuple):
    """What a network takes training rows for, whose noisy form it has seen.

    clean, true: vectors (n, features), as predicted and as they are. rows: (n,) int64, which of the
    training rows they are. trust: (n,), share of signal in what was seen. told: (n,) bool, whether
    the condition was.
    """

    clean: Tensor
    true: Tensor
    rows: Tensor
    trust: Tensor
    told: Tensor

    def at(self, which: Tensor) -> Self:
        """The rows of a mask (n,)."""
        return type(self)(*(part[which] for part in self))


CleanPenalty = Callable[[Predicted, torch.Generator], Tensor]
"""A number to be made small, of what is predicted and a source of randomness."""


class Noised(NamedTuple):
    """Vectors part of the way to noise, what a network is to say of them, and how much to trust it.

    times: (n,), as the network is told them. trust: (n, 1), share of the vector that is signal.
    """

    x: Tensor
    times: Tensor
    target: Tensor
    trust: Tensor


@dataclasses.dataclass(frozen=True)
class VectorTraining:
    """How long and how a model of vectors is trained.

    decay: of the moving average of its weights. checkpoint: file that an interrupted run is written
    to ``every`` so many steps, and goes on from.
    batch_size, lr, hardware: those of `wsl.training.RandomRows`.
    """

    steps: int = 600
    decay: float = 0.999
    checkpoint: str | Path | None = None
    every: int = 500
    batch_size: int = 128
    lr: float = 1e-3
    weight_decay: float = 1e-4
    hardware: Any = None

    def __post_init__(self) -> None:
        check_positive(self, "steps", "every", "batch_size", "lr")

    @property
    def rows(self) -> RandomRows:
        """How rows are drawn."""
        return RandomRows(self.batch_size, self.lr, self.hardware)


class VectorModel(nn.Module, abc.ABC):
    """A distribution of vectors (n, features) given ``conditions`` numbers each, or none.

    hidden, blocks: size of its `Denoiser`, unless it is given a ``denoiser``, a network of (x, t,
    condition, known=...).
    dropout: share of training rows whose condition is hidden; without it there is neither guidance
    nor sampling without a condition.
    """

    def __init__(
        self,
        features: int,
        *,
        conditions: int = 0,
        hidden: int = 256,
        blocks: int = 3,
        dropout: float = 0.1,
        denoiser: nn.Module | None = None,
    ) -> None:
        super().__init__()
        if denoiser is None:
            denoiser = Denoiser(features, conditions=conditions, hidden=hidden, blocks=blocks)
        self.features, self.conditions, self.dropout = features, conditions, dropout
        self.denoiser, self.watched = denoiser, Watched()
        self.register_buffer("condition_mean", torch.zeros(conditions))
        self.register_buffer("condition_std", torch.ones(conditions))
        self.condition_mean: Tensor
        self.condition_std: Tensor

    @abc.abstractmethod
    def noised(self, x: Tensor, *, generator: torch.Generator | None) -> Noised:
        """Rows ``x`` at times of their own."""

    @abc.abstractmethod
    def clean(self, noised: Noised, out: Tensor) -> Tensor:
        """The vectors that the network's answer ``out`` takes for the clean ones."""

    @abc.abstractmethod
    def carry(
        self,
        predict: Callable[[Tensor, Tensor], Tensor],
        noise: Tensor,
        *,
        sampler: Any,
        generator: torch.Generator | None,
    ) -> Tensor:
        """Vectors of ``noise``; ``predict`` is the network's answer for x and its own times."""

    def fit(
        self,
        x: Tensor,
        condition: Tensor | None = None,
        *,
        seed: int = 0,
        progress: Progress | None = None,
        penalty: CleanPenalty | None = None,
        watch: NoveltyWatch | None = None,
        **settings: Any,
    ) -> Self:
        """Train on rows ``x`` (N, features) of about unit variance, and keep a moving average.

        penalty: a further term, of the clean vectors that are predicted. watch: stops when draws
        lose their spread; ``watched`` is what it saw.
        settings: fields of `VectorTraining`, ``steps`` and ``batch_size`` first.
        """
        how, condition = VectorTraining(**settings), self._checked(condition, len(x))
        self._measure(condition)
        rng = torch.Generator().manual_seed(seed)
        optimizer = torch.optim.AdamW(
            self.denoiser.parameters(), how.lr, weight_decay=how.weight_decay
        )
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, how.steps)
        with how.rows.descent(self, optimizer, schedule) as descent:
            average = copy.deepcopy(self.denoiser)
            file = None if how.checkpoint is None else Path(how.checkpoint)
            state = FitState(file, self.denoiser, average, optimizer, schedule)
            rows, known = x.to(descent.device), condition.to(descent.device)
            run = _Run(self, how, rng, state, rows, known, penalty)
            self.watched = run.descend(descent, watch, progress)
        return self

    def _measure(self, condition: Tensor) -> None:
        """Mean and deviation of the conditions, by which they are standardised."""
        if self.conditions:
            self.condition_mean.copy_(condition.mean(0))
            self.condition_std.copy_(condition.std(0, correction=0).clamp_min(1e-6))

    def loss(
        self,
        x: Tensor,
        condition: Tensor,
        *,
        rows: Tensor | None = None,
        penalty: CleanPenalty | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Mean squared error of what the network says at random times; generator on the CPU.

        rows: which training rows ``x`` are, for the penalty; by default 0 ... n - 1.
        """
        noised = self.noised(x, generator=generator)
        known = (torch.rand(len(x), generator=generator) >= self.dropout).to(x)
        out = self.denoiser(noised.x, noised.times, self._standard(condition), known=known)
        loss = (out - noised.target).square().mean()
        if penalty is None:
            return loss
        rows = torch.arange(len(x)) if rows is None else rows
        clean, trust = self.clean(noised, out), noised.trust[:, 0]
        predicted = Predicted(clean, x, rows.to(x.device), trust, known.bool())
        return loss + penalty(predicted, _of(generator))

    @torch.no_grad()
    def sample(
        self,
        n: int,
        condition: Tensor | None = None,
        *,
        guidance: float = 1.0,
        sampler: Any = None,
        noise: Tensor | None = None,
        temperature: float = 1.0,
        generator: torch.Generator | None = None,
        **settings: Any,
    ) -> Tensor:
        """``n`` vectors; ``condition`` is (n, K) or (K,) or None; the generator is on the CPU.

        sampler: the way back, by default the one that the model prefers, made with ``settings``.
        noise: (n, features) to start from; by default drawn, and multiplied by ``temperature``.
        Drawn in chunks: memory beside noise and answer does not grow with ``n``.
        """
        if n < 0:
            raise ValueError(f"n: {n}, but no fewer than 0 networks can be drawn")
        like = self.condition_mean
        given, known = like.new_zeros(n, self.conditions), like.new_full((n,), 0.0)
        if condition is not None:
            given, known = self._standard(self._checked(condition, n)), known + 1
        way = self.sampler(**settings) if sampler is None else sampler
        if noise is None:
            noise = temperature * torch.randn(n, self.features, generator=generator).to(like)
        guided = guidance if condition is not None else 1.0
        rows = max(1, min(CHUNK, NUMBERS // self.features))
        parts = zip(noise.split(rows), given.split(rows), known.split(rows), strict=True)
        return torch.cat(
            [
                self.carry(
                    self._predict(told, seen, guided), some, sampler=way, generator=generator
                )
                for some, told, seen in parts
            ]
        )

    @abc.abstractmethod
    def sampler(self, **settings: Any) -> Any:
        """The way back that `sample` takes unless it is told another."""

    def _predict(
        self, given: Tensor, known: Tensor, guidance: float
    ) -> Callable[[Tensor, Tensor], Tensor]:
        def predict(x: Tensor, t: Tensor) -> Tensor:
            out = self.denoiser(x, t, given, known=known)
            if guidance == 1.0:
                return out
            free = self.denoiser(x, t, given, known=torch.zeros_like(known))
            return free + guidance * (out - free)

        return predict

    def _standard(self, condition: Tensor) -> Tensor:
        return (condition - self.condition_mean) / self.condition_std

    def _checked(self, condition: Tensor | None, n: int) -> Tensor:
        like = self.condition_mean
        if condition is None:
            if self.conditions:
                raise ValueError(
                    f"condition: missing, but the model was made for {self.conditions} numbers "
                    "per row"
                )
            return torch.zeros(n, 0).to(like)
        condition = torch.as_tensor(condition).to(like)
        condition = condition.expand(n, -1) if condition.dim() == 1 else condition
        if condition.shape != (n, self.conditions):
            raise ValueError(
                f"condition: shape {tuple(condition.shape)}, but {(n, self.conditions)} is needed"
            )
        if not condition.isfinite().all():
            raise ValueError(
                "condition: holds NaN or infinite values; leave out members that diverged"
            )
        return condition


@dataclasses.dataclass(frozen=True, eq=False)
class _Run:
    """One training of a model: its rows and their conditions, its average, its state on file."""

    model: VectorModel
    how: VectorTraining
    rng: torch.Generator
    state: FitState
    rows: Tensor
    known: Tensor
    penalty: CleanPenalty | None

    @property
    def average(self) -> nn.Module:
        """The network averaged over its steps."""
        return self.state.average

    def descend(
        self, descent: Descent, watch: NoveltyWatch | None, progress: Progress | None
    ) -> Watched:
        """All steps, or those until the watch stops them; the average is kept."""
        done, watched = self.state.read(self.rng), Watched()
        kept, steps = copy.deepcopy(self.average.state_dict()), self.how.steps
        pause = min(watch.every if watch else steps, self.how.every if self.state else steps)
        while done < steps and watched.stopped is None:
            until = min(steps, done + pause)
            descent.run(self.loss, range(done, until), after=self.follow, progress=progress)
            done = until
            self.state.write(done, self.rng)
            if watch is not None:
                watched = watch.look(done, self.drawn(watch.samples), self.rows, before=watched)
                if watched.stopped is None:
                    kept = copy.deepcopy(self.average.state_dict())
        whole = watch is None or watched.stopped is None
        self.model.denoiser.load_state_dict(self.average.state_dict() if whole else kept)
        return watched

    def loss(self, _: int) -> Tensor:
        """Of fresh rows."""
        drawn = self.how.rows.draw(len(self.rows), self.rng)
        return self.model.loss(
            self.rows[drawn],
            self.known[drawn],
            rows=drawn,
            penalty=self.penalty,
            generator=self.rng,
        )

    @torch.no_grad()
    def follow(self, step: int) -> None:
        """Let the average follow: fast at first, then at ``decay``."""
        rate = min(self.how.decay, (step + 1) / (step + 11))
        pairs = zip(self.average.parameters(), self.model.denoiser.parameters(), strict=True)
        for kept, new in pairs:
            kept.lerp_(new, 1 - rate)

    def drawn(self, n: int) -> Tensor:
        """What the average would draw now, for conditions of random rows."""
        model, rng = self.model, torch.Generator().manual_seed(0)
        asked = self.known[torch.randint(len(self.known), (n,), generator=rng)]
        trained, model.denoiser = model.denoiser, self.average
        try:
            return model.sample(n, asked if model.conditions else None, generator=rng)
        finally:
            model.denoiser = trained


def _of(generator: torch.Generator | None) -> torch.Generator:
    return torch.default_generator if generator is None else generator
