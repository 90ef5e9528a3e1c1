"""`GraphMetanetwork`: message passing on the graph of a network's own units and weights.

    e_ij <- e_ij + gelu(A e_ij + B h_j + C h_i)
    h_i  <- h_i + MLP(h_i, agg_j V e_ij . h_j, agg_k U e_ki . h_k)

with agg the mean, or attention over the edges of a node (``heads`` > 0); both cost a constant for
each weight. Lim et al. (2023), Graph Metanetworks for Processing Diverse Neural Architectures,
arXiv 2312.04501; Kofinas et al. (2024), Graph Neural Networks for Learning Equivariant
Representations of Neural Networks, arXiv 2403.12143. The graph is that of `wiring`; `to_graph`
gives it as a `torch_geometric.data.Data`; graphs of different architectures go through one network
in one batch. Invariant to permutations because numbers of nodes are not read, and to sign flips of
the groups named in ``odd``. It knows where a weight stands by coordinates only, not the operations
between layers: activations and skips are not nodes.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from wsl.nn.engine import validate
from wsl.nn.functional import Functional, check_heads
from wsl.nn.functionals.trunk import with_logarithm
from wsl.nn.functionals.wiring import (
    EDGE_KINDS,
    EDGE_PLACES,
    NODE_KINDS,
    NODE_PLACES,
    Wiring,
    wiring_on,
)
from wsl.nn.inputs import InputNormalizer, head, positional_waves
from wsl.params import ravel
from wsl.symmetry import PermutationSpec, SpecError

if TYPE_CHECKING:
    from torch_geometric.data import Data


def to_graph(spec: PermutationSpec, params: Mapping[str, Tensor]) -> Data:
    """One network's weights (*shape) as a graph.

    Several go into one batch with ``Batch.from_data_list``. ``edge_attr`` (E, 1): weights, 0 on
    edges of families; ``edge_index`` (2, E); ``node_kind`` (N,), ``edge_kind`` (E,): see `wiring`;
    ``node_place`` (N, 2), ``edge_place`` (E, 4): coordinates. Raises `SpecError` for weights that
    do not fit.
    """
    _check_single(spec.validate(params))
    values = _values(spec, params)
    graph = wiring_on(spec, values.device)
    return _geometric().data.Data(
        edge_index=graph.ends,
        edge_attr=values[graph.entry].unsqueeze(1),
        node_kind=graph.node_kind,
        node_place=graph.node_place.to(values),
        edge_kind=graph.edge_kind,
        edge_place=graph.edge_place.to(values),
        num_nodes=len(graph.node_kind),
    )


def _values(spec: PermutationSpec, params: Mapping[str, Tensor]) -> Tensor:
    """All weights, and one zero behind them, the value of edges without weight."""
    return F.pad(ravel({name: params[name] for name in spec.axes}), (0, 1))


def _check_single(batch: torch.Size) -> None:
    if len(batch):
        raise SpecError(
            f"to_graph takes one network, but the weights have batch axes {tuple(batch)}; give "
            "one member"
        )


class GraphMetanetwork(Functional):
    """Weights (batch, *shape), or a batch of graphs from `to_graph`, to (batch, out_features).

    With ``spec=None`` it reads graphs only. Graphs are taken as they come: normalise weights before
    `to_graph`, since the network's own normaliser belongs to ``spec``. ``heads`` = 0 averages
    messages, otherwise it attends with so many heads.
    ``frequencies``: of the waves that tell coordinates. Raises ValueError unless ``heads`` divides
    ``hidden``.
    """

    equivariance = "invariant"

    def __init__(
        self,
        spec: PermutationSpec | None = None,
        *,
        hidden: int = 32,
        layers: int = 3,
        heads: int = 0,
        frequencies: int = 6,
        out_features: int = 1,
        head_hidden: int = 64,
        dropout: float = 0.0,
        odd: Sequence[str] = (),
    ):
        super().__init__()
        check_heads("GraphMetanetwork", hidden, heads or 1)
        _geometric()
        self.spec, self.frequencies = spec, frequencies
        self.normalizer = InputNormalizer(spec, odd=odd) if spec is not None else None
        waves = 1 + 2 * frequencies
        self.node_kinds = nn.Embedding(len(NODE_KINDS), hidden)
        self.edge_kinds = nn.Embedding(len(EDGE_KINDS), hidden)
        self.node_places = nn.Linear(NODE_PLACES * waves, hidden)
        self.edge_places = nn.Linear(EDGE_PLACES * waves, hidden)
        self.values = nn.Linear(2, hidden, bias=False)
        self.layers = nn.ModuleList(Exchange(hidden, heads) for _ in range(layers))
        self._start()
        width = (len(NODE_KINDS) + len(EDGE_KINDS)) * hidden
        self.head = head(width, head_hidden, head_hidden, out_features, dropout=dropout)

    def forward(self, weights: Mapping[str, Tensor] | Any) -> Tensor:
        """Raises `SpecError` for tensors that do not fit, and for weights without a ``spec``."""
        graph = self._batch(weights) if isinstance(weights, Mapping) else self._graphs(weights)
        h, e = graph.nodes, graph.edges + self.values(with_logarithm(graph.values))
        for layer in self.layers:
            h, e = layer(h, e, graph.ends)
        return self.head(graph.means(h, e))

    def _start(self) -> None:
        """Maps keep the variance; embeddings, which units share, start small.

        Otherwise layer norm would hide what tells units apart.
        """
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=module.in_features**-0.5)
        for module in (self.node_kinds, self.edge_kinds, self.node_places, self.edge_places):
            module.weight.data *= 0.1

    def _batch(self, params: Mapping[str, Tensor]) -> _Graphs:
        """Members of one architecture: the wiring is repeated, its embedding computed once."""
        if self.spec is None or self.normalizer is None:
            raise SpecError(
                "this GraphMetanetwork has no specification and reads graphs; give it "
                "to_graph(spec, params)"
            )
        validate(self.spec, params)
        # One zero behind the weights is the value of edges without weight.
        values = F.pad(ravel(self.normalizer(params), 1), (0, 1))
        return self._repeated(wiring_on(self.spec, values.device), values)

    def _repeated(self, graph: Wiring, values: Tensor) -> _Graphs:
        count = len(values)
        return _Graphs(
            rearrange(values[:, graph.entry], "graph edge -> (graph edge) 1"),
            self._embed_nodes(graph.node_kind, graph.node_place).repeat(count, 1),
            self._embed_edges(graph.edge_kind, graph.edge_place).repeat(count, 1),
            _repeated_ends(graph, count),
            graph.node_kind.repeat(count),
            graph.edge_kind.repeat(count),
            _numbers(count, like=graph.node_kind),
            count,
        )

    def _graphs(self, data: Any) -> _Graphs:
        batch = data.batch if data.batch is not None else torch.zeros_like(data.node_kind)
        nodes = self._embed_nodes(data.node_kind, data.node_place)
        edges = self._embed_edges(data.edge_kind, data.edge_place)
        count = data.num_graphs if hasattr(data, "num_graphs") else 1
        values = data.edge_attr.to(self.values.weight.dtype)
        return _Graphs(
            values, nodes, edges, data.edge_index, data.node_kind, data.edge_kind, batch, count
        )

    def _embed_nodes(self, kind: Tensor, place: Tensor) -> Tensor:
        return self._waves(place, self.node_places) + self.node_kinds(kind)

    def _embed_edges(self, kind: Tensor, place: Tensor) -> Tensor:
        return self._waves(place, self.edge_places) + self.edge_kinds(kind)

    def _waves(self, place: Tensor, linear: nn.Linear) -> Tensor:
        return linear(positional_waves(place.to(linear.weight), self.frequencies).flatten(1))


class _Graphs(NamedTuple):
    """All graphs of a batch side by side.

    E edges have ``values`` (E, 1), N nodes belong to the graphs ``node_graph`` (N,).
    """

    values: Tensor
    nodes: Tensor
    edges: Tensor
    ends: Tensor
    node_kind: Tensor
    edge_kind: Tensor
    node_graph: Tensor
    count: int

    def means(self, h: Tensor, e: Tensor) -> Tensor:
        """Features of nodes and of edges, averaged over those of each kind: (graphs, features)."""
        nodes = self.node_graph * len(NODE_KINDS) + self.node_kind
        edges = self.node_graph[self.ends[1]] * len(EDGE_KINDS) + self.edge_kind
        found = (
            _scatter(h, nodes, self.count * len(NODE_KINDS), reduce="mean"),
            _scatter(e, edges, self.count * len(EDGE_KINDS), reduce="mean"),
        )
        return torch.cat([x.view(self.count, -1) for x in found], 1)


class Exchange(nn.Module):
    """Edges read their ends, then nodes read their edges in both directions."""

    def __init__(self, hidden: int, heads: int):
        super().__init__()
        self.norm_h, self.norm_e = nn.LayerNorm(hidden), nn.LayerNorm(hidden)
        self.edge = nn.Linear(hidden, hidden)
        self.ends = nn.Linear(hidden, 2 * hidden, bias=False)
        self.sides = nn.ModuleList(Gather(hidden, heads) for _ in range(2))
        self.node = nn.Sequential(
            nn.Linear(3 * hidden, hidden), nn.GELU(), nn.Linear(hidden, hidden)
        )

    def forward(self, h: Tensor, e: Tensor, ends: Tensor) -> tuple[Tensor, Tensor]:
        """Nodes (N, hidden) and edges (E, hidden)."""
        x = self.norm_h(h)
        at_source, at_target = self.ends(x).chunk(2, -1)
        e = e + F.gelu(self.edge(self.norm_e(e)) + at_source[ends[0]] + at_target[ends[1]])
        forward, backward = self.sides
        heard = torch.cat([x, forward(x, e, ends), backward(x, e, ends.flip(0))], -1)
        return h + self.node(heard), e


class Gather(nn.Module):
    """Mean, or attention, over the edges into a node of V e . h.

    The weight acts on what its source says.
    """

    def __init__(self, hidden: int, heads: int):
        super().__init__()
        self.heads = heads
        self.gate, self.say = nn.Linear(hidden, hidden), nn.Linear(hidden, hidden)
        self.key, self.query = (
            nn.Linear(hidden, hidden, bias=False) if heads else None for _ in range(2)
        )

    def forward(self, x: Tensor, e: Tensor, ends: Tensor) -> Tensor:
        """(N, hidden)."""
        (source, target), nodes = ends, len(x)
        message = self.gate(e) * self.say(x)[source]
        if self.key is None or self.query is None:
            return _scatter(message, target, nodes, reduce="mean")
        share = self._shares(self.query(x)[target] * self.key(e), target, nodes)
        heard = rearrange(
            self._split(message) * share.unsqueeze(-1), "edge head d -> edge (head d)"
        )
        return _scatter(heard, target, nodes, reduce="sum")

    def _shares(self, products: Tensor, target: Tensor, nodes: int) -> Tensor:
        """Softmax over the edges of each node: (edges, heads)."""
        scale = math.sqrt(self.heads / products.shape[-1])
        score = scale * self._split(products).sum(-1)
        return _geometric().utils.softmax(score, target, num_nodes=nodes)

    def _split(self, x: Tensor) -> Tensor:
        return rearrange(x, "edge (head d) -> edge head d", head=self.heads)


def _repeated_ends(graph: Wiring, count: int) -> Tensor:
    """Ends of the edges of ``count`` copies, whose nodes are numbered one copy after another."""
    first = len(graph.node_kind) * torch.arange(count, device=graph.ends.device)
    ends = graph.ends[:, None] + first[:, None]
    return rearrange(ends, "side graph edge -> side (graph edge)")


def _numbers(count: int, *, like: Tensor) -> Tensor:
    """The number of the graph of each node, for ``count`` graphs with as many nodes as ``like``."""
    return torch.arange(count, device=like.device).repeat_interleave(len(like))


def _scatter(x: Tensor, index: Tensor, size: int, *, reduce: str) -> Tensor:
    return _geometric().utils.scatter(x, index, dim=0, dim_size=size, reduce=reduce)


def _geometric() -> Any:
    """PyTorch Geometric, loaded on first use: it costs seconds.

    It also warns that it uses a deprecated part of torch.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        import torch_geometric
    return torch_geometric
