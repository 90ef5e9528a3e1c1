"""What a network does, as a term to train by: outputs of decoded beside those of original weights.

    behaviour(theta', theta) = sum |f_theta'(x) - f_theta(x)|^2 / sum |f_theta(x) - mean f_theta|^2

No labels are read, only what the members of the population answer. Meynent et al. (2025), arXiv
2503.17138. Running statistics of batch norm are weights like others here, and gradients reach them.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from wsl.params import call
from wsl.symmetry import copied


class Behaviour:
    """Distance of two stacks of weights (n, ...) in what ``model`` answers with them.

    inputs: (N, *shape), what the population was trained on or is like it; rows are drawn from it.
    Test inputs do not belong here.
    weight: factor of the term against the mean squared error of standardised weights; more of it
    makes decoded networks better and more alike.
    """

    def __init__(
        self, model: nn.Module, inputs: Tensor, *, batch_size: int = 48, weight: float = 4.0
    ) -> None:
        self.model = _with_open_norms(copied(model).eval())
        self.inputs, self.batch_size, self.weight = inputs, batch_size, weight

    def __call__(
        self,
        decoded: Mapping[str, Tensor],
        target: Mapping[str, Tensor],
        generator: torch.Generator,
    ) -> Tensor:
        """The weighted distance, differentiable in ``decoded``."""
        rows = torch.randint(len(self.inputs), (self.batch_size,), generator=generator)
        x = self.inputs[rows.to(self.inputs.device)]
        with torch.no_grad():
            wanted = call(self.model, target, x)
            spread = (wanted - wanted.mean()).square().mean()
        return (
            self.weight
            * (call(self.model, decoded, x) - wanted).square().mean()
            / spread.clamp_min(1e-12)
        )


class _OpenNorm(nn.Module):
    """Batch norm in evaluation mode, differentiable in its running statistics, as torch's is not.

    (x - mu) / sqrt(var + eps) * weight + bias, along axis 1, by the norm's own tensors.
    """

    running_mean: Tensor
    running_var: Tensor
    weight: Tensor
    bias: Tensor
    affine: bool

    def __init__(self, norm: _BatchNorm) -> None:
        super().__init__()
        self.eps, self.affine = norm.eps, norm.affine
        for name, parameter in norm.named_parameters(recurse=False):
            self.register_parameter(name, parameter)
        for name, buffer in norm.named_buffers(recurse=False):
            self.register_buffer(name, buffer)

    def forward(self, x: Tensor) -> Tensor:
        """Of the shape of ``x``."""
        shape = (1, -1, *[1] * (x.dim() - 2))
        y = (x - self.running_mean.view(shape)) * (self.running_var.view(shape) + self.eps).rsqrt()
        if self.affine:
            y = y * self.weight.view(shape) + self.bias.view(shape)
        return y


def _with_open_norms(model: nn.Module) -> nn.Module:
    """``model`` with `_OpenNorm` in place of every batch norm that keeps statistics."""
    opened: dict[nn.Module, nn.Module] = {
        module: _OpenNorm(module)
        for module in model.modules()
        if isinstance(module, _BatchNorm) and module.running_mean is not None
    }
    for parent in [*model.modules()]:
        for name, child in parent.named_children():
            if child in opened:
                setattr(parent, name, opened[child])
    return opened.get(model, model)
