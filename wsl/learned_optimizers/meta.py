"""`meta_train`: learn an update rule by persistent evolution strategies, with Adam on its
parameters.

    minimise over phi   E mean_t L_t(phi)      windows of `unroll`, gradients of `evolution`, exact
                                               resume

Vicol et al. (2021), arXiv 2112.13835. N pairs of trainings run at once; both of a pair have the
same initial weights and batches and opposite perturbations. Unrolls begin staggered, so that every
window sees early and late steps. Everything random depends on (seed, iteration) alone: a run that
was interrupted and resumed equals one that was not, bit for bit at a fixed thread count. Losses
above ``cap``, or not finite, count as ``cap``. It selects nothing: the last iterate is kept.
"""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from wsl.base import replacing
from wsl.learned_optimizers.evolution import gradient, perturbations
from wsl.learned_optimizers.problem import Problem, start, unroll
from wsl.learned_optimizers.rule import Training
from wsl.params import Params, ravel, shapes, unravel


@dataclasses.dataclass(frozen=True)
class MetaSettings:
    """How to learn a rule: ``iterations`` windows of ``window`` steps from unrolls of ``horizon``,
    ``pairs`` at once.

    ``sigma`` is the deviation of perturbations, ``lr`` Adam's rate, which falls to zero as a
    cosine, ``clip`` the largest norm of a gradient, ``cap`` the largest loss. With a folder, every
    ``save_every`` iterations are saved.
    """

    iterations: int = 500
    pairs: int = 16
    window: int = 20
    horizon: int = 100
    sigma: float = 0.01
    lr: float = 3e-3
    clip: float = 1.0
    cap: float = 5.0
    save_every: int = 50
    seed: int = 0

    def __post_init__(self) -> None:
        if self.window < 1 or self.horizon % self.window:
            raise ValueError(
                f"horizon={self.horizon} must be a multiple of window={self.window}, so that "
                "unrolls end with one"
            )


def meta_train(
    rule: Any,
    problem: Problem,
    *,
    settings: MetaSettings = MetaSettings(),
    folder: str | Path | None = None,
    progress: bool = False,
) -> list[dict[str, float]]:
    """Train ``rule``'s parameters in place; a row for each iteration: the mean loss of its window
    and the gradient's norm.

    With ``folder``, an interrupted run with equal settings goes on from ``meta.pt`` there. Raises
    ValueError when the file belongs to another run.
    """
    path = None if folder is None else Path(folder) / "meta.pt"
    run = _Run(rule, problem, settings)
    if path is not None and path.exists():
        run.load(path)
    bar = tqdm(
        range(len(run.history), settings.iterations),
        disable=not progress,
        initial=len(run.history),
        unit="window",
    )
    for iteration in bar:
        run.advance(iteration)
        if path is not None and (
            (iteration + 1) % settings.save_every == 0 or iteration + 1 == settings.iterations
        ):
            run.save(path)
    with torch.no_grad():
        for name, value in run.parameters().items():
            rule.get_parameter(name).copy_(value)
    return run.history


class _Run:
    """Everything that changes: the rule's parameters, Adam's state, N pairs of trainings and what
    each has accumulated.
    """

    def __init__(self, rule: Any, problem: Problem, settings: MetaSettings) -> None:
        self.rule, self.problem, self.settings = rule, problem, settings
        own = {name: parameter.detach() for name, parameter in rule.named_parameters()}
        self.shapes = shapes(own)
        self.phi = nn.Parameter(ravel(own))
        self.adam = torch.optim.Adam([self.phi], lr=settings.lr)
        self.history: list[dict[str, float]] = []
        self.age = (
            torch.arange(settings.pairs) % (settings.horizon // settings.window) * settings.window
        )
        self.accumulated = torch.zeros(settings.pairs, len(self.phi))
        self.training = self._fresh(torch.arange(settings.pairs), 0)
        self.identity = self._identity()

    def parameters(self) -> Params:
        """The rule's parameters by name."""
        return unravel(self.phi.detach(), self.shapes)

    def advance(self, iteration: int) -> None:
        """One window for all pairs, one step of Adam, and new unrolls where one ended."""
        settings, sigma = self.settings, self.settings.sigma
        noise = perturbations(settings.pairs, len(self.phi), sigma=sigma, rng=self._rng(iteration))
        self.accumulated += noise
        rules = unravel(self.phi.detach() + torch.cat([noise, -noise]), self.shapes)
        steps = range(iteration * settings.window, (iteration + 1) * settings.window)
        seeds = torch.arange(settings.pairs).repeat(2) + settings.seed * 1_000_003
        self.training, losses = unroll(
            self.rule, rules, self.training, problem=self.problem, seeds=seeds, steps=steps
        )
        capped = losses.nan_to_num(settings.cap, settings.cap).clamp(max=settings.cap).mean(1)
        plus, minus = capped.chunk(2)
        norm = self._step(gradient(self.accumulated, plus, minus, sigma=sigma), iteration)
        self.history.append(
            {"iteration": iteration, "loss": float(capped.mean()), "gradient_norm": norm}
        )
        self._renew(iteration + 1)

    def _step(self, direction: Tensor, iteration: int) -> float:
        self.phi.grad = direction
        norm = nn.utils.clip_grad_norm_([self.phi], self.settings.clip)
        for group in self.adam.param_groups:
            group["lr"] = (
                self.settings.lr
                * 0.5
                * (1 + math.cos(math.pi * iteration / self.settings.iterations))
            )
        self.adam.step()
        return float(norm)

    def _renew(self, iteration: int) -> None:
        self.age += self.settings.window
        ended = (self.age >= self.settings.horizon).nonzero().squeeze(1)
        if len(ended):
            self.age[ended], self.accumulated[ended] = 0, 0.0
            both = torch.cat([ended, ended + self.settings.pairs])
            self.training = _replaced(self.training, self._fresh(ended, iteration), both)

    def _fresh(self, pairs: Tensor, iteration: int) -> Training:
        seeds = torch.randint(
            2**31, (self.settings.pairs,), generator=self._rng(iteration, stream=1)
        )[pairs]
        weights = self.problem.weights(seeds)
        return start(
            self.rule, {name: torch.cat([tensor, tensor]) for name, tensor in weights.items()}
        )

    def _rng(self, iteration: int, *, stream: int = 0) -> torch.Generator:
        return torch.Generator().manual_seed(
            (self.settings.seed * 1_000_003 + iteration) * 2 + stream
        )

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        own = {"phi": self.phi.detach(), "adam": self.adam.state_dict(), "history": self.history}
        particles = {
            "age": self.age,
            "accumulated": self.accumulated,
            "training": tuple(self.training),
        }
        with replacing(path) as temporary:
            torch.save({"identity": self.identity, **own, **particles}, temporary)

    def load(self, path: Path) -> None:
        state = torch.load(path, weights_only=True)
        if state.get("identity") != self.identity:
            raise ValueError(
                f"{path} belongs to another run (other settings, rule or problem); choose another "
                "folder or "
                "delete the file"
            )
        self.phi.data.copy_(state["phi"])
        self.adam.load_state_dict(state["adam"])
        self.history, self.age, self.accumulated = (
            state["history"],
            state["age"],
            state["accumulated"],
        )
        self.training = Training(*state["training"])

    def _identity(self) -> str:
        """What a saved state belongs to: settings, the rule as it starts, the network's tensors,
        the data.
        """
        values = [
            float(t.detach().double().sum())
            for t in (self.phi, self.problem.inputs, self.problem.targets)
        ]
        network = dict(shapes(self.training.weights, 1))
        return repr(
            (
                self.settings,
                type(self.rule).__name__,
                dict(self.shapes),
                values,
                network,
                self.problem.batch_size,
            )
        )


def _replaced(training: Training, fresh: Training, where: Tensor) -> Training:
    def put(old: Tensor, new: Tensor) -> Tensor:
        return old.index_copy(0, where, new)

    weights, memory = (
        {name: put(old[name], new[name]) for name in old}
        for old, new in zip(training[:2], fresh[:2], strict=True)
    )
    return Training(weights, memory, put(training.step, fresh.step))
