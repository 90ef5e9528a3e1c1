"""Activation matching: align networks by what their units do on the same inputs.

    A_p = sum over sites s of p   corr( z_s(theta_a, x), z_s(theta_b, x) )      over samples of x
    g_p = argmax_P <A_p, P>                                      for every group p on its own

Li et al. (2016), arXiv 1511.07543; Ainsworth et al. (2023), section 3.1, arXiv 2209.04836; sites
and correlation as in Jordan et al., REPAIR (2023), arXiv 2211.08403. One pass over the inputs
serves all groups, and both networks see the same samples at the same positions.

A residual stream counts at every site where a block reads it: `wsl.matching.solvers.units` says
which sites those are. Families, such as the channels of each head, are matched inside every pair of
their blocks, and blocks by their best inner assignments. Guarantees: for the samples seen, each
group's assignment is optimal given the statistic. A group that no site shows is matched by weights
once the others are found, and the result says so. Not guaranteed: anything about units that are
constant on the inputs, which any order suits; inputs unlike the data match worse. Labels are never
used.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from wsl.matching.blocks import GroupBlock, plan
from wsl.matching.result import Match
from wsl.matching.solvers.ascent import of_chosen, paired
from wsl.matching.solvers.assignment import assign
from wsl.matching.solvers.comparing import Comparison, Scores
from wsl.matching.solvers.unseen import complete
from wsl.matching.solvers.weight import aligned_tensors
from wsl.symmetry import Activations, PermutationSpec, activations, copied

UNSEEN = "no site shows its units; matched by weights"
"""What a result says of a group that activations do not reveal."""
STATISTICS = ("correlation", "covariance")


@dataclasses.dataclass(frozen=True, eq=False)
class ActivationMatching:
    """Assignments on the statistics of activations, all groups from one pass over ``inputs``.

    inputs: unlabelled inputs (N, ...) like those that the networks are for, or a tuple of tensors
    where the network takes several. Some hundreds do.
    model: the network that both checkpoints are weights of; its own weights do not matter.
    statistic: ``correlation`` counts every unit alike, ``covariance`` by its variance.
    samples: at most so many inputs are used, drawn by ``seed``; None takes all.
    positions: of each batch, at most so many of a site's positions in batch, space and time.
    batch_size: inputs that are run at a time.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"inputs"})
    searches: ClassVar[frozenset[str]] = frozenset({"permutation"})
    many: ClassVar[bool] = False

    inputs: Tensor | Sequence[Tensor] | None = None
    model: nn.Module | None = None
    _: dataclasses.KW_ONLY
    statistic: str = "correlation"
    samples: int | None = 1024
    positions: int = 4096
    batch_size: int = 256
    seed: int = 0

    def __post_init__(self) -> None:
        if self.statistic not in STATISTICS:
            raise ValueError(
                f"ActivationMatching: statistic is {self.statistic!r}, but one of "
                f"{', '.join(STATISTICS)} is needed"
            )
        for name in ("samples", "positions", "batch_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(
                    f"ActivationMatching: {name} is {value}, but at least one is needed"
                )

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_networks"}

    @torch.no_grad()
    def solve(
        self, spec: PermutationSpec, a: Mapping[str, Tensor], b: Mapping[str, Tensor], /
    ) -> Match:
        """The element that brings ``b`` to ``a``; see `wsl.match`, which checks its inputs first.

        Raises ValueError without inputs or model, for inputs or activations that are not finite,
        and for weights that are integers where the network computes with real numbers; `SpecError`
        if the specification is not the network's.
        """
        start = time.perf_counter()
        blocks = plan(spec, aligned_tensors(a, ())).blocks
        compared = self._compared(spec, blocks, (a, b))
        scores = compared.scores(self.statistic)
        with compared.clock.timed("assignment"):
            indices, values = _all_assigned(blocks, scores)
            element = complete(spec, (a, b), indices)
        objective = sum(values.values())
        return Match(
            element,
            objective,
            sweeps=1,
            converged=True,
            trace=torch.tensor([objective], dtype=torch.float64),
            seconds={**compared.clock.seconds, "total": time.perf_counter() - start},
            groups={name: value / compared.units(name) for name, value in values.items()},
            notes={name: UNSEEN for name in blocks if name not in values},
        )

    def _compared(
        self,
        spec: PermutationSpec,
        blocks: Mapping[str, GroupBlock],
        pair: tuple[Mapping[str, Tensor], Mapping[str, Tensor]],
    ) -> Comparison:
        """Both networks, run on all batches."""
        batches = self._batches(next(iter(pair[0].values())).device)
        network = self._network(spec, batches[0])
        a, b = (self._weights(*each, batches[0][0]) for each in zip(pair, "ab", strict=True))
        compared = Comparison(network, blocks, positions=self.positions, seed=self.seed)
        for batch in batches:
            compared.run(a, b, batch)
        return compared

    def _batches(self, device: torch.device) -> list[tuple[Tensor, ...]]:
        """The inputs that are used, in batches of nearly equal size."""
        inputs = _checked(self.inputs)
        chosen = self._drawn(len(inputs[0]))
        # A batch of one would not tell its axis from others of length one.
        chosen = chosen.repeat(2) if len(chosen) == 1 else chosen
        parts = chosen.tensor_split(-(-len(chosen) // max(self.batch_size, 3)))
        return [tuple(t[part.to(t.device)].to(device) for t in inputs) for part in parts]

    def _drawn(self, count: int) -> Tensor:
        """The numbers of the inputs that are used, in order."""
        generator = torch.Generator().manual_seed(self.seed)
        return torch.randperm(count, generator=generator)[: self.samples].sort().values

    def _network(self, spec: PermutationSpec, batch: tuple[Tensor, ...]) -> Activations:
        """The network's sites under the names of ``spec``, on the device of the batch; kept."""
        if self.model is None:
            raise ValueError(
                "ActivationMatching: the network is missing that the inputs go through; give "
                "model=..., any module of the architecture"
            )
        key = (spec, batch[0].device, tuple((t.shape, t.dtype) for t in batch))
        if key not in self._networks:
            model = _on_device_of(batch[0], self.model)
            self._networks[key] = activations(model, *batch, spec=spec)
        return self._networks[key]

    @functools.cached_property
    def _networks(self) -> dict[Any, Activations]:
        return {}

    def _weights(self, params: Mapping[str, Tensor], which: str, like: Tensor) -> dict[str, Tensor]:
        """Weights in the precision in which the network computes."""
        own = self.model.state_dict() if self.model else {}
        for name, tensor in params.items():
            if own[name].is_floating_point() and not tensor.is_floating_point():
                raise ValueError(
                    f"{name}: is {tensor.dtype} in '{which}', but the network computes with "
                    f"{own[name].dtype}; convert it, or undo its quantisation"
                )
        return {name: t.to(like.device, own[name].dtype) for name, t in params.items()}


def _on_device_of(like: Tensor, model: nn.Module) -> nn.Module:
    """The network where its inputs are; a copy if it has to be moved."""
    own = next(iter(model.state_dict().values()), like)
    there = own.device == like.device or own.is_meta
    return model if there else copied(model).to(like.device)


def _checked(inputs: Tensor | Sequence[Tensor] | None) -> tuple[Tensor, ...]:
    """Inputs as a tuple of tensors of one length; raises ValueError for any that will not do."""
    given = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs or ())
    if not given or not all(isinstance(t, Tensor) and t.dim() and len(t) for t in given):
        raise ValueError(
            "ActivationMatching: inputs are missing; give some hundred unlabelled inputs (N, ...), "
            "or a tuple of such tensors where the network takes several"
        )
    for i, tensor in enumerate(given):
        if len(tensor) != len(given[0]):
            raise ValueError(
                f"ActivationMatching: input {i} has {len(tensor)} rows, but input 0 has "
                f"{len(given[0])}; all have the batch as their first axis"
            )
        if tensor.is_meta or not tensor.isfinite().all():
            raise ValueError(
                f"ActivationMatching: input {i} has values that are NaN, infinite or on the meta "
                "device; give real inputs"
            )
    return given


def _all_assigned(
    blocks: Mapping[str, GroupBlock], scores: Mapping[str, Scores]
) -> tuple[dict[str, Tensor], dict[str, float]]:
    """The best indices of all groups and families that are shown, and the score of each group."""
    indices: dict[str, Tensor] = {}
    values: dict[str, float] = {}
    for name, each in scores.items():
        found, values[name] = _assigned(blocks[name], each)
        indices |= found
    return indices, values


def _assigned(block: GroupBlock, scores: Scores) -> tuple[dict[str, Tensor], float]:
    """The best indices of a block and its families, and the sum of the scores that they choose."""
    total, inner = paired(block, scores)
    group = assign(total)
    value = float(total.gather(2, group[..., None]).sum())
    indices = {block.group: group, **of_chosen(inner, group)}
    return {name: index[0].cpu() for name, index in indices.items()}, value
