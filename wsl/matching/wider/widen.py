"""Merge aligned networks into a wider one, in which units without a partner stay apart.

    W'[v, u] = 1/|C_v| sum over m in C_v and C_u of W_m[pos(v), pos(u)]

for a weight written along v and read along u. A unit v of the wide network stands for the units at
one position of the networks in C_v, merged to their mean; where all are merged, the wide network is
the plain average, and where none is, it computes exactly the mean of the networks' outputs:

    width n:  W' = mean_m W_m            width N n:  block-diagonal, f' = mean_m f_m

After ZipIt, Stoica et al. (2023), arXiv 2305.03053, whose merge and unmerge matrices these are; not
done are its merges of two units of one network, which make a network narrower. The result is a
network of the same code with other sizes, and its specification.

Limitations: what is normalised over the units of a widened group (layer norm, RMS norm, softmax) is
normalised over more of them, so that neither end is exact; give such a group no budget. A tensor
that is written and read along one axis (tied embeddings) is neither. Batch norm is exact; measure
its statistics again wherever units have been merged. Members of families go with their group.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from wsl.matching.problem import check_weights
from wsl.matching.wider.assemble import assembled
from wsl.matching.wider.checks import check_single
from wsl.matching.wider.clusters import Clusters, cluster, unit_features
from wsl.params import Params
from wsl.symmetry import PermutationSpec, Piece, SpecError


@dataclasses.dataclass(frozen=True, eq=False)
class Widened:
    """A wide network: its weights, its specification, and what its units stand for, by group."""

    spec: PermutationSpec
    params: Params
    clusters: Mapping[str, Clusters]


@torch.no_grad()
def widen(
    spec: PermutationSpec,
    networks: Sequence[Mapping[str, Tensor]],
    extra: float | Mapping[str, float],
    *,
    features: Mapping[str, Tensor] | None = None,
    written: Mapping[str, int] | None = None,
) -> Widened:
    """Merge N networks, aligned before (`wsl.matching.match_all`), into one.

    extra: how many units a group gets beyond its own, as a share of its size, from 0 (the plain
    average) to N - 1 (the ensemble); one number for all, or by group, 0 for those not named.
    features: what describes the units of a group, (N, size, anything); its weights unless given.
    written: the axis that a tensor is written along where that is not the first; see
    `written_axes`.
    Raises `SpecError` for weights that do not fit and groups that are none or families, ValueError
    for what `wsl.match` refuses and for shares out of range.
    """
    _check(spec, networks)
    clusters = {}
    given = features or {}
    for name, share in _shares(spec, extra, len(networks)).items():
        described = given.get(name)
        clusters[name] = _clusters(spec, networks, name, share=share, described=described)
    wide = _resized(spec, {name: len(found) for name, found in clusters.items()})
    value = functools.partial(_piece, networks=networks, clusters=clusters)
    params = assembled((spec, wide), networks[0], value, written=written)
    return Widened(wide, params, clusters)


def _check(spec: PermutationSpec, networks: Sequence[Mapping[str, Tensor]]) -> None:
    if len(networks) < 2:
        raise ValueError(f"widen: got {len(networks)} networks; at least two are needed")
    for i, theta in enumerate(networks):
        check_single(spec, theta, f"network {i}")
        check_weights(spec, theta, f"network {i}")


def _shares(
    spec: PermutationSpec, extra: float | Mapping[str, float], count: int
) -> dict[str, float]:
    """How much wider each group gets, of those that can be widened by themselves."""
    own = [group.name for group in spec.declared if group.per is None]
    given = dict(extra) if isinstance(extra, Mapping) else dict.fromkeys(own, extra)
    if wrong := [name for name in given if name not in own]:
        raise SpecError(
            f"widen: '{wrong[0]}' is no group that can be widened by itself; those are {own}"
        )
    for name, share in given.items():
        if not 0 <= share <= count - 1:
            raise ValueError(
                f"widen: group '{name}' is to get {share:g} of its size beyond its own, but of "
                f"{count} networks a share from 0 to {count - 1} is needed"
            )
    return {name: given.get(name, 0.0) for name in own}


def _clusters(
    spec: PermutationSpec,
    networks: Sequence[Mapping[str, Tensor]],
    group: str,
    *,
    share: float,
    described: Tensor | None,
) -> Clusters:
    """What the units of one wider group stand for; without a share, of all networks each."""
    size = spec.groups[group]
    if not share:
        return Clusters(torch.arange(size), torch.ones(len(networks), size, dtype=torch.bool))
    if described is None:
        described = unit_features(spec, networks, group)
    elif described.shape[:2] != (len(networks), size):
        raise SpecError(
            f"features of '{group}' have shape {tuple(described.shape)}, but {len(networks)} "
            f"networks with {size} units each are described"
        )
    return cluster(described, size + round(share * size))


def _resized(spec: PermutationSpec, sizes: Mapping[str, int]) -> PermutationSpec:
    declared = tuple(g._replace(size=sizes.get(g.name, g.size)) for g in spec.declared)
    return PermutationSpec(declared, spec.annotations)


def _piece(
    piece: Piece,
    written: range,
    *,
    networks: Sequence[Mapping[str, Tensor]],
    clusters: Mapping[str, Clusters],
) -> Tensor:
    """W'[v, u]: the sum over the networks that both have as members, over |C_v|."""
    like = torch.empty(0, dtype=torch.float64, device=networks[0][piece.tensor].device)
    own = {k: clusters[str(atom)] for k, atom in enumerate(piece.atoms) if atom in clusters}
    total, merged = 0, 0
    for m, theta in enumerate(networks):
        tensor, counted = _spread(piece.cut(theta, like), own, written, m=m)
        total, merged = total + tensor, merged + counted
    return total / torch.as_tensor(merged).clamp(min=1)


def _spread(
    tensor: Tensor, clusters: Mapping[int, Clusters], written: range, *, m: int
) -> tuple[Tensor, Tensor]:
    """Network m's piece on the wide axes, 0 where it has no member, and where it counts."""
    counted = tensor.new_ones([1] * tensor.dim())
    for axis, own in clusters.items():
        shape = [-1 if i == axis else 1 for i in range(tensor.dim())]
        here = own.members[m].to(tensor).view(shape)
        tensor = tensor.index_select(axis, own.position.to(tensor.device)) * here
        counted = counted * here if axis in written else counted
    return tensor, counted
