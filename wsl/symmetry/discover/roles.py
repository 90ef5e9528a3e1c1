"""Names for the axes of attention that is written out as products around a softmax.

    P = softmax(.. Q K^T ..),  O = P V
    head    batch axes of Q K^T
    dk      the axis that Q K^T contracts
    dv      the axis of V that O keeps

Around every softmax the graph is searched for the product that it reads and for the product that
reads it. Between them may stand operations that keep the number of entries: scaling, masks, casts,
dropout, reshapes. Only names depend on this. Fused attention names its axes in its own rule.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.fx import Graph, Node

from wsl.symmetry.discover.axes import Atom, Axis, Value, atoms, one

_ATEN = torch.ops.aten
_SOFTMAX = (_ATEN.softmax, _ATEN._softmax)
_PRODUCTS = (_ATEN.matmul, _ATEN.bmm, _ATEN.baddbmm, _ATEN.einsum)
_FURTHEST = 12


def attention_roles(graph: Graph, values: Mapping[Node, Any]) -> Iterator[tuple[Axis, str]]:
    """Axes and their roles, for every softmax between two products."""
    for node in graph.nodes:
        if _packet(node) in _SOFTMAX:
            scores = [product for source in _tensors(node) for product in _search(source, _tensors)]
            outputs = [
                product for user in node.users for product in _search(user, lambda n: n.users)
            ]
            # A softmax over classes, say, has no product behind it, and its axes no roles.
            if scores and outputs:
                yield from (label for product in scores for label in _of_scores(product, values))
                yield from (label for product in outputs for label in _of_output(product, values))


def _of_scores(product: Node, values: Mapping[Node, Any]) -> Iterator[tuple[Axis, str]]:
    query, key = (_free(values[node]) for node in _factors(product))
    scores: Value = values[product]
    batch = (
        _free(scores[:-2]) if _packet(product) is not _ATEN.einsum else _free(scores) & query & key
    )
    yield from ((one(atom), "head") for atom in batch)
    yield from ((one(atom), "dk") for atom in (query & key) - _free(scores))


def _of_output(product: Node, values: Mapping[Node, Any]) -> Iterator[tuple[Axis, str]]:
    left, right = (_free(values[node]) for node in _factors(product))
    yield from ((one(atom), "dv") for atom in (right - left) & _free(values[product]))


def _search(start: Node, step: Callable[[Node], Iterable[Node]]) -> list[Node]:
    """The nearest products in one direction, behind nodes of as many entries."""
    found, seen, front = [], {start}, [start]
    for _ in range(_FURTHEST):
        # Products end the search: what lies behind one belongs to another attention.
        found += [node for node in front if _packet(node) in _PRODUCTS and len(_factors(node)) == 2]
        reached = [n for node in front if _packet(node) not in _PRODUCTS for n in step(node)]
        front = [
            n
            for n in dict.fromkeys(reached)
            if n not in seen and (_packet(n) in _PRODUCTS or _entries(n) == _entries(start))
        ]
        seen.update(front)
    return found


def _factors(product: Node) -> list[Node]:
    """The two factors of a product."""
    return list(product.args[1] if _packet(product) is _ATEN.einsum else product.args[-2:])  # type: ignore[arg-type]


def _tensors(node: Node) -> list[Node]:
    return [n for n in node.all_input_nodes if isinstance(n.meta.get("val"), Tensor)]


def _entries(node: Node) -> int:
    value = node.meta.get("val")
    return value.numel() if isinstance(value, Tensor) else 0


def _packet(node: Node) -> Any:
    return getattr(node.target, "overloadpacket", None)


def _free(value: Value) -> set[Atom]:
    return {atom for axis in value for atom in atoms(axis) if atom.free}
