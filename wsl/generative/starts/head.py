"""The last layer in closed form: ridge regression of the labels on what the layer reads.

    W, b = argmin sum_m |W phi(x_m) + b - onehot(y_m)|^2 + ridge M s |W|^2
    s = trace cov(phi) / dim phi

phi is the network up to its last linear layer, as another start draws it; features and targets are
centred, so that b is not penalised. Hoerl and Kennard (1970); with features of a random network it
is an extreme learning machine, Huang et al. (2006).

Guarantees: the exact minimum, in float64. The outputs aim at 0 and 1 and not at log-probabilities:
the accuracy is that of the minimum, the cross entropy is not, and ``scale`` multiplies the outputs
where that matters. Without a ``ridge`` of its own, penalty and scale of each task are those of the
least error when every example is left out once (`solve_head`). Not for networks that end in
anything but a linear layer.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wsl.generative.conditions import AxisFeatures, solve_head
from wsl.generative.problem import Initializer, Start
from wsl.generative.starts.asked import given, needs_of, starting_weights
from wsl.generative.starts.initializers import DefaultStart
from wsl.generative.starts.layers import evaluated, output_layer
from wsl.params import Params, unstack
from wsl.symmetry import copied


@dataclasses.dataclass(frozen=True)
class RidgeHead:
    """Another start, with the last layer solved for on the labelled data of the task.

    The data are the condition where that is labelled examples: of one task for all networks, or of
    as many tasks as networks. Else they are the training data.
    ridge: None for the one that leaving examples out chooses, with its scale; a specification is
    needed then, and of training data a few are used.
    """

    start: Initializer = dataclasses.field(default_factory=DefaultStart)
    ridge: float | None = 1e-2
    scale: float = 1.0

    needs: ClassVar[frozenset[str]] = frozenset({"labelled"})

    def __post_init__(self) -> None:
        chosen = frozenset({"spec"}) if self.ridge is None else frozenset()
        object.__setattr__(self, "needs", needs_of(type(self), self.start) | chosen)

    @torch.no_grad()
    def draw(self, start: Start, n: int, *, generator: torch.Generator) -> Params:
        """Raises ValueError for another number of tasks than 1 and n, or another last layer."""
        tasks, labels = _tasks(start, n)
        drawn = starting_weights(self.start, start, n, generator=generator)
        if self.ridge is None:
            told, axes = given(start.wanted), AxisFeatures(given(start.spec))
            told = told.of(torch.arange(n) % len(told))
            return solve_head(start.model, drawn, told, axes=axes)
        model = copied(start.model)
        name = output_layer(model, tasks[0, :2])
        for i, theta in enumerate(unstack(drawn)):
            task = i % len(tasks)
            model.load_state_dict(theta)
            features = features_of(model, name, tasks[task])
            self._solve(theta, name, (features, labels[task]))
        return drawn

    def _solve(self, theta: Params, name: str, data: tuple[Tensor, Tensor]) -> None:
        """Write the last layer, in place."""
        weight = theta[dotted(name, "weight")]
        bias = theta.get(dotted(name, "bias"))
        targets = F.one_hot(data[1], len(weight))
        w, b = ridge_solution(data[0], targets, given(self.ridge), centred=bias is not None)
        weight.copy_(self.scale * w)
        if bias is not None:
            bias.copy_(self.scale * b)


def _tasks(start: Start, n: int) -> tuple[Tensor, Tensor]:
    """Inputs and labels of one task, or of n."""
    tasks, labels = given(start.labelled)
    if len(tasks) not in (1, n):
        raise ValueError(f"RidgeHead: {len(tasks)} tasks for {n} networks; give 1 or {n}")
    return tasks, labels


def ridge_solution(
    features: Tensor, targets: Tensor, ridge: float, *, centred: bool = True
) -> tuple[Tensor, Tensor]:
    """Weights (outputs, F) and bias (outputs,) from features (M, F) and targets (M, outputs)."""
    x, y = features.double(), targets.double()
    middle = (x.mean(0), y.mean(0)) if centred else (x.new_zeros(()), y.new_zeros(()))
    x, y = x - middle[0], y - middle[1]
    gram = x.T @ x / len(x)
    # Where all features are dead there is nothing to solve for: the weights become zero.
    penalty = ridge * gram.diagonal().mean() + torch.finfo(gram.dtype).tiny ** 0.5
    gram.diagonal().add_(penalty)
    w = torch.linalg.solve(gram, x.T @ y / len(x)).T
    return w, middle[1] - (w * middle[0]).sum(1)


def features_of(model: nn.Module, name: str, inputs: Tensor) -> Tensor:
    """What the layer ``name`` reads, (M, F), in evaluation mode; inputs in the network's dtype."""
    read: list[Tensor] = []
    layer = model.get_submodule(name)
    hook = layer.register_forward_pre_hook(lambda _, given: read.append(given[0]))
    try:
        evaluated(model, inputs)
    finally:
        hook.remove()
    return read[-1]


def dotted(module: str, parameter: str) -> str:
    """The name of a module's parameter in the state dict."""
    return f"{module}.{parameter}" if module else parameter
