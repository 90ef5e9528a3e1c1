"""REPAIR: give the units of a merged network the statistics that its members' units have.

    mean   goal = sum_i lambda_i mu_i            std   goal = sum_i lambda_i sigma_i
    y' = (goal std / std) (y - mean) + goal mean

Jordan et al. (2023), arXiv 2211.08403: averaged weights cancel where the members disagree, so the
deviation of the units collapses, more with every layer. Deviations are averaged, not variances.
The correction is folded into the weights that write the units (a convolution, a linear layer, the
gain and shift of a norm), in order of depth, each measured after all before it have been corrected;
the result is a network of the same code and the same tensors. A residual sum x + f has no weights
of its own. If both summands are written for it alone, both are scaled; else f is, by the factor a
of `sums` with which x + a f has the goal, and where none is near, f gets the deviation that it has
by itself in the members. Either way the shift gives the sum its mean.

Guarantees: the statistics on the given batches are the goals, in every unit that the report counts
as met; a network that is its own only member stays as it is, to rounding; it commutes with
permutations. Not done: what no layer follows (the output) stays as it is; units that do not vary
are left alone; layers that cannot be written are named, with the reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, fx, nn

from wsl.connectivity.repairs.batches import Batches, inputs_of
from wsl.connectivity.repairs.lockstep import Lockstep, lockstep
from wsl.connectivity.repairs.moments import Moments, changed, covariance, goal, moments
from wsl.connectivity.repairs.program import operation
from wsl.connectivity.repairs.result import Repaired, RepairedSite, result_of, shares_of
from wsl.connectivity.repairs.statistics import measure
from wsl.connectivity.repairs.sums import StreamSum, factor, sums, total
from wsl.connectivity.repairs.writers import Writer, heads, normalised, writers


def repair(
    model: nn.Module,
    params: Mapping[str, Tensor],
    members: Sequence[Mapping[str, Tensor]],
    *,
    batches: Batches,
    weights: Sequence[float] | None = None,
    streams: bool = True,
) -> Repaired:
    """Give ``params``, merged of aligned ``members``, the statistics of its members' units.

    batches: inputs without labels, as `reset_batch_norm` takes them; a few hundred do, and all are
    in memory at once. One of another shape than the first is left out. Batch-norm statistics are
    measured in the same sweep.
    weights: the shares lambda of the members, equal unless given.
    streams: correct residual sums; otherwise each summand by itself.
    Raises ValueError for members that differ from ``params`` and for a network that cannot be read.
    """
    shares = shares_of(params, members, weights, what="repair")
    run = lockstep(model, params, members, batches=inputs_of(batches, "repair"))
    sweep = Sweep(run, shares, streams=streams)
    run.run(sweep.before, sweep.after)
    return result_of(run, params, sweep.sites, what="repair")


class Sweep:
    """One pass over the layers: what is done before and after each operation."""

    def __init__(self, run: Lockstep, shares: Sequence[float], *, streams: bool = True) -> None:
        self.run, self.shares, self.sites = run, shares, list[RepairedSite]()
        self.writers = writers(run.program)
        self.reasons = _reasons(self.writers, heads(run.program, self.writers))
        free = {n: w for n, w in self.writers.items() if n not in self.reasons}
        self.sums = sums(run.program, free) if streams else {}
        self.summed = {w.node for each in self.sums.values() for w, _ in each.writers}
        self.alone: dict[fx.Node, Moments] = {}

    def before(self, node: fx.Node) -> None:
        """Correct the summands of a sum; measure what a batch norm is about to divide by."""
        if node in self.sums:
            self._sum(self.sums[node])
        if node in self.writers:
            measure(self.run, self.writers[node], self.shares)

    def after(self, node: fx.Node) -> None:
        """Correct what a layer has written."""
        writer = self.writers.get(node)
        if writer is None:
            return
        if node in self.reasons:
            self._tell(writer.name, node, units=self._units(writer), reason=self.reasons[node])
        elif node in self.summed:
            # Kept from here: the sum may be written into the members' own values.
            self.alone[node] = self._goal(node, writer.row.channel_axis)
        else:
            self._one(writer)

    def _one(self, writer: Writer) -> None:
        """What one layer writes is scaled and shifted to its goal."""
        axis = writer.row.channel_axis
        own = moments(self.run.own[writer.node], axis)
        correction, alive = _correction(own, self._goal(writer.node, axis))
        self._fold(writer, writer.node, correction)
        self._report(writer, alive, alive)

    def _sum(self, each: StreamSum) -> None:
        if not each.writers:
            self._tell(each.node.name, each.node, reason="no layer writes for this sum alone")
        elif each.rest is None:
            self._both(each)
        else:
            self._last(each, each.rest)

    def _both(self, each: StreamSum) -> None:
        """Both summands are scaled alike, and the last that can be is shifted."""
        axis = each.writers[0][0].row.channel_axis
        own = moments(total(*(self.run.own[operand] for _, operand in each.writers)), axis)
        (scale, shift), alive = _correction(own, self._goal(each.node, axis))
        shifted = [w for w, _ in each.writers if w.shifts][-1:]
        for writer, operand in each.writers:
            mine = shift if writer in shifted else torch.zeros_like(shift)
            self._fold(writer, operand, (scale, mine))
            self._report(writer, alive, alive, shifts=bool(shifted))

    def _last(self, each: StreamSum, rest: fx.Node) -> None:
        """One summand is scaled and shifted, such that the sum has its goal."""
        writer, operand = each.writers[-1]
        axis = writer.row.channel_axis
        f, x = self.run.own[operand], self.run.own[rest]
        mine, other = moments(f, axis), moments(x, axis)
        aim = self._goal(each.node, axis)
        near, alive = _scale(mine, self.alone[writer.node])
        scale, met = factor(mine, other, covariance(x, f, axis), aim=aim, near=near)
        scale = torch.where(alive, scale, 1.0)
        shift = _shift(alive, aim.mean - other.mean - scale * mine.mean)
        self._fold(writer, operand, (scale, shift))
        self._report(writer, alive, alive & met)

    def _goal(self, node: fx.Node, axis: int) -> Moments:
        return goal([moments(values, axis) for values in self.run.theirs[node]], self.shares)

    def _fold(self, writer: Writer, node: fx.Node, correction: tuple[Tensor, Tensor]) -> None:
        """Fold a scale and a shift into the weights, and into the values that they have written."""
        scale, shift = correction
        shift = shift if writer.shifts else torch.zeros_like(shift)
        writer.fold(self.run.params, scale, shift)
        axis = writer.row.channel_axis
        self.run.own[node] = changed(self.run.own[node], axis, (scale, shift))

    def _units(self, writer: Writer) -> int:
        value = self.run.own[writer.node][0]
        known = isinstance(value, Tensor) and value.dim() and writer.weight
        return value.shape[writer.row.channel_axis] if known else 0

    def _report(
        self, writer: Writer, alive: Tensor, met: Tensor, *, shifts: bool | None = None
    ) -> None:
        shifts = writer.shifts if shifts is None else shifts
        told = [] if shifts else ["it has no bias, so the mean stays"]
        if count := int((~alive).sum()):
            told.append(f"{count} units do not vary")
        if count := int((alive & ~met).sum()):
            told.append(f"{count} units cannot give their sum its deviation")
        number = int(met.sum()) if shifts else 0
        self._tell(writer.name, writer.node, units=len(alive), met=number, reason="; ".join(told))

    def _tell(
        self, name: str, node: fx.Node, *, units: int = 0, met: int = 0, reason: str = ""
    ) -> None:
        self.sites.append(RepairedSite(name, operation(node), units, met, reason))


def _scale(own: Moments, aim: Moments) -> tuple[Tensor, Tensor]:
    """The factor of each unit's deviation, one where it does not vary, and where it does."""
    alive = ~(own.dead | aim.dead)
    return torch.where(alive, aim.std / torch.where(alive, own.std, 1.0), 1.0), alive


def _correction(own: Moments, aim: Moments) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """The scale and shift that give units their goal, and which units vary."""
    scale, alive = _scale(own, aim)
    return (scale, _shift(alive, aim.mean - scale * own.mean)), alive


def _shift(alive: Tensor, shift: Tensor) -> Tensor:
    return torch.where(alive, shift, 0.0)


def _reasons(found: Mapping[fx.Node, Writer], ends: set[fx.Node]) -> dict[fx.Node, str]:
    """The layers that are left as they are, with the reason."""
    told = {node: _left(writer, ends) for node, writer in found.items()}
    return {node: reason for node, reason in told.items() if reason}


def _left(writer: Writer, ends: set[fx.Node]) -> str:
    """Why a layer is left as it is; empty if it is not."""
    if writer.reason:
        return writer.reason
    if writer.node in ends:
        return "it writes the network's output"
    return "a batch norm follows, which is measured anew" if normalised(writer.node) else ""
