"""REPAIR: give the units of a merged network the statistics that its members' units have.

    mean   goal = sum_i lambda_i mu_i            std   goal = sum_i lambda_i sigma_i
    y' = (goal std / std) (y - mean) + goal mean

Jordan et al. (2023), arXiv 2211.08403: averaged weights cancel where the members disagree, so the
deviation of the units collapses, more with every layer. Deviations are averaged, not variances.
The correction is folded into the weights that write the units (a convolution, a linear layer, the
gain and shift of a norm), in order of depth, each measured after all before it have been corrected;
the result is a network of the same code and the same tensors. A residual sum has no weights of its
own: what is added last is scaled by a, such that the sum x + a f has the goal,

    a^2 var f + 2 a cov(x, f) + var x = (goal std)^2

and where that has no root near one, f alone gets the deviation that it has in the members.

Guarantees: the statistics on the given batches are the goals, in every unit that the report counts
as met; a network that is its own only member stays as it is, to rounding; it commutes with
permutations. Not done: what no layer follows (the output) stays as it is; units that do not vary
are left alone; layers that cannot be written are named, with the reason.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, fx, nn

from wsl.connectivity.repairs.lockstep import Batches, Lockstep, inputs_of, lockstep
from wsl.connectivity.repairs.moments import Moments, changed, covariance, goal, moments
from wsl.connectivity.repairs.program import Program, bound, operation, readers, source
from wsl.connectivity.repairs.statistics import measure
from wsl.connectivity.repairs.writers import Writer, heads, normalised, writers
from wsl.params import Params, check_alike, check_range

_NEAR = 3.0
"""How far a factor of a residual sum may be from the one that f alone asks for."""


@dataclasses.dataclass(frozen=True)
class RepairedSite:
    """What happened to one layer: its ``name``, its operation, and how many ``units`` it writes.

    met: units whose mean and deviation are the goals now. reason: why a layer was left as it is,
    or why not all of its units meet their goals; empty where nothing is to be said.
    """

    name: str
    operation: str
    units: int
    met: int
    reason: str = ""


@dataclasses.dataclass(frozen=True, eq=False)
class Repaired:
    """Weights for the same code, what was done to each layer in order of depth, and on how many
    ``samples``.
    """

    params: Params
    sites: tuple[RepairedSite, ...]
    samples: int

    @property
    def left(self) -> dict[str, str]:
        """The layers that were left as they are, by name, with the reason."""
        return {site.name: site.reason for site in self.sites if not site.met and site.reason}


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
    shares = checked_shares(params, members, weights, what="repair")
    run = lockstep(model, params, members, batches=inputs_of(batches, "repair"))
    sweep = _Sweep(run, shares, streams=streams)
    run.run(sweep.before, sweep.after)
    fresh = finished(run, params)
    return Repaired(fresh, tuple(sweep.sites), sum(len(batch) for batch in run.batches))


def checked_shares(
    params: Mapping[str, Tensor],
    members: Sequence[Mapping[str, Tensor]],
    weights: Sequence[float] | None,
    *,
    what: str,
) -> list[float]:
    """The members' shares, summing to one."""
    if not members:
        raise ValueError(f"{what}: got 0 members; at least one is needed to be like")
    for member in members:
        check_alike(params, member)
    chosen = [1.0] * len(members) if weights is None else [float(w) for w in weights]
    if len(chosen) != len(members) or min(chosen) < 0 or not sum(chosen):
        raise ValueError(
            f"{what}: got {len(members)} members and the weights {chosen}; one for each is needed, "
            "none of them negative and not all zero"
        )
    return [weight / sum(chosen) for weight in chosen]


def finished(run: Lockstep, params: Mapping[str, Tensor]) -> Params:
    """The weights after a sweep, in the order of ``params``, equal under all names of a tensor."""
    fresh = {name: run.params[name] for name in params}
    for name in run.program.weights.values():
        fresh |= {twin: run.params[name] for twin in run.program.twins[name] if twin in fresh}
    check_range(fresh, params, what="repair")
    return fresh


class _Sweep:
    """One pass over the layers: what is done before and after each operation."""

    def __init__(self, run: Lockstep, shares: Sequence[float], *, streams: bool) -> None:
        self.run, self.shares, self.sites = run, shares, list[RepairedSite]()
        self.writers = writers(run.program)
        self.reasons = {
            node: reason
            for node, writer in self.writers.items()
            if (reason := _left(writer, heads(run.program, self.writers)))
        }
        free = {n: w for n, w in self.writers.items() if n not in self.reasons}
        self.sums = _sums(run.program, free) if streams else {}
        self.summed = {w.node for found in self.sums.values() for w in found}

    def before(self, node: fx.Node) -> None:
        if node in self.sums:
            self._sum(node, self.sums[node])
        writer = self.writers.get(node)
        if writer is not None:
            measure(self.run, writer, self.shares)

    def after(self, node: fx.Node) -> None:
        writer = self.writers.get(node)
        if writer is None or node in self.summed:
            return
        if node in self.reasons:
            units = self.run.own[node][0]
            units = units.shape[writer.row.channel_axis] if isinstance(units, Tensor) else 0
            self._tell(writer, units, 0, self.reasons[node])
            return
        axis = writer.row.channel_axis
        own, aim = moments(self.run.own[node], axis), self._goal(node, axis)
        dead = own.dead | aim.dead
        scale = torch.where(dead, 1.0, aim.std / torch.where(dead, 1.0, own.std))
        self._fold(writer, node, scale, _shift(writer, dead, aim.mean - scale * own.mean))
        met = 0 if not writer.shifts else int((~dead).sum())
        self._tell(writer, len(dead), met, _why(writer, dead))

    def _sum(self, node: fx.Node, found: Sequence[Writer]) -> None:
        """Correct a residual sum by what writes its summands, or the last of them."""
        axis = found[0].row.channel_axis
        operands = {source(operand): operand for operand in node.all_input_nodes}
        aim = self._goal(node, axis)
        values = [self.run.own[operand] for operand in operands.values()]
        last = operands[found[-1].node]
        f = self.run.own[last]
        x = [z - y for z, y in zip(map(_total, zip(*values, strict=True)), f, strict=True)]
        if len(found) == len(operands):
            self._scale_all(found, operands, aim=aim, total=[*map(_total, zip(*values, strict=True))])
            return
        mine, rest = moments(f, axis), moments(x, axis)
        alone = self._goal(last, axis)
        dead = mine.dead | alone.dead | aim.dead
        own_scale = alone.std / torch.where(dead, 1.0, mine.std)
        scale, met = _root(mine, rest, covariance(x, f, axis), aim=aim, near=own_scale)
        scale = torch.where(dead, 1.0, scale)
        shift = _shift(found[-1], dead, aim.mean - rest.mean - scale * mine.mean)
        self._fold(found[-1], last, scale, shift)
        good = int((met & ~dead).sum()) if found[-1].shifts else 0
        self._tell(found[-1], len(dead), good, _why(found[-1], dead, met))

    def _scale_all(
        self,
        found: Sequence[Writer],
        operands: Mapping[fx.Node, fx.Node],
        *,
        aim: Moments,
        total: list[Tensor],
    ) -> None:
        """All summands are written for this sum alone: all get its scale, the last its shift."""
        axis = found[0].row.channel_axis
        own = moments(total, axis)
        dead = own.dead | aim.dead
        scale = torch.where(dead, 1.0, aim.std / torch.where(dead, 1.0, own.std))
        offset = torch.where(dead, 0.0, aim.mean - scale * own.mean)
        for writer in found:
            last = writer is found[-1]
            value = self.run.own[operands[writer.node]]
            keep = torch.zeros_like(scale) if writer.shifts else None
            del value, keep
            self._fold(writer, operands[writer.node], scale, offset if last else 0 * offset)
            met = int((~dead).sum()) if found[-1].shifts else 0
            self._tell(writer, len(dead), met, _why(found[-1], dead))

    def _goal(self, node: fx.Node, axis: int) -> Moments:
        return goal([moments(values, axis) for values in self.run.theirs[node]], self.shares)

    def _fold(self, writer: Writer, node: fx.Node, scale: Tensor, shift: Tensor) -> None:
        writer.fold(self.run.params, scale, shift)
        axis = writer.row.channel_axis
        self.run.own[node] = changed(self.run.own[node], axis, scale, shift)

    def _tell(self, writer: Writer, units: int, met: int, reason: str) -> None:
        self.sites.append(RepairedSite(writer.name, operation(writer.node), units, met, reason))


def _left(writer: Writer, ends: set[fx.Node]) -> str:
    """Why a layer is left as it is; empty if it is not."""
    if writer.reason:
        return writer.reason
    if writer.node in ends:
        return "it writes the network's output"
    return "a batch norm follows, which is measured anew" if normalised(writer.node) else ""


def _sums(program: Program, free: Mapping[fx.Node, Writer]) -> dict[fx.Node, list[Writer]]:
    """The sums of two values of one shape, with the writers that write for nothing else."""
    found: dict[fx.Node, list[Writer]] = {}
    for node in program.operations:
        if node.op != "call_function" or operation(node) != "add":
            continue
        operands = node.all_input_nodes
        same = len({n.meta["val"].shape for n in [*operands, node] if "val" in n.meta}) == 1
        if len(operands) != 2 or not same or bound(node).get("alpha", 1) != 1:
            continue
        own = [free[s] for s in map(source, operands) if s in free and _only(s, node)]
        if own:
            order = {n: i for i, n in enumerate(program.operations)}
            found[node] = sorted(own, key=lambda writer: order[writer.node])
    return found


def _only(writer: fx.Node, reader: fx.Node) -> bool:
    return list(readers(writer)) == [reader]


def _total(summands: Sequence[Tensor]) -> Tensor:
    first, second = summands
    return first + second


def _root(
    f: Moments, x: Moments, both: Tensor, *, aim: Moments, near: Tensor
) -> tuple[Tensor, Tensor]:
    """The factor of f that gives x + a f the deviation wanted, and where there is one near."""
    variance = f.std.square().clamp(min=torch.finfo(f.std.dtype).tiny)
    discriminant = both.square() - variance * (x.std.square() - aim.std.square())
    root = (discriminant.clamp(min=0).sqrt() - both) / variance
    met = (discriminant >= 0) & (root > near / _NEAR) & (root < near * _NEAR)
    return torch.where(met, root, near), met


def _shift(writer: Writer, dead: Tensor, shift: Tensor) -> Tensor:
    """The shift that can be folded: nothing of what does not vary, nothing without a bias."""
    return torch.where(dead, 0.0, shift) if writer.shifts else torch.zeros_like(shift)


def _why(writer: Writer, dead: Tensor, met: Tensor | None = None) -> str:
    told = [] if writer.shifts else ["it has no bias, so the mean stays"]
    if count := int(dead.sum()):
        told.append(f"{count} units do not vary")
    if met is not None and (missed := int((~met & ~dead).sum())):
        told.append(f"{missed} units cannot reach the deviation of the sum")
    return "; ".join(told)
