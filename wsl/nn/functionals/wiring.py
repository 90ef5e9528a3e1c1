"""The wiring of an architecture as a graph: units are nodes and weights are edges.

    unit of a group, position of a fixed axis, tensor  ->  node
    entry of a tensor  ->  edge source -> target

It is read from the specification alone. An entry joins the units on two of its axes: permutable
axes first, then fixed axes on the tensor axes that are left; the later axis is the source, as in a
weight (out, in). With one such axis the other end is the node of the tensor (a bias node), with
none both ends are. Positions on the remaining fixed axes (kernels, gates) and the parts of a
concatenation (queries, keys) are told by coordinates: parallel edges. A unit of a family is joined
to its parent by an edge without weight. Lim et al. (2023), Graph Metanetworks, arXiv 2312.04501;
Kofinas et al. (2024), arXiv 2403.12143. Groups of size one have no node. A tensor with three
permutable axes is refused. Permuting weights by an element of the group renumbers the nodes, no
more.
"""

from __future__ import annotations

import dataclasses
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from wsl.nn.engine import BlockLayout, TensorBlock, encoded
from wsl.nn.functionals.nodes import alive
from wsl.symmetry import PermutationSpec, SpecError, windows

NODE_KINDS = ("unit", "fixed", "tensor")
EDGE_KINDS = (
    "unit-unit",
    "unit-fixed",
    "unit-tensor",
    "fixed-fixed",
    "fixed-tensor",
    "tensor-tensor",
    "family",
)
NODE_PLACES, EDGE_PLACES = 2, 4
"""Numbers of coordinates.

A node has one on its fixed axis and one among the blocks, an edge one among the blocks and three on
remaining axes.
"""


@dataclasses.dataclass(frozen=True, eq=False)
class Wiring:
    """N nodes and E edges.

    ``entry`` (E,) is an edge's position in the raveled weights, or their number for an edge without
    weight; ``ends`` (2, E) are source and target; ``node_kind`` (N,) and ``edge_kind`` (E,) are
    positions in the tables of kinds; ``node_place`` (N, 2) and ``edge_place`` (E, 4) are
    coordinates in [-1, 1].
    """

    node_kind: Tensor
    node_place: Tensor
    ends: Tensor
    edge_kind: Tensor
    edge_place: Tensor
    entry: Tensor


class _Edges(NamedTuple):
    source: Tensor
    target: Tensor
    kind: Tensor
    place: Tensor
    entry: Tensor


@lru_cache(maxsize=64)
def wiring(spec: PermutationSpec) -> Wiring:
    """The graph of all weights of a specification.

    Raises `SpecError` for a tensor with three permutable axes.
    """
    grower, layout = _Grower(spec), BlockLayout(encoded(spec))
    entries = _entries(spec)
    edges = [
        grower.block(block, piece[..., 0, 0])
        for block, piece in zip(layout.blocks, layout.split(entries), strict=True)
    ]
    edges += grower.families(count=sum(part.numel() for part in entries.values()))
    joined = _Edges(*(torch.cat(parts) for parts in zip(*edges, strict=True)))
    ends = torch.stack([joined.source, joined.target])
    nodes = torch.cat(grower.kinds), torch.cat(grower.places)
    return Wiring(*nodes, ends, joined.kind, joined.place, joined.entry)


def _entries(spec: PermutationSpec) -> dict[str, Tensor]:
    """Positions in the raveled weights, as tensors (1, *shape, 1) of one member and channel."""
    sizes = [shape.numel() for shape in spec.shapes.values()]
    flat = torch.arange(sum(sizes)).split(sizes)
    return {
        name: part.view(1, *shape, 1)
        for part, (name, shape) in zip(flat, spec.shapes.items(), strict=True)
    }


@lru_cache(maxsize=64)
def wiring_on(spec: PermutationSpec, device: torch.device) -> Wiring:
    """The same graph on ``device``, copied there once."""
    graph = wiring(spec)
    return Wiring(**{name: tensor.to(device) for name, tensor in vars(graph).items()})


class _Grower:
    """Numbers nodes as they are first met."""

    def __init__(self, spec: PermutationSpec):
        self.spec, self.starts, self.kinds, self.places, self.count = spec, {}, [], [], 0
        found = BlockLayout(encoded(spec)).blocks
        self.depth = dict(zip(found, _line(len(found)).tolist(), strict=True))
        self.sizes = {g.name: g.size * (spec.groups[g.per] if g.per else 1) for g in spec.declared}

    def nodes(self, key: str, kind: str, size: int, *, block: TensorBlock | None = None) -> int:
        """Number of the first node of a set."""
        if key not in self.starts:
            own = _line(size) if kind == "fixed" else torch.zeros(size)
            self.starts[key], self.count = self.count, self.count + size
            self.kinds.append(torch.full((size,), NODE_KINDS.index(kind)))
            depth = 0.0 if block is None else self.depth[block]
            self.places.append(torch.stack([own, torch.full((size,), depth)], 1))
        return self.starts[key]

    def block(self, block: TensorBlock, entry: Tensor) -> _Edges:
        """An edge for each weight of a block, from its later end to its earlier one."""
        chosen, rest = self._choose(block)
        target, source = self._both_ends(block, chosen, entry.shape)
        places = [torch.tensor(self.depth[block]), *self._coordinates(block, rest)]
        kind = EDGE_KINDS.index(self._edge_kind(block, chosen))
        source, target, *places = (
            values.expand(entry.shape).flatten() for values in (source, target, *places)
        )
        place, entry = torch.stack(places, 1), entry.flatten()
        return _Edges(source, target, torch.full_like(entry, kind), place, entry)

    def _both_ends(
        self, block: TensorBlock, chosen: list[int], shape: torch.Size
    ) -> tuple[Tensor, Tensor]:
        """Numbers of nodes; the node of the tensor stands in for ends that it has not."""
        ends = [self._ends(block, axis, shape) for axis in chosen]
        if len(ends) < 2:
            start = self.nodes(f"tensor {block.piece.tensor}", "tensor", 1, block=block)
            ends += [torch.zeros((), dtype=torch.long) + start] * (2 - len(ends))
        return ends[0], ends[1]

    def _edge_kind(self, block: TensorBlock, chosen: list[int]) -> str:
        kinds = [self._kind(block, axis) for axis in chosen] + ["tensor"] * (2 - len(chosen))
        return "-".join(sorted(kinds, key=NODE_KINDS.index))

    def families(self, *, count: int) -> list[_Edges]:
        """Those of all families that some weight stands on; ``count`` is the number of weights."""
        return [
            self._family(group.name, group.per, count)
            for group in self.spec.declared
            if group.per and group.name in self.starts
        ]

    def _family(self, group: str, parent: str, count: int) -> _Edges:
        """Each unit of a family to the unit it belongs to."""
        size, parents = self.spec.groups[group], self.spec.groups[parent]
        units = torch.arange(size * parents)
        return _Edges(
            units + self.starts[group],
            units // size + self.nodes(parent, "unit", parents),
            torch.full_like(units, EDGE_KINDS.index("family")),
            torch.zeros(len(units), EDGE_PLACES),
            torch.full_like(units, count),
        )

    def _choose(self, block: TensorBlock) -> tuple[list[int], list[int]]:
        """The axes whose units are joined, at most two, and the fixed axes that remain."""
        live = alive(block)
        units = [k for k in live if self._kind(block, k) == "unit"]
        if len(units) > 2:
            raise SpecError(
                f"{block.piece.tensor}: has {len(units)} permutable axes, but an edge of a graph "
                "joins two units; use a functional on the equivariant engine, such as UNF"
            )
        fixed = [k for k in live if k not in units]
        chosen = units + self._fixed_ends(block, units, fixed)
        return sorted(chosen), [k for k in fixed if k not in chosen]

    def _fixed_ends(self, block: TensorBlock, units: list[int], fixed: list[int]) -> list[int]:
        """Fixed axes that become ends beside ``units``, each on a tensor axis of its own."""
        owner = _tensor_axes(self.spec, block)
        found, taken = [], {owner[k] for k in units}
        for k in fixed:
            if len(units) + len(found) < 2 and owner[k] not in taken:
                found.append(k)
                taken.add(owner[k])
        return found

    def _kind(self, block: TensorBlock, axis: int) -> str:
        return "unit" if block.space[axis].group in self.spec.groups else "fixed"

    def _ends(self, block: TensorBlock, axis: int, shape: torch.Size) -> Tensor:
        group, size, parent = block.space[axis]
        kind = self._kind(block, axis)
        start = self.nodes(group, kind, self.sizes.get(group, size), block=block)
        index = _along(torch.arange(size), axis, len(shape)) + start
        if parent is None:
            return index
        parents = torch.arange(block.space[parent].size)
        return index + size * _along(parents, parent, len(shape))

    def _coordinates(self, block: TensorBlock, rest: list[int]) -> list[Tensor]:
        """One coordinate for each remaining axis; those beyond the third share the last one."""
        dims, slots = len(block.space), EDGE_PLACES - 1
        own = [_along(_line(block.space[k].size), k, dims) for k in rest[:slots]]
        for k in rest[slots:]:
            size = block.space[k].size
            own[-1] = own[-1] + _along(_line(size), k, dims) / (2 * size)
        return own + [torch.zeros(())] * (slots - len(own))


def _tensor_axes(spec: PermutationSpec, block: TensorBlock) -> list[int]:
    """The axis of the tensor on which each permutable axis of a block lies.

    ``spec`` is the specification itself, the block one of the encoded specification.
    """
    axes = encoded(spec).axes[block.piece.tensor]
    owners = [
        axis
        for axis, (start, _) in enumerate(block.piece.window)
        for window in windows(encoded(spec), axes[axis])
        if window.start == start
        for _ in window.atoms
    ]
    return [owners[k] for k in block.order[: len(block.space)]]


def _line(size: int) -> Tensor:
    return torch.linspace(-1, 1, size) if size > 1 else torch.zeros(size)


def _along(values: Tensor, axis: int, dims: int) -> Tensor:
    return values.view(-1, *[1] * (dims - axis - 1))
