"""`relu` and `peak` (a maximum) with derivatives that compile to fast code on processors.

    y = max(x, 0):    dx = dy * sign(y);          y = max_i x_i:    dx_i = dy * h_i / sum_j h_j,
        h_i = 1 + sign(x_i - y)

The derivatives of `Tensor.relu` and `Tensor.amax` are masks, one bool per element. TorchInductor
(torch 2.13) keeps them from forward to backward, and its C++ code stores and loads bools slowly:
three fourths of the time of a compiled layer with its ReLU (docs/layer_speed.md). Here they are
floats. Same values and gradients as torch's own, to rounding, for finite features; where nothing is
compiled torch's own run, because there they are the faster.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def relu(x: Tensor) -> Tensor:
    """max(x, 0), of any shape."""
    return _Relu.apply(x) if torch.compiler.is_compiling() else x.relu()  # pyright: ignore[reportReturnType]


def peak(x: Tensor) -> Tensor:
    """Maximum over the first axis; where several are the largest they share the gradient."""
    return _Peak.apply(x) if torch.compiler.is_compiling() else x.amax(0)  # pyright: ignore[reportReturnType]


class _Relu(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.relu()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        del inputs
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        return grads[0] * y.sign()


class _Peak(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.amax(0)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs, output)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        x, y = ctx.saved_tensors
        hits = (x - y).sign() + 1
        return hits * (grads[0] / hits.sum(0))
