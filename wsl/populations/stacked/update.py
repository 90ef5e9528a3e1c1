"""One update of N members as one pure function of tensors.

    g_i = grad loss(f_theta_i(x_i), y_i)            every member's own gradient
    g_i <- g_i min(1, c / |g_i|)                    clipped
    theta_i <- step(theta_i, g_i)                   if loss and gradient are finite, else unchanged

The gradient of sum_i loss_i with respect to the stacked weights is every member's own gradient,
since loss_i reads row i only; so one backward pass of ``vmap(wsl.params.call)`` serves all. Batch
norm needs nothing special: with running statistics stacked like the weights, vmap lets the module
update each member's own. Weights are one matrix (N, P), so that clipping and the optimiser are a
few operations, whatever the network.

A pure function of tensors can be traced and compiled whole (`wsl.base.compiled`). A member whose
loss or gradient is not finite keeps its weights from there on, and ``diverged`` says since when.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable
from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor, nn

from wsl.params import Params, Shapes, call, unravel
from wsl.populations.architectures import PerMember
from wsl.populations.stacked.optimizers import Optimizer, State


class Members(NamedTuple):
    """N members in training: weights (N, P), buffers and optimiser state stacked.

    ``diverged`` (N,) int64 is the step at which a member diverged, -1 for never.
    """

    weights: Tensor
    buffers: Params
    state: State
    diverged: Tensor


class Conditions(NamedTuple):
    """What a step is given besides data: its number from 0, seeds and hyper-parameters.

    ``step`` is 0-d int64, ``seeds`` (N,) int64, each of ``hyper`` (N, 1).
    """

    step: Tensor
    seeds: Tensor
    hyper: Params


@dataclasses.dataclass(frozen=True, eq=False)
class StackedUpdate:
    """The update of members of ``model``'s architecture.

    ``shapes`` are those of its trainable tensors; ``clip`` is the largest norm of a gradient.
    """

    model: nn.Module
    shapes: Shapes
    loss: Callable[[Tensor, Tensor], Tensor]
    optimizer: Optimizer
    clip: float | None = None

    @property
    def key(self) -> Hashable:
        """What tells this function from others on tensors of the same shapes."""
        return self.model, self.loss, self.optimizer, self.clip

    def __call__(
        self, members: Members, given: Conditions, batch: tuple[Tensor, Tensor]
    ) -> Members:
        """The members after one step on ``batch``, inputs and targets, both (N, B, ...).

        Inputs that are one batch expanded over the members, such as the coordinates of fields, are
        read once for all.
        """
        buffers = {name: tensor.clone() for name, tensor in members.buffers.items()}
        weights = members.weights.detach().requires_grad_()
        losses = self._losses((weights, buffers), given, batch)
        (grads,) = torch.autograd.grad(losses.sum(), [weights])
        return self._moved(members._replace(buffers=buffers), given, losses.detach(), grads=grads)

    def _losses(
        self, state: tuple[Tensor, Params], given: Conditions, batch: tuple[Tensor, Tensor]
    ) -> Tensor:
        """(N,) for the weights and buffers of ``state``; the buffers are updated in place."""
        (weights, buffers), (inputs, targets) = state, batch
        shared = len(inputs) > 1 and inputs.stride(0) == 0
        inputs = inputs[0] if shared else _channels_last(inputs)
        rates = given.hyper.get("dropout")
        rates = None if rates is None else rates[:, 0]
        axes = (0, 0), (None, 0, None if rates is None else 0), (None if shared else 0, 0)
        return torch.vmap(self._loss_of_one, in_dims=axes)(
            (unravel(weights, self.shapes), buffers),
            (given.step, given.seeds, rates),
            (inputs, targets),
        )

    def _loss_of_one(
        self,
        state: tuple[Params, Params],
        draws: tuple[Tensor, Tensor, Tensor | None],
        batch: tuple[Tensor, Tensor],
    ) -> Tensor:
        """Of one member: its weights and buffers; step, seed and rate of dropout; its batch."""
        step, seed, rate = draws
        with PerMember(seed, step, rate):
            outputs = call(self.model, {**state[0], **state[1]}, batch[0])
        return self.loss(outputs, batch[1])

    def _moved(
        self, members: Members, given: Conditions, losses: Tensor, *, grads: Tensor
    ) -> Members:
        """The optimiser's step where loss and gradient are finite; elsewhere it is noted."""
        norm = torch.linalg.vector_norm(grads, dim=1, keepdim=True)
        alive = (members.diverged < 0) & losses.isfinite() & norm[:, 0].isfinite()
        if self.clip is not None:
            grads = grads * (self.clip / (norm + 1e-6)).clamp(max=1)
        weights, state = self.optimizer.update(
            members.weights,
            grads,
            state=members.state,
            count=(given.step + 1).double(),
            hyper=given.hyper,
        )
        return members._replace(
            weights=torch.where(alive[:, None], weights, members.weights),
            state=state,
            diverged=torch.where((members.diverged < 0) & ~alive, given.step, members.diverged),
        )


def _channels_last(x: Tensor) -> Tensor:
    """Images (N, B, C, H, W) with members and channels innermost in memory.

    That is the channels-last layout of the grouped convolution with N groups, which vmap makes of N
    convolutions.
    """
    if x.dim() != 5:
        return x
    inner = rearrange(x, "n b c h w -> b h w n c").contiguous()
    return rearrange(inner, "b h w n c -> n b c h w")
