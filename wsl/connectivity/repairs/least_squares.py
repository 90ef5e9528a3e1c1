"""Merged weights by regression: every layer maps the merged network's inputs to what its members
compute.

    W, b = argmin  sum_n |W x_n + b - sum_i lambda_i y_i,n|^2 + r tr(S) / d |W - W_0|^2

x_n are the inputs that the merged network itself gives to the layer, after all layers before it
have been changed, y_i the outputs of the aligned members, W_0 the given weights, and S the Gram
matrix of the d centred inputs, so that ``ridge`` r has no unit. Nasery et al. (2024), PLeaS,
section 3, arXiv 2407.02447, without its choice of widths; the ridge towards the merged weights is
ours. Needs inputs, no labels: the members' outputs are the targets.

Linear layers and convolutions in one or two dimensions are changed, the output layer too. The
normal equations are summed and solved in float64. With a bias the mean is met exactly. Batch-norm
statistics are measured in the same sweep. Not done: norms, embeddings and recurrent layers stay as
they are; a residual sum is not seen as one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, fx, nn

from wsl.connectivity.repairs.batches import Batches, inputs_of
from wsl.connectivity.repairs.layers import as_matrix, columns, input_of, like, unlike
from wsl.connectivity.repairs.lockstep import Lockstep, lockstep
from wsl.connectivity.repairs.program import bound, operation
from wsl.connectivity.repairs.result import Repaired, RepairedSite, result_of, shares_of
from wsl.connectivity.repairs.statistics import measure
from wsl.connectivity.repairs.writers import Writer, writers


def least_squares(
    model: nn.Module,
    params: Mapping[str, Tensor],
    members: Sequence[Mapping[str, Tensor]],
    *,
    batches: Batches,
    ridge: float = 0.01,
    weights: Sequence[float] | None = None,
) -> Repaired:
    """Fit each layer of ``params``, merged of aligned ``members``, to what its members compute.

    The parameters are those of `repair`; ``ridge`` pulls towards ``params``: towards infinity
    nothing changes. Raises ValueError as `repair`, and unless ``ridge`` is positive.
    """
    if not 0 < ridge < float("inf"):
        raise ValueError(
            f"least_squares: ridge is {ridge:g}; it must be positive, since inputs that never "
            "occur leave the weights open"
        )
    shares = shares_of(params, members, weights, what="least_squares")
    run = lockstep(model, params, members, batches=inputs_of(batches, "least_squares"))
    sweep = _Regression(run, shares, ridge=ridge)
    run.run(sweep.before, lambda _: None)
    return result_of(run, params, sweep.sites, what="least_squares")


class _Regression:
    """One pass over the layers: each is solved for when its inputs are known."""

    def __init__(self, run: Lockstep, shares: Sequence[float], *, ridge: float) -> None:
        self.run, self.shares, self.ridge = run, shares, ridge
        self.sites: list[RepairedSite] = []
        self.writers = writers(run.program)

    def before(self, node: fx.Node) -> None:
        writer = self.writers.get(node)
        if writer is None:
            return
        measure(self.run, writer, self.shares)
        reason, units = unlike(writer), 0
        if not reason:
            units = self._solve(writer)
        self.sites.append(RepairedSite(writer.name, operation(node), units, units, reason))

    def _solve(self, writer: Writer) -> int:
        """Solve for one layer; returns its number of units."""
        assert writer.weight is not None  # unlike has a reason otherwise
        params = self.run.params
        prior = as_matrix(params[writer.weight], writer)
        weight, bias = self._normal(writer, prior).solve(self.ridge)
        params[writer.weight] = like(weight, params[writer.weight], writer)
        if writer.bias is not None:
            params[writer.bias] = bias.to(params[writer.bias])
        return len(prior)

    def _normal(self, writer: Writer, prior: Tensor) -> _NormalEquations:
        """The normal equations of one layer, summed over all batches."""
        groups = int(bound(writer.node).get("groups", 1))
        normal = _NormalEquations(prior, groups, bias=writer.bias is not None)
        for i, value in enumerate(self.run.own[input_of(writer)]):
            y = self._target(writer.node, i).movedim(writer.row.channel_axis, -1)
            normal.add(columns(value, writer).double(), y.flatten(0, -2))
        return normal

    def _target(self, node: fx.Node, batch: int) -> Tensor:
        """The weighted mean of what the members compute on a batch."""
        outputs = (values[batch] for values in self.run.theirs[node])
        mean = sum(s * y.double() for s, y in zip(self.shares, outputs, strict=True))
        return torch.as_tensor(mean)


class _NormalEquations:
    """Sums over the rows of inputs and targets, and the weights that solve them.

    prior: the given weights (units, inputs of a group); units are in ``groups`` of equal size, each
    of which reads inputs of its own.
    """

    def __init__(self, prior: Tensor, groups: int, *, bias: bool) -> None:
        self.prior, self.bias, self.count = prior.double().unflatten(0, (groups, -1)), bias, 0
        _, units, inputs = self.prior.shape
        new = self.prior.new_zeros
        self.gram, self.cross = new(groups, inputs, inputs), new(groups, inputs, units)
        self.x, self.y = new(groups, inputs), new(groups, units)

    def add(self, x: Tensor, y: Tensor) -> None:
        """Add rows of inputs (rows, inputs of all groups) and of targets (rows, units)."""
        groups = len(self.prior)
        x = x.unflatten(1, (groups, -1)).transpose(0, 1)
        y = y.unflatten(1, (groups, -1)).transpose(0, 1)
        self.gram += x.mT @ x
        self.cross += x.mT @ y
        self.x += x.sum(1)
        self.y += y.sum(1)
        self.count += x.shape[1]

    def solve(self, ridge: float) -> tuple[Tensor, Tensor]:
        """Weights (units, inputs of a group) and bias (units,)."""
        x, y = self.x / self.count, self.y / self.count
        gram, cross = self.gram / self.count, self.cross / self.count
        if self.bias:
            gram = gram - x.unsqueeze(2) * x.unsqueeze(1)
            cross = cross - x.unsqueeze(2) * y.unsqueeze(1)
        # Solved for the change of the weights, so that a pull without end leaves them as they are.
        change = torch.linalg.solve(_pulled(gram, ridge), cross - gram @ self.prior.mT)
        weight = self.prior + change.mT
        bias = y - (weight @ x.unsqueeze(2)).squeeze(2)
        return weight.flatten(0, 1), bias.flatten()


def _pulled(gram: Tensor, ridge: float) -> Tensor:
    """The Gram matrix (groups, d, d) with the pull towards the given weights on its diagonal."""
    pull = ridge * gram.diagonal(dim1=1, dim2=2).mean(1)
    pull = pull.clamp(min=torch.finfo(torch.float32).tiny).view(-1, 1, 1)
    return gram + pull * torch.eye(gram.shape[1], dtype=gram.dtype, device=gram.device)
