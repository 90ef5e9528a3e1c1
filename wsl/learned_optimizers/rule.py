"""Update rules: the learned one, and hand-written ones of the same form.

    m <- c m + (1 - c) g
    theta <- theta - a (m + b f(x)),    a, b, c learned, f a functional of `features` x

Zhou, Finn, Harrison (2024), Universal Neural Functionals, arXiv 2402.05232, section 4: SGD with
momentum and a learned correction; the nominal term is that of Harrison et al. (2022), arXiv
2209.11208. The rule is equivariant if f is. A rule is a module: ``start(weights)`` gives a
`Training`, ``rule(training, grads)`` the next; one network each, many by `torch.vmap`. No magnitude
head exp(b') beside the direction: the paper's counts leave room for one output.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from wsl.learned_optimizers.features import DECAYS, FEATURES, features
from wsl.nn import UpdateNet
from wsl.params import Params, ravel, shapes, unravel
from wsl.populations import Optimizer
from wsl.symmetry import PermutationSpec


class Training(NamedTuple):
    """A network in training: weights, what the rule remembers, the number of updates (0-d)."""

    weights: Params
    memory: Params
    step: Tensor


class Rule(Protocol):
    """What `unroll` runs."""

    def start(self, weights: Mapping[str, Tensor]) -> Training:
        """Before the first update."""
        ...

    def __call__(self, training: Training, grads: Mapping[str, Tensor]) -> Training:
        """After one more update."""
        ...


class LearnedOptimizer(nn.Module):
    """SGD with momentum, plus a functional.

    ``net`` takes (1, *shape, 19) for every tensor and gives (1, *shape, 1). ``lr``, ``momentum``
    and ``share`` are where the three scalars a, c and b start; all stay positive, c below one.
    """

    def __init__(
        self, net: nn.Module, *, lr: float = 0.1, momentum: float = 0.9, share: float = 0.1
    ):
        super().__init__()
        if not (lr > 0 and 0 < momentum < 1 and share > 0):
            raise ValueError(
                f"lr={lr}, momentum={momentum}, share={share}: lr and share must be positive and "
                "momentum lie "
                "between 0 and 1"
            )
        self.net = net
        self.log_lr = nn.Parameter(torch.tensor(math.log(lr)))
        self.logit_momentum = nn.Parameter(torch.tensor(math.log(momentum / (1 - momentum))))
        self.log_share = nn.Parameter(torch.tensor(math.log(share)))

    @classmethod
    def from_spec(
        cls, spec: PermutationSpec, *, mixing: bool = True, hidden: int = 32, **start: float
    ) -> LearnedOptimizer:
        """The paper's rules, an `UpdateNet` of 32 channels: UNF with ``mixing``, DeepSets without.

        ``start`` is ``lr``, ``momentum`` and ``share`` of the class.
        """
        return cls(UpdateNet(spec, FEATURES, mixing=mixing, hidden=hidden), **start)

    def start(self, weights: Mapping[str, Tensor]) -> Training:
        """Averages of gradients (*shape, 1 + 6) at zero: the learned decay's, then `DECAYS`."""
        memory = {
            name: theta.new_zeros(*theta.shape, 1 + len(DECAYS)) for name, theta in weights.items()
        }
        return Training(dict(weights), memory, next(iter(weights.values())).new_zeros(()))

    def forward(self, training: Training, grads: Mapping[str, Tensor]) -> Training:
        """One update. Raises ValueError when ``net`` gives anything but one channel."""
        memory = self._averages(training, grads)
        moved = {}
        for name, correction in self._corrections(training, grads, memory).items():
            direction = memory[name][..., 0] + self.log_share.exp() * correction
            moved[name] = training.weights[name] - self.log_lr.exp() * direction
        return Training({name: moved[name] for name in training.weights}, memory, training.step + 1)

    def _averages(self, training: Training, grads: Mapping[str, Tensor]) -> Params:
        """Running averages of gradients, one update further."""
        fixed = torch.tensor(DECAYS, dtype=training.step.dtype, device=training.step.device)
        decay = torch.cat([self.logit_momentum.sigmoid().view(1), fixed])
        return {
            name: g.unsqueeze(-1).lerp(training.memory[name], decay) for name, g in grads.items()
        }

    def _corrections(
        self, training: Training, grads: Mapping[str, Tensor], memory: Params
    ) -> Params:
        momenta = {name: averages[..., 1:] for name, averages in memory.items()}
        seen = features(training.weights, grads, momenta, step=training.step)
        said = self.net({name: x.unsqueeze(0) for name, x in seen.items()})
        for name, theta in training.weights.items():
            if said[name].shape != (1, *theta.shape, 1):
                raise ValueError(
                    f"{name}: the net gave {tuple(said[name].shape)}, but a rule needs one "
                    "channel, "
                    f"{(1, *theta.shape, 1)}; build it with out_channels=1, residual=False"
                )
        return {name: said[name][0, ..., 0] for name in training.weights}


class HandWritten(nn.Module):
    """An optimiser of `wsl.populations` as a rule, with its learning rate as the only parameter."""

    def __init__(self, optimizer: Optimizer, *, lr: float, weight_decay: float = 0.0):
        super().__init__()
        self.optimizer, self.weight_decay = optimizer, weight_decay
        self.lr = nn.Parameter(torch.tensor(lr))

    def start(self, weights: Mapping[str, Tensor]) -> Training:
        """The optimiser's state, on all weights as one vector."""
        state = self.optimizer.initial_state(ravel(weights))
        return Training(
            dict(weights),
            dict(zip(map(str, range(len(state))), state, strict=True)),
            state[0].new_zeros(()),
        )

    def forward(self, training: Training, grads: Mapping[str, Tensor]) -> Training:
        """One update."""
        theta, step = ravel(training.weights), training.step + 1
        hyper = {"lr": self.lr, "weight_decay": torch.full_like(self.lr, self.weight_decay)}
        ordered = ravel({name: grads[name] for name in training.weights})
        theta, state = self.optimizer.update(
            theta, ordered, state=tuple(training.memory.values()), count=step.double(), hyper=hyper
        )
        memory = dict(zip(training.memory, state, strict=True))
        return Training(unravel(theta, shapes(training.weights)), memory, step)
