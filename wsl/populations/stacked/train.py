"""Train N members of one architecture as one stacked network, each as if it were alone.

    theta_i <- step(theta_i, grad_i loss(f_theta_i(x_i,t), y_i,t); lr_i, wd_i)      i = 1..N at once

Any module that `torch.vmap` can read, any loss. Members are trained in chunks small enough that
what one step writes stays near the processor; large jobs are compiled (`wsl.base.compiled`), where
pointwise operations, reductions and the optimiser are fused around the stacked matrix products.
Convolutions run as torch lowers them, to grouped ones, fed channels-last: with oneDNN that was as
fast as im2col with batched matrix products when both are compiled, and faster when neither is.

Guarantees: what member i becomes depends on its own weights, seed and hyper-parameters, and not on
N, on its neighbours or on chunks, to rounding; a member that diverges stops in its own row and is
reported. Not here: members of different architectures (train each group with a call of its own),
and losses that look at more than one member.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from wsl.base import Engine, cost
from wsl.params import Params, ravel, shapes, unravel
from wsl.populations.stacked.optimizers import Optimizer
from wsl.populations.stacked.schedules import Constant, Schedule, factors
from wsl.populations.stacked.update import Conditions, Members, StackedUpdate
from wsl.zoo import ZooError

Batches = Callable[[int], tuple[Tensor, Tensor]]
"""Step number (from 0) -> inputs (N, B, ...) and targets (N, B, ...)."""
_CONSTANT = Constant()
WORKING_SET = 8 << 20
"""Elements that one step may write: 32 MB of float32, about the last cache of a few server cores.
"""


@runtime_checkable
class Selectable(Protocol):
    """Batches that can be asked for some of the members only."""

    def of(self, members: Tensor) -> Batches:
        """The batches of the members at these positions, (n,) int64."""
        ...


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class MemberSettings:
    """Hyper-parameters that each of N members has of its own, tensors (N,).

    ``momentum``, ``betas`` (N, 2) and ``dropout`` replace those of the optimiser and the modules;
    None leaves them. ``seeds`` decide the draws of dropout, by default 0..N-1.
    """

    lr: Tensor
    weight_decay: Tensor
    momentum: Tensor | None = None
    betas: Tensor | None = None
    dropout: Tensor | None = None
    seeds: Tensor | None = None

    @property
    def by_name(self) -> Params:
        """Those that are given, without the seeds; the two betas are ``beta1`` and ``beta2``."""
        given = {
            "lr": self.lr,
            "weight_decay": self.weight_decay,
            "momentum": self.momentum,
            "dropout": self.dropout,
        }
        if self.betas is not None:
            given |= {"beta1": self.betas[:, 0], "beta2": self.betas[:, 1]}
        return {name: value for name, value in given.items() if value is not None}


@dataclasses.dataclass(frozen=True, kw_only=True)
class SharedSettings:
    """What all members of a training have in common.

    ``snapshots`` are the numbers of updates after which weights are kept, by default the last of
    ``steps``. ``schedule`` multiplies the learning rates, one for all or one for each member;
    ``clip`` bounds the norm of each member's gradient. At most ``chunk`` members are trained at
    once, by default as many as fit the cache.
    """

    optimizer: Optimizer
    steps: int
    snapshots: Sequence[int] | None = None
    schedule: Schedule | Sequence[Schedule] = _CONSTANT
    clip: float | None = None
    chunk: int | None = None

    @property
    def kept(self) -> tuple[int, ...]:
        """The snapshots in ascending order, each once."""
        return tuple(sorted(set(self.snapshots or [self.steps])))


@dataclasses.dataclass(frozen=True, eq=False)
class Trained:
    """Checkpoints of N members: ``snapshots[k]`` after ``steps[k]`` updates, tensors (N, ...).

    ``diverged`` (N,) int64 is the step at which a member's loss or gradient was no longer finite,
    -1 for never; from there on its weights stand still. ``finite`` (N,) is False for a member that
    diverged, or held a NaN or an infinity in any snapshot.
    """

    steps: tuple[int, ...]
    snapshots: tuple[Params, ...]
    diverged: Tensor
    finite: Tensor


def train_population(
    model: nn.Module,
    params: Mapping[str, Tensor],
    loss: Callable[[Tensor, Tensor], Tensor],
    *,
    batches: Batches,
    members: MemberSettings,
    shared: SharedSettings,
    engine: Engine | None = None,
) -> Trained:
    """Train the stacked members ``params`` (N, ...), all of the architecture of ``model``.

    ``loss(outputs, targets)`` is one member's scalar, such as `torch.nn.functional.cross_entropy`.
    ``params`` is not changed; ``model`` gives the architecture and runs in train mode. ``engine``
    says whether to compile, by default where it pays. Raises `ZooError` naming the setting that
    does not fit the members.
    """
    hyper = members.by_name
    count = len(next(iter(params.values())))
    _check(count, hyper, shared)
    trainable = shapes({name: params[name] for name in _trainable(model, params)}, 1)
    update = StackedUpdate(model, trainable, loss, shared.optimizer, shared.clip)
    seeds = torch.arange(count) if members.seeds is None else members.seeds
    training = model.training
    model.train()
    try:
        return _Job(update, batches, hyper, seeds, shared).run(params, engine or Engine())
    finally:
        model.train(training)


def finite_members(params: Mapping[str, Tensor]) -> Tensor:
    """(N,) bool on the CPU: which rows of the stacked tensors hold neither NaN nor infinity."""
    each = [tensor.isfinite() for tensor in params.values()]
    return torch.stack(
        [(row.flatten(1).all(1) if row.dim() > 1 else row).cpu() for row in each]
    ).all(0)


@dataclasses.dataclass(frozen=True, eq=False)
class _Job:
    """A training of N members, cut into chunks; ``hyper`` and ``seeds`` hold (N,) tensors."""

    update: StackedUpdate
    batches: Batches
    hyper: Params
    seeds: Tensor
    shared: SharedSettings

    def run(self, params: Mapping[str, Tensor], engine: Engine) -> Trained:
        elements = self._cost(params)
        chunks = self._chunks(elements, next(iter(params.values())).device)
        prepare = functools.partial(
            engine.prepare,
            elements=elements * len(chunks[0]),
            runs=self.shared.steps * len(chunks),
            key=self.update.key,
        )
        return self._joined([self._train(params, which, prepare) for which in chunks])

    def _chunks(self, elements: int, device: torch.device) -> list[Tensor]:
        """Positions of the members of each chunk, where a step of one writes ``elements``.

        All chunks have one size, since what is compiled serves one size: the last is filled up with
        repetitions of the last member, which `_joined` drops.
        """
        total = len(self.seeds)
        at_once = self.shared.chunk or _members_at_once(elements, device)
        parts = math.ceil(total / min(at_once, total))
        size = math.ceil(total / parts)
        return [
            torch.arange(first, first + size).clamp(max=total - 1)
            for first in range(0, total, size)
        ]

    def _joined(self, done: Sequence[tuple[list[Params], Tensor]]) -> Trained:
        """What the chunks came to, as one."""
        total, kept = len(self.seeds), self.shared.kept
        snapshots = [_join([chunk[k] for chunk, _ in done], total) for k in range(len(kept))]
        diverged = torch.cat([diverged for _, diverged in done])[:total].cpu()
        finite = torch.stack([diverged < 0, *map(finite_members, snapshots)]).all(0)
        return Trained(kept, tuple(snapshots), diverged, finite)

    def _train(
        self, params: Mapping[str, Tensor], which: Tensor, prepare: Callable[..., Any]
    ) -> tuple[list[Params], Tensor]:
        """Snapshots of the members ``which``, and when each diverged."""
        members, batches = self._start(params, which), _select(self.batches, which)
        keep, kept = self.shared.kept, list[Params]()
        update = None
        for step in range(self.shared.steps):
            if step in keep:
                kept.append(self._snapshot(members, params))
            arguments = members, self._conditions(members, which, step), batches(step)
            update = prepare(self.update, *arguments) if update is None else update
            members = update(*arguments)
        if self.shared.steps in keep:
            kept.append(self._snapshot(members, params))
        return kept, members.diverged

    def _snapshot(self, members: Members, names: Iterable[str]) -> Params:
        weights = unravel(members.weights.clone(), self.update.shapes)
        return {name: (weights | members.buffers)[name] for name in names}

    def _cost(self, params: Mapping[str, Tensor]) -> int:
        """Elements that a step of one member writes."""
        if not self.shared.steps:
            return 1
        one = torch.arange(1)
        members = self._start(params, one)
        conditions = self._conditions(members, one, 0)
        return cost(self.update, members, conditions, _select(self.batches, one)(0))

    def _start(self, params: Mapping[str, Tensor], which: Tensor) -> Members:
        own = {name: params[name][which.to(params[name].device)].detach() for name in params}
        weights = ravel({name: own.pop(name) for name in self.update.shapes}, 1)
        never = torch.full((len(which),), -1, device=weights.device)
        return Members(weights, own, self.update.optimizer.initial_state(weights), never)

    def _factor(self, step: int) -> Tensor:
        """(N,) that the learning rates are multiplied with."""
        shared, total = self.shared, len(self.seeds)
        return factors(shared.schedule, step, steps=shared.steps, members=total)

    def _conditions(self, members: Members, which: Tensor, step: int) -> Conditions:
        device = members.weights.device
        factor = self._factor(step)
        own = self.hyper | {"lr": self.hyper["lr"].cpu() * factor}
        hyper = {name: _column(value, which, members.weights) for name, value in own.items()}
        number, seeds = torch.tensor(step, device=device), self.seeds.cpu()[which]
        return Conditions(number, seeds.to(device), hyper)


def _members_at_once(elements: int, device: torch.device) -> int:
    """As many members as fit the working set, each writing ``elements``.

    On an accelerator the working set is a third of the memory that is free. On a processor it may
    be exceeded four times where fewer than a dozen would fit, since kernels of a few members are
    slow: convolutions of 2.5 million elements took 8 ms a member with 3 at once, 4.4 with 12.
    """
    if device.type == "cuda":
        return max(torch.cuda.mem_get_info(device)[0] // (3 * 4 * elements), 1)
    return max(WORKING_SET // elements, min(12, 4 * WORKING_SET // elements), 1)


def _select(batches: Batches, which: Tensor) -> Batches:
    """The batches of some members; those of a plain function are made for all and cut."""
    if isinstance(batches, Selectable):
        return batches.of(which)

    def selected(step: int) -> tuple[Tensor, Tensor]:
        inputs, targets = batches(step)
        return _rows(inputs, which), _rows(targets, which)

    return selected


def _column(value: Tensor, which: Tensor, like: Tensor) -> Tensor:
    """(n, 1) of the members ``which``, of type and device of ``like``."""
    return value.cpu()[which, None].to(like)


def _rows(tensor: Tensor, which: Tensor) -> Tensor:
    """Rows ``which``; where all rows are one in memory they stay so."""
    if tensor.stride(0) == 0:
        return tensor[:1].expand(len(which), *tensor.shape[1:])
    return tensor[which.to(tensor.device)]


def _join(parts: Sequence[Params], total: int) -> Params:
    return {name: torch.cat([part[name] for part in parts])[:total] for name in parts[0]}


def _trainable(model: nn.Module, params: Mapping[str, Tensor]) -> list[str]:
    """Names of the parameters, in the order of ``params``.

    Raises `ZooError` unless ``params`` has the names of the model's state dict.
    """
    own = {name for name, _ in model.named_parameters()}
    known = own | {name for name, _ in model.named_buffers()}
    if odd := (set(params) ^ set(model.state_dict())) | (set(params) - known):
        raise ZooError(
            f"params: {', '.join(sorted(odd))}: must be the names in the state dict, none of them "
            "tied"
        )
    return [name for name in params if name in own]


def _check(count: int, hyper: Mapping[str, Tensor], shared: SharedSettings) -> None:
    for name, value in hyper.items():
        if value.shape != (count,):
            raise ZooError(
                f"{name}: has shape {tuple(value.shape)}, but {count} members need ({count},)"
            )
    if shared.kept[0] < 0 or shared.kept[-1] > shared.steps:
        raise ZooError(
            f"snapshots: {list(shared.kept)} must lie between 0 and steps = {shared.steps}"
        )
