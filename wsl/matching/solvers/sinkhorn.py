"""Matching by gradients through soft permutations: Sinkhorn re-basin.

    P = argmax_P <X, P> + tau H(P)  over doubly stochastic P        (Sinkhorn's iteration)
    X <- Adam on  L2: ||theta_a - P.theta_b||^2    or   L((1-t) theta_a + t P.theta_b)

for every group at once, one P for each index of the parent in a family; in the end each P is
rounded by an assignment. Pena et al. (2023), arXiv 2212.12042. With P = diag(u) exp(X/tau) diag(v)
the gradient is implicit, not through the iterations: for dL/dP = G,

    dL/dX = P * (G - alpha 1^T - 1 beta^T) / tau,
    [1, P; P^T, 1] (alpha, beta) = ((P*G) 1, (P*G)^T 1)

The constant that alpha and beta leave open is fixed by beta_n = 0, and alpha is eliminated: a
system of n - 1 equations, (1 - Q^T Q) beta = c - Q^T r with Q the first n - 1 columns of P, where
the published code solves one of 2n - 1.

Guarantees: never below weight matching in its own objective, since that is its start and the best
rounded element is kept. As tau falls to 0, P becomes a permutation. Not guaranteed: a global
optimum.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from wsl.matching.result import Match
from wsl.matching.solvers.assignment import assign
from wsl.matching.solvers.midpoint import between
from wsl.matching.solvers.sums import inner_product
from wsl.matching.solvers.weight import WeightMatching, aligned_tensors
from wsl.params import Params
from wsl.symmetry import Axis, Permutation, PermutationSpec, Window, windows

_Pair = tuple[Mapping[str, Tensor], Mapping[str, Tensor]]
"""The weights of a and of b."""
_RIDGE = 1e-14
"""Added to the system's diagonal, which is singular where P is a permutation."""


@dataclasses.dataclass(frozen=True)
class SinkhornMatching:
    """Adam on soft permutations.

    loss, batches: mean loss of weights on a batch, and the batches, one for each step in turn;
    without a loss the squared distance to a is made small.
    point: where on the line the loss is taken, half way or anywhere (drawn by ``seed``).
    steps, learning_rate: of Adam. temperature, iterations: of Sinkhorn's iteration.
    rounded_every: steps between two roundings, of which the best is kept.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"weights", "loss"})
    searches: ClassVar[frozenset[str]] = frozenset({"permutation"})
    many: ClassVar[bool] = False

    loss: Callable[[Params, Any], Tensor] | None = None
    batches: Sequence[Any] = ()
    point: Literal["middle", "random"] = "middle"
    steps: int = 50
    learning_rate: float = 0.1
    temperature: float = 1.0
    iterations: int = 50
    rounded_every: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        if (self.loss is None) != (not len(self.batches)):
            raise ValueError(
                "SinkhornMatching: a loss and its batches are given together, or neither of them"
            )
        if self.temperature <= 0 or min(self.iterations, self.rounded_every) < 1:
            raise ValueError(
                f"SinkhornMatching: temperature {self.temperature:g}, iterations "
                f"{self.iterations} and rounded_every {self.rounded_every} must be above 0"
            )
        needs = {"weights"} if self.loss is None else {"loss"}
        object.__setattr__(self, "needs", frozenset(needs))

    def solve(
        self, spec: PermutationSpec, a: Mapping[str, Tensor], b: Mapping[str, Tensor], /
    ) -> Match:
        """The best rounded element that was met; see `wsl.match`.

        The objective is the inner product, or minus the loss half way over all batches; the trace
        has the best so far, from the start on.
        """
        start = time.perf_counter()
        best = WeightMatching().solve(spec, a, b).permutation
        assert isinstance(best, Permutation)
        scores = {name: _start(index, a, self.temperature) for name, index in best.indices.items()}
        values = [self._value(a, best(b))]
        for found in self._rounded(spec, (a, b), scores):
            value = self._value(a, found(b))
            best = found if value > values[-1] else best
            values.append(max(value, values[-1]))
        return Match(
            best,
            values[-1],
            self.steps,
            rounded(spec, scores) == best,
            trace=torch.tensor(values, dtype=torch.float64),
            seconds={"total": time.perf_counter() - start},
        )

    def _rounded(
        self, spec: PermutationSpec, pair: _Pair, scores: Mapping[str, Tensor]
    ) -> Iterator[Permutation]:
        """The rounded element after every few steps of Adam on the scores."""
        leaves = list(scores.values())
        if not leaves:
            return
        optimizer = torch.optim.Adam(leaves, lr=self.learning_rate)
        for step, t in enumerate(self._points()):
            with torch.enable_grad():
                moved = self._moved(spec, pair[1], scores)
                lost = self._lost(pair[0], moved, step=step, t=t)
            for leaf, slope in zip(leaves, torch.autograd.grad(lost, leaves), strict=True):
                leaf.grad = slope
            optimizer.step()
            if (step + 1) % self.rounded_every == 0:
                yield rounded(spec, scores)

    def _points(self) -> Iterator[float]:
        """How far from a each step looks, which only a loss asks for."""
        rng = torch.Generator().manual_seed(self.seed)
        for _ in range(self.steps):
            yield float(torch.rand((), generator=rng)) if self.point == "random" else 0.5

    def _moved(
        self, spec: PermutationSpec, b: Mapping[str, Tensor], scores: Mapping[str, Tensor]
    ) -> Params:
        """b under the soft permutations of some scores."""
        soft = {
            name: sinkhorn(x, temperature=self.temperature, iterations=self.iterations)
            for name, x in scores.items()
        }
        return apply_soft(spec, soft, b)

    def _lost(
        self, a: Mapping[str, Tensor], moved: Mapping[str, Tensor], *, step: int, t: float
    ) -> Tensor:
        if self.loss is not None:
            return self.loss(between(a, moved, t), self.batches[step % len(self.batches)])
        # The mean, so that the learning rate means the same for networks of all sizes.
        names = aligned_tensors(a)
        total = sum((a[name] - moved[name].to(a[name])).square().sum() for name in names)
        return torch.as_tensor(total) / sum(a[name].numel() for name in names)

    def _value(self, a: Mapping[str, Tensor], moved: Mapping[str, Tensor]) -> float:
        if self.loss is None:
            return inner_product(a, moved, aligned_tensors(a))
        middle = between(a, moved, 0.5)
        return -sum(float(self.loss(middle, batch)) for batch in self.batches) / len(self.batches)


def sinkhorn(scores: Tensor, *, temperature: float = 1.0, iterations: int = 50) -> Tensor:
    """The doubly stochastic P (..., n, n) of largest <scores, P> + temperature * entropy.

    The gradient is that of the fixed point; it is exact as far as the iterations have converged.
    """
    return _Sinkhorn.apply(scores, (temperature, iterations))


class _Sinkhorn(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, scores: Tensor, how: tuple[float, int]) -> Tensor:
        soft = balanced(scores, temperature=how[0], iterations=how[1])
        ctx.save_for_backward(soft)
        ctx.temperature = how[0]
        return soft

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, None]:
        (soft,), (slope,) = ctx.saved_tensors, slopes
        p, g = soft.double(), slope.double()
        alpha, beta = _multipliers(p, p * g)
        inner = p * (g - alpha[..., None] - beta[..., None, :]) / ctx.temperature
        return inner.to(slope), None


def _multipliers(p: Tensor, pg: Tensor) -> tuple[Tensor, Tensor]:
    """alpha and beta of the implicit gradient, from P and P * G."""
    rows, columns, q = pg.sum(-1), pg.sum(-2), p[..., :-1]
    right = columns[..., :-1] - _times(q.mT, rows)
    system = (1 + _RIDGE) * torch.eye(q.shape[-1]).to(q) - q.mT @ q
    beta = torch.nn.functional.pad(torch.linalg.solve(system, right), (0, 1))
    return rows - _times(p, beta), beta


def _times(matrix: Tensor, vector: Tensor) -> Tensor:
    return (matrix @ vector[..., None])[..., 0]


def balanced(scores: Tensor, *, temperature: float, iterations: int) -> Tensor:
    """Sinkhorn's iteration on logarithms, differentiable as it is: rows and columns in turn."""
    log = scores / temperature
    for _ in range(iterations):
        log = log - log.logsumexp(-1, keepdim=True)
        log = log - log.logsumexp(-2, keepdim=True)
    return log.exp()


def rounded(spec: PermutationSpec, scores: Mapping[str, Tensor]) -> Permutation:
    """The permutations of largest score, one assignment for each group and index of a family."""
    return Permutation(spec, {name: assign(x.detach()).cpu() for name, x in scores.items()})


def apply_soft(
    spec: PermutationSpec, soft: Mapping[str, Tensor], params: Mapping[str, Tensor]
) -> Params:
    """Weights under soft permutations (n, n), or (n of per, n, n) of a family, on every axis.

    A group without one stands still.
    """
    moved: Params = {}
    for name, axes in spec.annotations:
        tensor = params[name]
        for i, axis in enumerate(axes if tensor.is_floating_point() else ()):
            tensor = _along(spec, axis, tensor.movedim(i, 0), soft=soft).movedim(0, i)
        moved[name] = tensor
    return moved


def _along(
    spec: PermutationSpec, axis: Axis, tensor: Tensor, *, soft: Mapping[str, Tensor]
) -> Tensor:
    """Soft permutations of the first axis, window by window."""
    cut = windows(spec, axis)
    if not any(window.moves for window in cut):
        return tensor
    parts = [_in_window(w, tensor.narrow(0, w.start, w.length), soft) for w in cut]
    return torch.cat(parts)


def _in_window(window: Window, tensor: Tensor, soft: Mapping[str, Tensor]) -> Tensor:
    shape, tensor = tensor.shape, tensor.reshape(*window.sizes, -1)
    for k, (atom, parent) in enumerate(zip(window.atoms, window.parents, strict=True)):
        if isinstance(atom, str) and atom in soft:
            tensor = _on_factor(soft[atom].to(tensor), tensor, k, parent=parent)
    return tensor.reshape(shape)


def _on_factor(matrix: Tensor, tensor: Tensor, k: int, *, parent: int | None) -> Tensor:
    """The soft permutation of axis k; of a family one for each index of its parent's axis."""
    if parent is None:
        return torch.tensordot(matrix, tensor.movedim(k, 0), 1).movedim(0, k)
    # The parent stands before its families, so that its index is already the new one.
    both = tensor.movedim((parent, k), (0, 1))
    return torch.einsum("aij,aj...->ai...", matrix, both).movedim((0, 1), (parent, k))


def _start(index: Tensor, a: Mapping[str, Tensor], temperature: float) -> Tensor:
    """Scores under which each unit has half of its mass where ``index`` puts it."""
    place = next(iter(a.values())).device
    one = torch.nn.functional.one_hot(index, index.shape[-1]).to(place, torch.float32)
    return (temperature * math.log(max(2, index.shape[-1])) * one).requires_grad_()
