"""`ProbeNet`: read a network by what it answers to learned questions.

    f(theta) = MLP(F_theta(u_1), ..., F_theta(u_N))

with u free parameters, or u = D_3 D_2 D_1 z from learned codes z. F is the base network, run for
all members at once by vmap; the D are matrices without nonlinearity, the regulariser of Kahana et
al. (2024), Deep Linear Probe Generators for Weight Space Learning, arXiv 2410.10811 (theirs are
convolutions). Invariant to whatever leaves the function as it is, permutations, signs, scales and
phases alike, known to the specification or not, because weights are seen through F only; for the
same reason it cannot tell apart two weights of one function. Gradients reach the probes, not the
weights' training. Layers that vmap cannot batch need ``vectorized=False``.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from wsl.nn.engine import validate
from wsl.nn.functional import Functional
from wsl.nn.inputs import head
from wsl.params import Params, call, unstack
from wsl.symmetry import PermutationSpec, copied


class ProbeNet(Functional):
    """Weights (batch, *shape) to (batch, out_features).

    ``base``: the network whose weights are read, a module (copied, in evaluation mode, its own
    weights never used) or a function ``(params, inputs) -> outputs``. ``input_shape``: of one
    input, without batch. ``probes`` of them are learned freely; with ``latent`` > 0 numbers for
    each they are generated through two hidden layers of ``generator_hidden``. ``odd`` changes
    nothing: signs that leave the function as it is are not seen. ``vectorized=False`` runs members
    one by one.
    """

    equivariance = "invariant"
    reads_function = True

    def __init__(
        self,
        spec: PermutationSpec,
        base: nn.Module | Callable[[Params, Tensor], Tensor],
        input_shape: Sequence[int],
        *,
        probes: int = 64,
        latent: int = 0,
        generator_hidden: int = 64,
        head_hidden: int = 64,
        out_features: int = 1,
        dropout: float = 0.0,
        odd: Sequence[str] = (),  # noqa: ARG002 recipes of populations name odd groups for every functional
        vectorized: bool = True,
    ):
        super().__init__()
        self.spec, self.input_shape, self.vectorized = spec, torch.Size(input_shape), vectorized
        self.function = _Frozen(base) if isinstance(base, nn.Module) else base
        count = math.prod(self.input_shape)
        self.codes = nn.Parameter(torch.randn(probes, latent or count))
        widths = [latent, generator_hidden, generator_hidden, count] if latent else []
        self.generator = nn.Sequential(*(nn.Linear(a, b) for a, b in itertools.pairwise(widths)))
        self.head = head(
            self._count_outputs(), head_hidden, head_hidden, out_features, dropout=dropout
        )

    @property
    def probes(self) -> Tensor:
        """The questions (probes, *input_shape)."""
        return self.generator(self.codes).unflatten(1, self.input_shape)

    def answers(self, params: Mapping[str, Tensor]) -> Tensor:
        """F_theta(u): (batch, probes, *output shape)."""
        questions = self.probes
        theta = {
            name: t.to(questions.dtype) if t.is_floating_point() else t
            for name, t in params.items()
        }
        if self.vectorized:
            return torch.vmap(self.function, in_dims=(0, None))(theta, questions)
        return torch.stack([self.function(member, questions) for member in unstack(theta)])

    def forward(self, params: Mapping[str, Tensor]) -> Tensor:
        """Raises `SpecError` for tensors that do not fit."""
        validate(self.spec, params)
        return self.head(self.answers(params).flatten(1))

    def _count_outputs(self) -> int:
        zeros = {name: torch.zeros(1, *shape) for name, shape in self.spec.shapes.items()}
        try:
            with torch.no_grad():
                return self.answers(zeros).numel()
        except RuntimeError as error:
            if not self.vectorized:
                raise
            raise ValueError(
                "ProbeNet: torch.vmap cannot run this network for many weights at once "
                f"({error}); set vectorized=False, which runs them one by one"
            ) from None


class _Frozen:
    """F(theta, x) of a module.

    Not a submodule, so that the module's own weights are neither trained nor saved.
    """

    def __init__(self, base: nn.Module):
        self.base = copied(base).eval().requires_grad_(False)

    def __call__(self, theta: Params, x: Tensor) -> Tensor:
        return call(self.base.to(x.device, x.dtype), theta, x)
