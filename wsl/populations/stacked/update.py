"""One update of N members as one pure function: gradient, clipping, optimiser, and a freeze for
members that diverge.

    g_i = grad loss(f_theta_i(x_i), y_i);    g_i <- g_i min(1, c / |g_i|);    theta_i <-
        step(theta_i, g_i)  where finite

The gradient of sum_i loss_i with respect to the stacked weights is every member's own gradient,
since loss_i reads row i only; so one backward pass of ``vmap(functional_call)`` serves all. Batch
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
from torch import Tensor, nn

from wsl.params import Params, Shapes, unravel
from wsl.populations.architectures import PerMember
from wsl.populations.stacked.optimizers import Optimizer, State


class Members(NamedTuple):
    """N members in training: weights (N, P), buffers and optimiser state stacked, ``diverged`` (N,)
    int64, -1 for never.
    """

    weights: Tensor
    buffers: Params
    state: State
    diverged: Tensor


class Conditions(NamedTuple):
    """What a step is given: its number from 0 (0-d int64), seeds (N,), and per-member numbers, each
    (N, 1).
    """

    step: Tensor
    seeds: Tensor
    hyper: Params


@dataclasses.dataclass(frozen=True, eq=False)
class Update:
    """The step of ``model``'s architecture, ``shapes`` its trainable tensors; ``clip`` is the
    largest norm of a gradient.
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
        self, members: Members, given: Conditions, inputs: Tensor, targets: Tensor
    ) -> Members:
        """The members after one step on ``inputs`` and ``targets``, both (N, B, ...).

        Inputs that are one batch expanded over the members, such as the coordinates of fields, are
        read once for all.
        """
        buffers = {name: tensor.clone() for name, tensor in members.buffers.items()}
        weights = members.weights.detach().requires_grad_()
        losses = self._losses(weights, buffers, given, inputs, targets)
        (grads,) = torch.autograd.grad(losses.sum(), [weights])
        return self._move(members, given, buffers, losses.detach(), grads)

    def _losses(
        self, weights: Tensor, buffers: Params, given: Conditions, inputs: Tensor, targets: Tensor
    ) -> Tensor:
        """(N,); ``buffers`` are updated in place."""
        shared = len(inputs) > 1 and inputs.stride(0) == 0
        inputs = inputs[0] if shared else _channels_last(inputs)
        rates = given.hyper.get("dropout")

        def one(
            theta: Params, running: Params, seed: Tensor, rate: Tensor | None, x: Tensor, y: Tensor
        ) -> Tensor:
            with PerMember(seed, given.step, rate):
                outputs = torch.func.functional_call(self.model, (theta, running), (x,))
            return self.loss(outputs, y)

        axes = (0, 0, 0, None if rates is None else 0, None if shared else 0, 0)
        stacked = torch.vmap(one, in_dims=axes)
        return stacked(
            unravel(weights, self.shapes),
            buffers,
            given.seeds,
            rates if rates is None else rates[:, 0],
            inputs,
            targets,
        )

    def _move(
        self, members: Members, given: Conditions, buffers: Params, losses: Tensor, grads: Tensor
    ) -> Members:
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
        diverged = torch.where((members.diverged < 0) & ~alive, given.step, members.diverged)
        return Members(
            torch.where(alive[:, None], weights, members.weights), buffers, state, diverged
        )


def _channels_last(x: Tensor) -> Tensor:
    """The same images (N, B, C, H, W), members and channels innermost in memory: the grouped
    convolution's channels-last.
    """
    return x.permute(1, 3, 4, 0, 2).contiguous().permute(3, 0, 4, 1, 2) if x.dim() == 5 else x
