"""Batch norm that a term can be trained through, in place of torch's.

    open       (x - mu) / sqrt(var + eps) * weight + bias,   mu and var among the weights
    measured   the same with mu and var of the batch itself

In evaluation mode torch's batch norm gives no gradient to its running statistics, and in training
mode it writes to them, which a stack of networks run as one call cannot do.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from wsl.symmetry import copied


class _Norm(nn.Module):
    """The tensors of a batch norm that keeps statistics, under the same names."""

    running_mean: Tensor
    running_var: Tensor
    weight: Tensor | None
    bias: Tensor | None

    def __init__(self, norm: _BatchNorm) -> None:
        super().__init__()
        self.eps = norm.eps
        for name in ("weight", "bias"):
            self.register_parameter(name, getattr(norm, name))
        for name, buffer in norm.named_buffers(recurse=False):
            self.register_buffer(name, buffer)


class OpenNorm(_Norm):
    """Batch norm in evaluation mode, differentiable in its running statistics."""

    def forward(self, x: Tensor) -> Tensor:
        """Of the shape of ``x``; channels lie along axis 1."""
        shape = (1, -1, *[1] * (x.dim() - 2))
        y = (x - self.running_mean.view(shape)) * (self.running_var.view(shape) + self.eps).rsqrt()
        if self.weight is not None and self.bias is not None:
            y = y * self.weight.view(shape) + self.bias.view(shape)
        return y


class MeasuredNorm(_Norm):
    """Batch norm by the statistics of the batch; the running ones are neither read nor written."""

    def forward(self, x: Tensor) -> Tensor:
        """Of the shape of ``x``; channels lie along axis 1."""
        return F.batch_norm(x, None, None, self.weight, self.bias, training=True, eps=self.eps)


def with_norms(model: nn.Module, kind: type[_Norm]) -> nn.Module:
    """``model``, changed in place, with ``kind`` for every batch norm that keeps statistics."""
    made: dict[nn.Module, nn.Module] = {
        module: kind(module)
        for module in model.modules()
        if isinstance(module, _BatchNorm) and module.running_mean is not None
    }
    for parent in [*model.modules()]:
        for name, child in parent.named_children():
            if child in made:
                setattr(parent, name, made[child])
    return made.get(model, model)


def with_open_norms(model: nn.Module, *, measured: bool = False) -> nn.Module:
    """A copy in evaluation mode whose batch norm a term can be trained through.

    measured: by the statistics of the batch in place of those among the weights.
    """
    return with_norms(copied(model).eval(), MeasuredNorm if measured else OpenNorm)
