"""Groups whose units hold many units of their own, such as experts: their order, then inside each.

    L_ij = <gate_i, gate'_j> + sum over tensors of |X_i| |X'_j| cos(G_i - mean G, G'_j - mean G')
    G_i  = X_i^T X_i,  seen through probes:  X_i^T (X_i Omega)
    pi   = argmax_P <L, P>,        sigma_i = argmax_P <X_i X'_pi(i)^T, P>

All pairs of hidden units of all experts are (n k)^2 scores, and n^2 assignments of size k. A Gram
does not see the order of hidden units, so that the order of experts is found first, as in arXiv
2509.11348 (experts by Grams, gates centred), and n assignments remain. An assignment does not see
what is added to all gates alike. <G, G'> is estimated without bias from few random probes, whose
error falls with the entries of G and not with the probes alone.

Guarantees: a step gains what the objective gains; an order that would gain nothing gives way to the
present one. In memory are the scores of one pair of entries, (k, k). Not guaranteed, other than for
all pairs at once: the best order.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from wsl.matching.blocks import GroupBlock, MatchingPlan, Site
from wsl.matching.large.cuts import outermost_at
from wsl.matching.solvers import ALL, BlockStep, assign, products

MOST_PAIRED = 2**25
"""Scores of all pairs that are computed at once; groups with more are matched in two steps."""
PROBES = 64


class EntryReader(Protocol):
    """What two checkpoints hold at a site: pieces as they stand, without rows."""

    def entry(self, site: Site, which: str, number: int | None) -> Tensor:
        """Of ``which`` ("a" or "b") the entry ``number`` of the group; of None all of them."""
        ...


class _Inside(NamedTuple):
    """The best order inside each entry: by family (n, k), what it scores, and standing still."""

    families: dict[str, Tensor]
    chosen: float
    standing: float


def apart_groups(plan: MatchingPlan) -> frozenset[str]:
    """The groups that are matched in two steps."""
    return frozenset(name for name, block in plan.blocks.items() if _is_apart(plan, block))


def _is_apart(plan: MatchingPlan, block: GroupBlock) -> bool:
    large = any((block.size * size) ** 2 > MOST_PAIRED for _, size in block.families)
    return (
        large
        and block.linear
        and all(
            not site.families
            or (len(site.families) == 1 and outermost_at(plan.pieces[site.piece], site.axis) >= 0)
            for site in block.sites
        )
    )


def apart_step(block: GroupBlock, sites: Iterable[Site], entries: EntryReader) -> BlockStep:
    """The step that these sites ask for; its gain is theirs."""
    sites = list(sites)
    inside = [site for site in sites if site.families]
    gates = _gates(block, [site for site in sites if not site.families], entries)
    likeness = sum((_likeness(block, site, entries) for site in inside), gates)
    still = torch.arange(block.size)
    order = assign(likeness)
    step = _step(order, gates=gates, inside=_inside(block, inside, entries, order=order))
    if torch.equal(order, still) or float(step.gain) > 0:
        return step
    return _step(still, gates=gates, inside=_inside(block, inside, entries, order=still))


def _step(order: Tensor, *, gates: Tensor, inside: _Inside) -> BlockStep:
    outside = gates.gather(1, order[:, None]).sum() - gates.trace()
    gain = torch.tensor([float(outside) + inside.chosen - inside.standing], dtype=torch.float64)
    families = {name: index[None] for name, index in inside.families.items()}
    return BlockStep(ALL, order[None], families, None, gain)


def _gates(block: GroupBlock, sites: Iterable[Site], entries: EntryReader) -> Tensor:
    """Scores of whole entries, (n, n)."""
    scores = torch.zeros(block.size, block.size, dtype=torch.float64)
    for site in sites:
        a, b = (_rows(entries.entry(site, which, None), site.axis) for which in "ab")
        scores += (a @ b.T).double()
    return scores


def _likeness(block: GroupBlock, site: Site, entries: EntryReader) -> Tensor:
    """How alike the Grams of a site's entries are, (n, n), in the units of the objective."""
    (mine, sizes), (theirs, other_sizes) = (
        _signatures(block, site, entries, which=which) for which in "ab"
    )
    mine, theirs = (F.normalize(each - each.mean(0), dim=1) for each in (mine, theirs))
    return (mine @ theirs.T).double() * sizes[:, None] * other_sizes


def _signatures(
    block: GroupBlock, site: Site, entries: EntryReader, *, which: str
) -> tuple[Tensor, Tensor]:
    """X^T (X Omega) of every entry, (n, columns x probes), and |X|, float64 (n,)."""
    found, sizes = [], []
    for number in range(block.size):
        x = _units(site, entries.entry(site, which, number))
        probes = _probes(x.shape[1]).to(x)
        found.append((x.T @ (x @ probes)).flatten())
        sizes.append(float(x.norm()))
    return torch.stack(found), torch.tensor(sizes, dtype=torch.float64)


def _probes(columns: int) -> Tensor:
    """Signs (columns, probes), always the same; all columns where those are no more."""
    if columns <= PROBES:
        return torch.eye(columns)
    rng = torch.Generator().manual_seed(columns)
    signs = torch.randint(0, 2, (columns, PROBES), generator=rng)
    return (2.0 * signs - 1) / PROBES**0.5


def _inside(
    block: GroupBlock, sites: list[Site], entries: EntryReader, *, order: Tensor
) -> _Inside:
    """The best order of the units of each entry, those of b taken in ``order``."""
    families = {name: torch.arange(size).repeat(block.size, 1) for name, size in block.families}
    chosen = standing = 0.0
    for i, j in enumerate(order.tolist()):
        for name, scores in _scores(sites, entries, (i, j)).items():
            families[name][i] = assign(scores)
            chosen += float(scores.gather(1, families[name][i][:, None]).double().sum())
            standing += float(scores.diagonal().double().sum()) if i == j else 0.0
        standing += 0.0 if i == j else _standing(sites, entries, i)
    return _Inside(families, chosen, standing)


def _scores(
    sites: Iterable[Site], entries: EntryReader, pair: tuple[int, int]
) -> dict[str, Tensor]:
    """Units of entry i of a against those of entry j of b, by family."""
    found: dict[str, Tensor] = {}
    for site in sites:
        a, b = (
            _units(site, entries.entry(site, which, number))
            for which, number in zip("ab", pair, strict=True)
        )
        name, scores = site.families[0][0], a @ b.T
        found[name] = found[name] + scores if name in found else scores
    return found


def _standing(sites: Iterable[Site], entries: EntryReader, number: int) -> float:
    """What an entry scores where it is."""
    pairs = ([entries.entry(site, which, number) for which in "ab"] for site in sites)
    return sum(float(products(a, b[None])) for a, b in pairs)


def _units(site: Site, part: Tensor) -> Tensor:
    """An entry of a site as a matrix of its family's units, (k, columns)."""
    return _rows(part, site.families[0][1])


def _rows(part: Tensor, axis: int) -> Tensor:
    return part.movedim(axis, 0).flatten(1) if part.dim() > 1 else part[:, None]
