"""The barrier between two networks that were never matched to each other, but to a third.

    b' = match(a, b)(b),    c' = match(a, c)(c),        barrier between b' and c'

Ito, Yamada, Kumagai (2025), section 5, arXiv 2402.04051: weight matching aligns singular vectors of
all three, so b' and c' connect; what finds a path for one pair only, as the straight-through
estimator does, leaves a barrier between them. Three networks of one architecture, one result.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from wsl.connectivity.paths import Evaluate, PathLosses, path_losses
from wsl.matching import Matcher, match
from wsl.params import Params
from wsl.symmetry import PermutationSpec


@dataclasses.dataclass(frozen=True, eq=False)
class ThreeModels:
    """Losses from a to b', from a to c', and ``indirect``, from b' to c'; ``naive`` from b to c."""

    first: PathLosses
    second: PathLosses
    indirect: PathLosses
    naive: PathLosses


def three_models(
    evaluate: Evaluate,
    spec: PermutationSpec,
    networks: Sequence[Mapping[str, Tensor]],
    *,
    matcher: Matcher | None = None,
    points: int = 11,
    prepare: Callable[[Params], Params] | None = None,
) -> ThreeModels:
    """Match the second and the third of ``networks`` to the first, and evaluate all three lines.

    Raises ValueError unless there are three.
    """
    if len(networks) != 3:
        raise ValueError(f"three_models: got {len(networks)} networks; a, b and c are needed")
    a, b, c = networks
    near, far = (match(spec, a, other, matcher)(other) for other in (b, c))
    lines = ((a, near), (a, far), (near, far), (b, c))
    paths = [path_losses(evaluate, *line, points=points, prepare=prepare) for line in lines]
    return ThreeModels(*paths)
