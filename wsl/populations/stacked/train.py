"""Train N members of one architecture as one: a stacked gradient step, each member as if it were
alone.

    theta_i <- step(theta_i, grad_i loss(f_theta_i(x_i,t), y_i,t); lr_i, wd_i),      i = 1..N at
        once

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
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from wsl.base import Engine, cost
from wsl.params import Params, ravel, shapes, unravel
from wsl.populations.stacked.optimizers import Optimizer
from wsl.populations.stacked.schedules import Constant, Schedule, factors
from wsl.populations.stacked.update import Conditions, Members, Update
from wsl.zoo import ZooError

Batches = Callable[[int], tuple[Tensor, Tensor]]
"""Step number (from 0) -> inputs (N, B, ...) and targets (N, B, ...)."""
_CONSTANT = Constant()
WORKING_SET = 8 << 20
"""Elements that one step may write: 32 MB in float32, about what the last cache of a group of
server cores holds.
"""


@runtime_checkable
class Selectable(Protocol):
    """Batches that can be asked for some of the members only."""

    def of(self, members: Tensor) -> Batches:
        """The batches of the members at these positions, (n,) int64."""
        ...


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
    optimizer: Optimizer,
    lr: Tensor,
    weight_decay: Tensor,
    steps: int,
    snapshots: Sequence[int] | None = None,
    schedule: Schedule | Sequence[Schedule] = _CONSTANT,
    clip: float | None = None,
    momentum: Tensor | None = None,
    betas: Tensor | None = None,
    dropout: Tensor | None = None,
    seeds: Tensor | None = None,
    chunk: int | None = None,
    engine: Engine | None = None,
) -> Trained:
    """Train the stacked members ``params`` (N, ...) for ``steps`` updates of ``model``'s
    architecture.

    ``loss(outputs, targets)`` is one member's scalar, such as `torch.nn.functional.cross_entropy`.
    ``lr`` and ``weight_decay`` have shape (N,), as have ``momentum`` and ``dropout``, which replace
    the optimiser's and the modules' own; ``betas`` has (N, 2). ``schedule`` multiplies ``lr``;
    ``clip`` bounds the norm of each member's gradient. ``seeds`` (N,) decide the draws of dropout.
    ``snapshots`` are the numbers of updates after which weights are kept, by default the last. At
    most ``chunk`` members are trained at once, by default as many as fit the cache. ``params`` is
    not changed; ``model`` gives the architecture and runs in train mode. Raises `ZooError`.
    """
    keep = tuple(sorted(set(snapshots or [steps])))
    members = len(next(iter(params.values())))
    hyper = {
        "lr": lr,
        "weight_decay": weight_decay,
        "momentum": momentum,
        "dropout": dropout,
        **({} if betas is None else {"beta1": betas[:, 0], "beta2": betas[:, 1]}),
    }
    hyper = {name: value for name, value in hyper.items() if value is not None}
    _check(members, keep, steps=steps, hyper=hyper)
    own = _trainable(model, params)
    update = Update(model, shapes({name: params[name] for name in own}, 1), loss, optimizer, clip)
    job = _Job(
        update,
        batches,
        hyper,
        torch.arange(members) if seeds is None else seeds,
        schedule,
        steps,
        keep,
    )
    training = model.training
    model.train()
    try:
        return job.run(params, chunk=chunk, engine=engine or Engine())
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
    """A training of N members, cut into chunks; ``hyper`` holds (N,) tensors."""

    update: Update
    batches: Batches
    hyper: Params
    seeds: Tensor
    schedule: Schedule | Sequence[Schedule]
    steps: int
    keep: tuple[int, ...]

    def run(self, params: Mapping[str, Tensor], *, chunk: int | None, engine: Engine) -> Trained:
        total = len(self.seeds)
        elements = self._cost(params)
        device = next(iter(params.values())).device
        parts = math.ceil(total / min(chunk or _members_at_once(elements, device), total))
        size = math.ceil(total / parts)
        # a last chunk that is smaller is filled up with the last member: what is compiled serves
        # one size
        chunks = [
            torch.arange(first, first + size).clamp(max=total - 1)
            for first in range(0, total, size)
        ]
        budget = {"elements": elements * size, "runs": self.steps * parts, "key": self.update.key}
        done = [
            self._train(params, which, functools.partial(engine.prepare, **budget))
            for which in chunks
        ]
        snapshots = [_join([kept[k] for kept, _ in done], total) for k in range(len(self.keep))]
        diverged = torch.cat([diverged for _, diverged in done])[:total].cpu()
        finite = torch.stack(
            [diverged < 0, *(finite_members(snapshot) for snapshot in snapshots)]
        ).all(0)
        return Trained(self.keep, tuple(snapshots), diverged, finite)

    def _train(
        self, params: Mapping[str, Tensor], which: Tensor, prepare: Callable[..., Any]
    ) -> tuple[list[Params], Tensor]:
        """Snapshots of the members ``which``, and when each diverged."""
        members, batches, kept, update = (
            self._start(params, which),
            _select(self.batches, which),
            [],
            None,
        )
        for step in range(self.steps + 1):
            if step in self.keep:
                weights = unravel(members.weights.clone(), self.update.shapes)
                kept.append({name: (weights | members.buffers)[name] for name in params})
            if step < self.steps:
                arguments = members, self._given(members, which, step), *batches(step)
                update = prepare(self.update, *arguments) if update is None else update
                members = update(*arguments)
        return kept, members.diverged

    def _cost(self, params: Mapping[str, Tensor]) -> int:
        """Elements that a step of one member writes."""
        if not self.steps:
            return 1
        one = torch.arange(1)
        members = self._start(params, one)
        return cost(
            self.update, members, self._given(members, one, 0), *_select(self.batches, one)(0)
        )

    def _start(self, params: Mapping[str, Tensor], which: Tensor) -> Members:
        own = {name: params[name][which.to(params[name].device)].detach() for name in params}
        weights = ravel({name: own.pop(name) for name in self.update.shapes}, 1)
        never = torch.full((len(which),), -1, device=weights.device)
        return Members(weights, own, self.update.optimizer.initial_state(weights), never)

    def _given(self, members: Members, which: Tensor, step: int) -> Conditions:
        rate = self.hyper["lr"].cpu() * factors(
            self.schedule, step, steps=self.steps, members=len(self.seeds)
        )
        hyper = {
            name: value.cpu()[which, None].to(members.weights)
            for name, value in (self.hyper | {"lr": rate}).items()
        }
        device = members.weights.device
        return Conditions(
            torch.tensor(step, device=device), self.seeds.cpu()[which].to(device), hyper
        )


def _members_at_once(elements: int, device: torch.device) -> int:
    """As many as fit the working set, each writing ``elements``; up to four times that where fewer
    than a dozen would.

    On an accelerator the working set is a third of the memory that is free.

    Kernels of a few members are slow: convolutions of 2.5 million elements took 8 ms a member with
    3 at once, 4.4 with 12.
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


def _rows(tensor: Tensor, which: Tensor) -> Tensor:
    """Rows ``which``; where all rows are one in memory they stay so."""
    return (
        tensor[:1].expand(len(which), *tensor.shape[1:])
        if not tensor.stride(0)
        else tensor[which.to(tensor.device)]
    )


def _join(parts: Sequence[Params], total: int) -> Params:
    return {name: torch.cat([part[name] for part in parts])[:total] for name in parts[0]}


def _trainable(model: nn.Module, params: Mapping[str, Tensor]) -> list[str]:
    """Names of the parameters, in the order of ``params``; raises `ZooError` unless ``params`` is
    the model's state dict.
    """
    own = {name for name, _ in model.named_parameters()}
    known = own | {name for name, _ in model.named_buffers()}
    if odd := (set(params) ^ set(model.state_dict())) | (set(params) - known):
        raise ZooError(
            f"params: {', '.join(sorted(odd))}: must be the names in the state dict, none of them "
            "tied"
        )
    return [name for name in params if name in own]


def _check(members: int, keep: Sequence[int], *, steps: int, hyper: Mapping[str, Tensor]) -> None:
    for name, value in hyper.items():
        if value.shape != (members,):
            raise ZooError(
                f"{name}: has shape {tuple(value.shape)}, but {members} members need ({members},)"
            )
    if keep[0] < 0 or keep[-1] > steps:
        raise ZooError(f"snapshots: {list(keep)} must lie between 0 and steps = {steps}")
