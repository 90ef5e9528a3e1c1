"""What a repair returns: weights for the same code, and what was done to each layer."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from torch import Tensor

from wsl.connectivity.repairs.lockstep import Lockstep
from wsl.params import Params, check_alike, check_range


@dataclasses.dataclass(frozen=True)
class RepairedSite:
    """What happened to one layer: its ``name``, its operation, and how many ``units`` it writes.

    met: units that have what was wanted now. reason: why a layer was left as it is, or why not all
    of its units have it; empty where nothing is to be said.
    """

    name: str
    operation: str
    units: int
    met: int
    reason: str = ""


@dataclasses.dataclass(frozen=True, eq=False)
class Repaired:
    """Weights for the same code, what was done to each layer in order of depth, and on how many
    ``samples``, 0 where none were needed.
    """

    params: Params
    sites: tuple[RepairedSite, ...]
    samples: int

    @property
    def left(self) -> dict[str, str]:
        """The layers that were left as they are, by name, with the reason."""
        return {site.name: site.reason for site in self.sites if not site.met}


def shares_of(
    params: Mapping[str, Tensor],
    members: Sequence[Mapping[str, Tensor]],
    weights: Sequence[float] | None,
    *,
    what: str,
) -> list[float]:
    """The members' shares, summing to one; raises ValueError for members unlike ``params``."""
    if not members:
        raise ValueError(f"{what}: got 0 members; at least one is needed, to be made like it")
    for member in members:
        check_alike(params, member)
    chosen = [1.0] * len(members) if weights is None else [float(w) for w in weights]
    if len(chosen) != len(members) or min(chosen) < 0 or not sum(chosen):
        raise ValueError(
            f"{what}: got {len(members)} members and the weights {chosen}; one for each is needed, "
            "none of them negative and not all zero"
        )
    return [weight / sum(chosen) for weight in chosen]


def result_of(
    run: Lockstep, given: Mapping[str, Tensor], sites: Sequence[RepairedSite], *, what: str
) -> Repaired:
    """The weights after a sweep, in the order of those ``given``, equal under all names of a
    tensor.
    """
    fresh = {name: run.params[name] for name in given}
    for name in run.program.weights.values():
        fresh |= {twin: run.params[name] for twin in run.program.twins[name] if twin in fresh}
    check_range(fresh, given, what=what)
    samples = sum(len(batch) for batch in run.batches if isinstance(batch, Tensor))
    return Repaired(fresh, tuple(sites), samples)
