"""All that is known of one merge in one value: what ``wsl merge --report`` writes as a page."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from torch import Tensor

from wsl.connectivity import Evaluate, PathLosses, path_losses
from wsl.merging.interference import Interference, interference


@dataclasses.dataclass(frozen=True, eq=False)
class MergeReport:
    """A merged network beside its parents, which are called by ``names``.

    scores: metrics of the parents, of their plain average (naive) and of the result (merged).
    paths: losses on the line from the result to each parent as it was aligned.
    interference: of the task vectors, where there was a base.
    gradients: distances of input gradients of the parents (T, T), where there was a loss.
    """

    names: tuple[str, ...]
    scores: Mapping[str, Mapping[str, float]] = dataclasses.field(default_factory=dict)
    paths: Mapping[str, PathLosses] = dataclasses.field(default_factory=dict)
    interference: Interference | None = None
    gradients: Tensor | None = None


def merge_report(
    members: Mapping[str, Mapping[str, Tensor]],
    merged: Mapping[str, Tensor],
    *,
    base: Mapping[str, Tensor] | None = None,
    evaluate: Evaluate | None = None,
    points: int = 9,
    scores: Mapping[str, Mapping[str, float]] | None = None,
    gradients: Tensor | None = None,
) -> MergeReport:
    """What is known of a merge of ``members``, by name, as they were aligned.

    evaluate: loss and accuracy of weights, for the paths.
    """
    paths = {} if evaluate is None else _paths(members, merged, evaluate, points=points)
    found = None if base is None else interference(_listed(members), base)
    return MergeReport(tuple(members), dict(scores or {}), paths, found, gradients)


def _paths(
    members: Mapping[str, Mapping[str, Tensor]],
    merged: Mapping[str, Tensor],
    evaluate: Evaluate,
    *,
    points: int,
) -> dict[str, PathLosses]:
    ends = members.items()
    return {f"to {name}": path_losses(evaluate, merged, b, points=points) for name, b in ends}


def _listed(members: Mapping[str, Mapping[str, Tensor]]) -> Sequence[Mapping[str, Tensor]]:
    return [*members.values()]
