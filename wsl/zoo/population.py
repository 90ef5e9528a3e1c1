"""Train N members of one architecture as one: a stacked gradient step, each member as if it were alone.

    theta_i <- step(theta_i, grad_i loss(f_theta_i(x_i,t), y_i,t); lr_i, wd_i),      i = 1..N at once

The gradient of sum_i loss_i with respect to the stacked weights is every member's own gradient, since member i's loss reads
row i only; so one backward pass of ``vmap(functional_call)`` serves all. Batch norm needs nothing special: with running
statistics stacked like the weights, vmap lets the module update each member's own in place.

Guarantees: what member i becomes depends on its own weights, seed and hyper-parameters, and not on N or on its neighbours,
to rounding; a member that diverges turns to NaN in its own row and is reported. It does not clip gradients, schedule
learning rates, or know dropout (vmap refuses its draws). Convolutions run as torch lowers them, to grouped ones, fed
channels-last: on 8x8 images with oneDNN, several times faster than im2col with batched matrix products.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from wsl.params import Params, from_module, stack
from wsl.zoo import counter
from wsl.zoo.error import ZooError
from wsl.zoo.optimizers import Optimizer

_SUBSET, _BATCH = 1, 2  # streams of one member's randomness

Batches = Callable[[int], tuple[Tensor, Tensor]]
"""Step number (from 0) -> inputs (N, B, ...) and targets (N, B, ...)."""


@dataclasses.dataclass(frozen=True, eq=False)
class Trained:
    """Checkpoints of N members: ``snapshots[k]`` after ``steps[k]`` updates, tensors (N, ...).

    ``finite`` (N,) is False for a member that held a NaN or an infinity in any snapshot: it diverged.
    """

    steps: tuple[int, ...]
    snapshots: tuple[Params, ...]
    finite: Tensor


@dataclasses.dataclass(frozen=True, eq=False)
class SampledBatches:
    """Batches drawn with replacement, member i's at step t a function of (seeds[i], t) alone.

    ``inputs`` and ``targets`` (M, ...) are shared; member i draws from its own subset of fraction[i] M of them, rounded, again
    a function of its seed. ``seeds`` (N,) int64, ``fraction`` (N,) in (0, 1].
    """

    inputs: Tensor
    targets: Tensor
    seeds: Tensor
    batch_size: int
    fraction: Tensor

    def __post_init__(self) -> None:
        if not bool(((self.fraction > 0) & (self.fraction <= 1)).all()):
            raise ZooError(f"fraction: {self.fraction.min():g} to {self.fraction.max():g} given, but it must lie in (0, 1]")
        rank = counter.uniform(self.seeds[:, None], _SUBSET, torch.arange(len(self.inputs)))
        object.__setattr__(self, "_order", rank.argsort(1))
        object.__setattr__(self, "_sizes", (self.fraction * len(self.inputs)).round().long().clamp(min=1))

    def indices(self, step: int) -> Tensor:
        """(N, B) positions in ``inputs`` that the members read at ``step``."""
        draw = counter.uniform(self.seeds[:, None], _BATCH, step, torch.arange(self.batch_size))
        return self._order.gather(1, (draw * self._sizes[:, None]).long())  # type: ignore[attr-defined]

    def __call__(self, step: int) -> tuple[Tensor, Tensor]:
        """Inputs (N, B, ...) and targets (N, B, ...) of ``step``."""
        index = self.indices(step).to(self.inputs.device)
        return self.inputs[index], self.targets[index]


def initial_population(make: Callable[[], nn.Module], seeds: Iterable[int], *, scale: Tensor | None = None) -> Params:
    """Stacked initial weights: member i is ``make()`` under ``torch.manual_seed(seeds[i])``; the caller's state is untouched.

    ``scale`` (N,) multiplies every tensor of two axes or more, that is weights and not biases or norms.
    """
    members = []
    with torch.random.fork_rng(devices=[]):
        for seed in seeds:
            torch.manual_seed(int(seed))
            members.append(from_module(make()))
    params = stack(members)
    if scale is None:
        return params
    return {k: t * scale.to(t).view(-1, *[1] * (t.dim() - 1)) if t.dim() > 2 else t for k, t in params.items()}


def train_population(model: nn.Module, params: Mapping[str, Tensor], loss: Callable[[Tensor, Tensor], Tensor], *,
                     batches: Batches, optimizer: Optimizer, lr: Tensor, weight_decay: Tensor, steps: int,
                     snapshots: Sequence[int] | None = None) -> Trained:  # fmt: skip
    """Train the stacked members ``params`` (N, ...) for ``steps`` updates of ``model``'s architecture.

    ``loss(outputs, targets)`` is one member's scalar, such as `torch.nn.functional.cross_entropy`. ``lr`` and
    ``weight_decay`` have shape (N,). ``snapshots`` are the numbers of updates after which weights are kept, by default
    the last. ``params`` is not changed; ``model`` gives the architecture and runs in train mode. Raises `ZooError`.
    """
    keep = tuple(sorted(set(snapshots or [steps])))
    weights, buffers = _leaves(model, params)
    members = len(next(iter(weights.values())))
    _check(members, keep, steps=steps, lr=lr, weight_decay=weight_decay)
    state = optimizer.initial_state(list(weights.values()))

    def one(theta: Params, running: Params, x: Tensor, y: Tensor) -> Tensor:
        return loss(torch.func.functional_call(model, (theta, running), (x,)), y)

    kept, finite = [], torch.ones(members, dtype=torch.bool)
    training = model.training
    model.train()
    for count in range(steps + 1):
        if count in keep:
            kept.append({name: (weights | buffers)[name].detach().clone() for name in params})
            finite &= finite_members(kept[-1])
        if count < steps:
            inputs, targets = batches(count)
            losses = torch.vmap(one)(weights, buffers, _channels_last(inputs), targets)
            grads = torch.autograd.grad(losses.sum(), list(weights.values()))
            optimizer.step(list(weights.values()), grads, state=state, count=count + 1, lr=lr, weight_decay=weight_decay)
    model.train(training)
    return Trained(keep, tuple(kept), finite)


def _channels_last(x: Tensor) -> Tensor:
    """The same images (N, B, C, H, W), members and channels innermost in memory: the grouped convolution's channels-last."""
    return x.permute(1, 3, 4, 0, 2).contiguous().permute(3, 0, 4, 1, 2) if x.dim() == 5 else x


def finite_members(params: Mapping[str, Tensor]) -> Tensor:
    """(N,) bool on the CPU: which rows of the stacked tensors hold neither NaN nor infinity."""
    return torch.stack([tensor.isfinite().reshape(len(tensor), -1).all(1).cpu() for tensor in params.values()]).all(0)


def _leaves(model: nn.Module, params: Mapping[str, Tensor]) -> tuple[Params, Params]:
    """Fresh copies: parameters as leaves that want a gradient, buffers as they are."""
    own = {name for name, _ in model.named_parameters()}
    known = own | {name for name, _ in model.named_buffers()}
    if odd := (set(params) ^ set(model.state_dict())) | (set(params) - known):
        raise ZooError(f"params: {', '.join(sorted(odd))}: must be the names in the state dict, none of them tied")
    weights = {name: params[name].detach().clone().requires_grad_() for name in params if name in own}
    return weights, {name: params[name].detach().clone() for name in params if name not in own}


def _check(members: int, keep: Sequence[int], *, steps: int, lr: Tensor, weight_decay: Tensor) -> None:
    for name, value in (("lr", lr), ("weight_decay", weight_decay)):
        if value.shape != (members,):
            raise ZooError(f"{name}: has shape {tuple(value.shape)}, but {members} members need ({members},)")
    if keep[0] < 0 or keep[-1] > steps:
        raise ZooError(f"snapshots: {list(keep)} must lie between 0 and steps = {steps}")
