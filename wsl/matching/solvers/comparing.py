"""Two networks on the same inputs: scores of every pair of units, summed over the sites.

    S_p = sum over sites s of p   statistic of ( Z_s(theta_a), Z_s(theta_b) )

Both run on each batch, one after the other; of the first only the samples that are compared are
kept until the second has reached the same site.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from wsl.matching.blocks import GroupBlock
from wsl.matching.solvers.clock import Clock
from wsl.matching.solvers.moments import PairedMoments
from wsl.matching.solvers.units import UnitRows, sites_that_count, unit_rows
from wsl.symmetry import Activations, ActivationSite

Scores = dict[str, Tensor]
"""By the name of a group or of a family, float64 (1, units, units); of a family, its units in all
blocks one after the other."""

Place = tuple[str, int]
"""A site by its name, and the number of a part of it."""


class Comparison:
    """Runs both networks and keeps the moments of each site that counts.

    positions: at most so many samples of a site and batch, drawn by ``seed`` with repetition.
    moments: of each part of a site, with the block and the innermost group that it shows.
    """

    def __init__(
        self, network: Activations, blocks: Mapping[str, GroupBlock], *, positions: int, seed: int
    ) -> None:
        self.network, self.positions = network, positions
        self.counts = sites_that_count(network.spec, network.sites, blocks)
        self.generator = torch.Generator().manual_seed(seed)
        self.moments: dict[Place, tuple[UnitRows, PairedMoments]] = {}
        self.clock = Clock()

    def run(
        self, a: Mapping[str, Tensor], b: Mapping[str, Tensor], batch: Sequence[Tensor]
    ) -> None:
        """Take in the activations of both networks on one batch."""
        kept: dict[Place, tuple[Tensor, Tensor | None]] = {}

        def keep(place: Place, _: UnitRows, units: Tensor) -> None:
            drawn = self._draw(units.shape[1])
            kept[place] = _samples(units, drawn, f"{place[0]} of 'a'"), drawn

        def compare(place: Place, rows: UnitRows, units: Tensor) -> None:
            mine, drawn = kept.pop(place)
            self._add(place, rows, (mine, _samples(units, drawn, f"{place[0]} of 'b'")))

        self.network.run(a, *batch, visit=self._visitor(keep))
        self.network.run(b, *batch, visit=self._visitor(compare))

    def _add(self, place: Place, rows: UnitRows, pair: tuple[Tensor, Tensor]) -> None:
        """Samples of a part of a site in both networks, taken into its moments."""
        with self.clock.timed("products"):
            self.moments.setdefault(place, (rows, PairedMoments()))[1].add(*pair)

    def scores(self, statistic: str) -> dict[str, Scores]:
        """For every block that some site shows, the sum of a statistic over its sites."""
        total: dict[str, Scores] = {}
        for rows, moments in self.moments.values():
            found = getattr(moments, statistic)()[None]
            of_block = total.setdefault(rows.block, {})
            of_block[rows.name] = of_block.get(rows.name, 0) + found
        return total

    def units(self, block: str) -> int:
        """How many pairs of units a matching of a block compares, over all its sites."""
        parts = self.moments.values()
        return sum(len(moments.cross) for rows, moments in parts if rows.block == block)

    def _visitor(
        self, use: Callable[[Place, UnitRows, Tensor], None]
    ) -> Callable[[ActivationSite, Tensor], None]:
        def visit(site: ActivationSite, value: Tensor) -> None:
            counts = self.counts.get(site.name, frozenset())
            for k, rows in enumerate(unit_rows(self.network.spec, site.axes) if counts else ()):
                if rows.block in counts:
                    use((site.name, k), rows, rows.cut(value))

        return visit

    def _draw(self, samples: int) -> Tensor | None:
        if samples <= self.positions:
            return None
        return torch.randint(samples, (self.positions,), generator=self.generator)


def _samples(units: Tensor, drawn: Tensor | None, where: str) -> Tensor:
    """The samples that were drawn, in at least float32; raises ValueError if one is not finite."""
    taken = units if drawn is None else units.index_select(1, drawn.to(units.device))
    if not taken.isfinite().all():
        raise ValueError(
            f"{where}: activations are NaN or infinite; look at the inputs, or leave out members "
            "that diverged before matching"
        )
    # A view of what later operations may overwrite is copied.
    return taken.to(torch.promote_types(taken.dtype, torch.float32), copy=drawn is None)
