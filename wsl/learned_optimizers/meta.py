"""`meta_train`: learn an update rule by persistent evolution strategies and Adam.

    minimise over phi   E mean_t L_t(phi),     windows of `unroll`, gradients of `evolution`

Vicol et al. (2021), arXiv 2112.13835. N pairs of trainings run at once; both of a pair have the
same initial weights and batches and opposite perturbations. Unrolls begin staggered, so that every
window sees early and late steps. Everything random depends on (seed, iteration) alone: a run that
was interrupted and resumed equals one that was not, bit for bit at a fixed thread count. Losses
above ``cap``, or not finite, count as ``cap``. It selects nothing: the last iterate is kept.
"""

from __future__ import annotations

import copy
import dataclasses
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wsl.learned_optimizers.evolution import gradient, perturbations
from wsl.learned_optimizers.problem import Problem, start, unroll
from wsl.learned_optimizers.rule import Training
from wsl.params import Params, on_device, ravel, shapes, unravel
from wsl.training import Descent, Hardware, Saved, progress_bar


@dataclasses.dataclass(frozen=True)
class MetaSettings:
    """How to learn a rule, from ``pairs`` of unrolls at once.

    There are ``iterations``, each a window of ``window`` steps of unrolls of ``horizon`` steps.
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
    hardware: Hardware | None = None,
) -> list[dict[str, float]]:
    """Train ``rule``'s parameters in place; gives a row for each iteration.

    A row holds the mean loss of the iteration's window and the gradient's norm. With ``folder``, an
    interrupted run with equal settings goes on from ``meta.pt`` there. hardware: None trains where
    the rule lies. Raises ValueError when the file belongs to another run.
    """
    path = None if folder is None else Path(folder) / "meta.pt"
    fabric = (hardware or Hardware.of(rule)).start()
    run = _Run(rule, problem, settings, fabric=fabric, path=path)
    run.resume()
    run.go(progress)
    with torch.no_grad():
        for name, value in run.parameters().items():
            rule.get_parameter(name).copy_(value)
    return run.history


class _Run:
    """Everything that changes while a rule is learnt.

    The rule's parameters, Adam's state, N pairs of trainings and what each has accumulated.
    """

    def __init__(
        self,
        rule: Any,
        problem: Problem,
        settings: MetaSettings,
        *,
        fabric: Any,
        path: Path | None,
    ) -> None:
        self.rule, self.problem = copy.deepcopy(rule).to(fabric.device), problem.to(fabric.device)
        self.settings, windows = settings, settings.horizon // settings.window
        own = {name: parameter.detach() for name, parameter in self.rule.named_parameters()}
        self.shapes = shapes(own)
        vector = nn.ParameterList([ravel(own)])
        adam = torch.optim.Adam(vector.parameters(), lr=settings.lr)
        self.phi = vector[0]
        self.descent = Descent(fabric, vector, adam, clip=settings.clip, autocast=True)
        self.history: list[dict[str, float]] = []
        self.age = torch.arange(settings.pairs) % windows * settings.window
        self.accumulated = torch.zeros(settings.pairs, len(self.phi), device=fabric.device)
        self.training = self._fresh(torch.arange(settings.pairs), 0)
        self.saved = Saved(path, self._identity(), "settings, rule or problem", self.descent.ranks)

    def parameters(self) -> Params:
        """The rule's parameters by name."""
        return unravel(self.phi.detach(), self.shapes)

    def go(self, progress: bool) -> None:
        """Window by window to the last iteration."""
        windows = progress_bar(
            len(self.history), self.settings.iterations, unit="window", shown=progress
        )
        for iteration in windows:
            self.advance(iteration)
            if (iteration + 1) % self.settings.save_every == 0 or (
                iteration + 1 == self.settings.iterations
            ):
                self.save()

    def advance(self, iteration: int) -> None:
        """One window for all pairs, one step of Adam, and new unrolls where one ended."""
        losses, norms = self.descent.run(self._loss, [iteration], rate=self._set_lr)
        self.history.append(
            {"iteration": iteration, "loss": float(losses[0]), "gradient_norm": float(norms[0])}
        )
        self._renew(iteration + 1)

    def _loss(self, iteration: int) -> Tensor:
        """Mean loss of both sides of all pairs, with the gradient that evolution estimates."""
        settings, sigma = self.settings, self.settings.sigma
        noise = perturbations(
            settings.pairs, len(self.phi), sigma=sigma, rng=self._rng(iteration)
        ).to(self.phi)
        self.accumulated += noise
        plus, minus = self._unrolled(noise, iteration).chunk(2)
        direction = gradient(self.accumulated, plus, minus, sigma=sigma)
        # backward finds ``direction`` as the slope in phi of a term that is zero
        return torch.cat([plus, minus]).mean() + (self.phi - self.phi.detach()) @ direction

    def _unrolled(self, noise: Tensor, iteration: int) -> Tensor:
        """Capped mean losses (2 N,) of a window under phi + noise, then phi - noise."""
        settings = self.settings
        rules = unravel(self.phi.detach() + torch.cat([noise, -noise]), self.shapes)
        steps = range(iteration * settings.window, (iteration + 1) * settings.window)
        seeds = torch.arange(settings.pairs).repeat(2) + settings.seed * 1_000_003
        self.training, losses = unroll(
            self.rule, rules, self.training, problem=self.problem, seeds=seeds, steps=steps
        )
        return losses.nan_to_num(settings.cap, settings.cap).clamp(max=settings.cap).mean(1)

    def _set_lr(self, iteration: int) -> None:
        half = 0.5 * (1 + math.cos(math.pi * iteration / self.settings.iterations))
        for group in self.descent.optimizer.param_groups:
            group["lr"] = self.settings.lr * half

    def _renew(self, iteration: int) -> None:
        self.age += self.settings.window
        ended = (self.age >= self.settings.horizon).nonzero().squeeze(1)
        if len(ended):
            self.age[ended], self.accumulated[ended] = 0, 0.0
            both = torch.cat([ended, ended + self.settings.pairs]).to(self.phi.device)
            self.training = _replaced(self.training, self._fresh(ended, iteration), both)

    def _fresh(self, pairs: Tensor, iteration: int) -> Training:
        seeds = torch.randint(
            2**31, (self.settings.pairs,), generator=self._rng(iteration, stream=1)
        )[pairs]
        weights = on_device(self.problem.weights(seeds), self.phi.device)
        return start(
            self.rule, {name: torch.cat([tensor, tensor]) for name, tensor in weights.items()}
        )

    def _rng(self, iteration: int, *, stream: int = 0) -> torch.Generator:
        return torch.Generator().manual_seed(
            (self.settings.seed * 1_000_003 + iteration) * 2 + stream
        )

    def save(self) -> None:
        """Write all of it."""
        self.saved.write(
            {
                "phi": self.phi.detach(),
                "adam": self.descent.optimizer.state_dict(),
                "history": self.history,
                "age": self.age,
                "accumulated": self.accumulated,
                "training": tuple(self.training),
            }
        )

    def resume(self) -> None:
        """Go on from the file, if there is one."""
        state = self.saved.read()
        if state is None:
            return
        self.phi.data.copy_(state["phi"])
        self.descent.optimizer.load_state_dict(state["adam"])
        self.history, self.age = state["history"], state["age"]
        self.accumulated = state["accumulated"].to(self.phi.device)
        weights, memory, step = state["training"]
        weights, memory = (on_device(part, self.phi.device) for part in (weights, memory))
        self.training = Training(weights, memory, step.to(self.phi.device))

    def _identity(self) -> str:
        """What a saved state belongs to: settings, the rule as it starts, the tensors, the data."""
        values = [
            float(t.detach().double().sum())
            for t in (self.phi, self.problem.inputs, self.problem.targets)
        ]
        network = dict(shapes(self.training.weights, 1))
        kind, size = type(self.rule).__name__, self.problem.batch_size
        return repr((self.settings, kind, dict(self.shapes), values, network, size))


def _replaced(training: Training, fresh: Training, where: Tensor) -> Training:
    def put(old: Tensor, new: Tensor) -> Tensor:
        return old.index_copy(0, where, new)

    weights, memory = (
        {name: put(old[name], new[name]) for name in old}
        for old, new in zip(training[:2], fresh[:2], strict=True)
    )
    return Training(weights, memory, put(training.step, fresh.step))
