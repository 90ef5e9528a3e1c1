"""The wiring of an architecture as a graph: units are nodes, weights are edges; read from the
specification alone.

    unit of a group, position of a fixed axis, tensor  ->  node;        entry of a tensor  ->  edge
        source -> target

An entry joins the units on two of its axes: permutable axes first, then fixed axes on the tensor
axes that are left; the later axis is the source, as in a weight (out, in). With one such axis the
other end is the node of the tensor (a bias node), with none both ends are. Positions on the
remaining fixed axes (kernels, gates) and the parts of a concatenation (queries, keys) are told by
coordinates: parallel edges. A unit of a family is joined to its parent by an edge without weight.
Lim et al. (2023), Graph Metanetworks, arXiv 2312.04501; Kofinas et al. (2024), arXiv 2403.12143.
Groups of size one have no node. A tensor with three permutable axes is refused. Permuting weights
by an element of the group renumbers the nodes, no more.
"""

from __future__ import annotations

import dataclasses
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from wsl.nn.engine import Block, Layout, encoded
from wsl.symmetry import PermutationSpec, SpecError

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
"""Coordinates of a node: on its fixed axis, among the blocks; of an edge: among the blocks, on
three remaining axes.
"""


@dataclasses.dataclass(frozen=True, eq=False)
class Wiring:
    """``entry`` (E,) is an edge's place in the raveled weights, their number for an edge without
    weight; others as named.

    ``ends`` (2, E): source and target; ``node_kind`` (N,), ``edge_kind`` (E,): places in the tables
    of kinds; ``node_place`` (N, 2), ``edge_place`` (E, 4): coordinates in [-1, 1].
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
    """The graph of all weights of a specification. Raises `SpecError` for a tensor with three
    permutable axes.
    """
    grower = _Grower(spec)
    layout, count = Layout(encoded(spec)), sum(shape.numel() for shape in spec.shapes.values())
    flat = torch.arange(count).split([shape.numel() for shape in spec.shapes.values()])
    entries = {
        name: part.view(1, *shape, 1)
        for part, (name, shape) in zip(flat, spec.shapes.items(), strict=True)
    }
    edges = [
        grower.block(block, piece[..., 0, 0])
        for block, piece in zip(layout.blocks, layout.split(entries), strict=True)
    ]
    edges += [
        grower.family(group.name, group.per, count)
        for group in spec.declared
        if group.per and grower.has(group.name)
    ]
    source, target, kind, place, entry = (torch.cat(parts) for parts in zip(*edges, strict=True))
    return Wiring(
        torch.cat(grower.kinds),
        torch.cat(grower.places),
        torch.stack([source, target]),
        kind,
        place,
        entry,
    )


@lru_cache(maxsize=64)
def wiring_on(spec: PermutationSpec, device: torch.device) -> Wiring:
    """The same graph on ``device``, copied there once."""
    graph = wiring(spec)
    return Wiring(
        **{field.name: getattr(graph, field.name).to(device) for field in dataclasses.fields(graph)}
    )


class _Grower:
    """Numbers nodes as they are first met."""

    def __init__(self, spec: PermutationSpec):
        self.spec, self.starts, self.kinds, self.places, self.count = spec, {}, [], [], 0
        found = Layout(encoded(spec)).blocks
        self.depth = dict(zip(found, _line(len(found)).tolist(), strict=True))
        self.sizes = {g.name: g.size * (spec.groups[g.per] if g.per else 1) for g in spec.declared}

    def has(self, group: str) -> bool:
        return group in self.starts

    def nodes(self, key: str, kind: str, size: int, *, block: Block | None = None) -> int:
        """Number of the first node of a set."""
        if key not in self.starts:
            own = _line(size) if kind == "fixed" else torch.zeros(size)
            self.starts[key], self.count = self.count, self.count + size
            self.kinds.append(torch.full((size,), NODE_KINDS.index(kind)))
            depth = 0.0 if block is None else self.depth[block]
            self.places.append(torch.stack([own, torch.full((size,), depth)], 1))
        return self.starts[key]

    def block(self, block: Block, entry: Tensor) -> _Edges:
        chosen, rest = self._choose(block)
        ends = [self._ends(block, axis, entry.shape) for axis in chosen]
        own = torch.zeros((), dtype=torch.long)
        if len(ends) < 2:
            start = self.nodes(f"tensor {block.tensor}", "tensor", 1, block=block)
            ends += [own + start] * (2 - len(ends))
        kinds = sorted(
            [self._kind(block, axis) for axis in chosen] + ["tensor"] * (2 - len(chosen)),
            key=NODE_KINDS.index,
        )
        places = [torch.tensor(self.depth[block]), *self._coordinates(block, rest)]
        return _Edges(
            ends[1].expand(entry.shape).flatten(),
            ends[0].expand(entry.shape).flatten(),
            torch.full((entry.numel(),), EDGE_KINDS.index("-".join(kinds))),
            torch.stack([place.expand(entry.shape).flatten() for place in places], 1),
            entry.flatten(),
        )

    def family(self, group: str, parent: str, count: int) -> _Edges:
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

    def _choose(self, block: Block) -> tuple[list[int], list[int]]:
        """The axes whose units are joined, at most two, and the fixed axes that remain."""
        parents = [axis.parent for axis in block.space]
        alive = [k for k in range(len(block.space)) if k not in parents]
        units = [k for k in alive if self._kind(block, k) == "unit"]
        if len(units) > 2:
            raise SpecError(
                f"{block.tensor}: has {len(units)} permutable axes, but an edge of a graph joins "
                "two units; "
                "use a functional on the equivariant engine, such as UNF"
            )
        owner = _tensor_axes(self.spec, block)
        fixed = [k for k in alive if k not in units]
        taken = {owner[k] for k in units}
        for k in sorted(fixed, key=lambda k: (owner[k] in taken, k)):
            units += [k] if len(units) < 2 and owner[k] not in taken else []
            taken |= {owner[k]} if k in units else set()
        return sorted(units), [k for k in fixed if k not in units]

    def _kind(self, block: Block, axis: int) -> str:
        return "unit" if block.space[axis].group in self.spec.groups else "fixed"

    def _ends(self, block: Block, axis: int, shape: torch.Size) -> Tensor:
        group, size, parent = block.space[axis]
        kind = self._kind(block, axis)
        start = self.nodes(group, kind, self.sizes.get(group, size), block=block)
        index = _along(torch.arange(size), axis, len(shape)) + start
        return (
            index
            if parent is None
            else index + size * _along(torch.arange(block.space[parent].size), parent, len(shape))
        )

    def _coordinates(self, block: Block, rest: list[int]) -> list[Tensor]:
        """One coordinate for each remaining axis; those beyond the third share the last one."""
        dims, slots = len(block.space), EDGE_PLACES - 1
        own = [_along(_line(block.space[k].size), k, dims) for k in rest[:slots]]
        for k in rest[slots:]:
            size = block.space[k].size
            own[-1] = own[-1] + _along(_line(size), k, dims) / (2 * size)
        return own + [torch.zeros(())] * (slots - len(own))


def _tensor_axes(spec: PermutationSpec, block: Block) -> list[int]:
    """On which axis of the tensor each permutable axis of a block of the encoded specification
    lies.
    """
    owners = []
    for axis, ((start, _), cuts) in enumerate(
        zip(block.spans, encoded(spec).axes[block.tensor], strict=True)
    ):
        place = 0
        for segment in cuts:
            owners += [axis] * len(segment) if place == start else []
            place += encoded(spec).segment_size(segment)
    return [owners[k] for k in block.order[: len(block.space)]]


def _line(size: int) -> Tensor:
    return torch.linspace(-1, 1, size) if size > 1 else torch.zeros(size)


def _along(values: Tensor, axis: int, dims: int) -> Tensor:
    return values.view(-1, *[1] * (dims - axis - 1))
