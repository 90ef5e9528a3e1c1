"""Graphs of weights: what becomes a node and an edge, and networks on them, invariant for every
architecture at once.
"""

import subprocess
import sys

import pytest
import torch
from functionals import (
    MARKET,
    assert_reads_and_is_invariant,
    assert_reads_up_to_sign,
    assert_sees_one_alone,
    assert_trains_and_casts,
    build,
)
from networks import BY_NAME

from wsl.nn import GraphMetanetwork, to_graph
from wsl.nn.functionals.wiring import EDGE_KINDS, NODE_KINDS, wiring
from wsl.symmetry import Permutation, PermutationSpec, SpecError


def maker(heads):
    return lambda network: GraphMetanetwork(
        network.spec, hidden=4, layers=2, heads=heads, frequencies=2, out_features=3
    )


def batch_of(graphs):
    from torch_geometric.data import Batch

    return Batch.from_data_list(graphs)


@pytest.mark.parametrize(
    ("heads", "dtype"), [(0, torch.float32), (0, torch.float64), (2, torch.float64)]
)
@pytest.mark.parametrize("network", MARKET, ids=lambda n: n.name)
def test_metanetworks_are_invariant_over_the_market(network, heads, dtype):
    assert_reads_and_is_invariant(maker(heads), network, dtype)


@pytest.mark.parametrize("heads", [0, 2])
@pytest.mark.parametrize("network", MARKET, ids=lambda n: n.name)
def test_metanetworks_see_when_one_occurrence_moves_alone(network, heads):
    assert_sees_one_alone(maker(heads), network)


@pytest.mark.parametrize("heads", [0, 2])
def test_metanetworks_train(heads):
    net = build(maker(heads), BY_NAME["cnn"])
    net.edge_kinds.weight.data[:] = net.edge_kinds.weight[0]
    assert_trains_and_casts(maker(heads), BY_NAME["cnn"])


@pytest.mark.parametrize("network", MARKET, ids=lambda n: n.name)
def test_a_graph_holds_every_weight_once(network):
    theta = network.weights()
    graph = to_graph(network.spec, theta)
    kept = graph.edge_attr[graph.edge_kind != EDGE_KINDS.index("family"), 0]
    values = torch.cat([theta[name].flatten().float() for name in network.spec.axes])
    assert torch.equal(kept.sort().values, values.sort().values)
    assert graph.edge_index.max() < graph.num_nodes
    assert graph.validate()


@pytest.mark.parametrize("network", MARKET, ids=lambda n: n.name)
def test_no_two_weights_have_the_same_ends_and_coordinates(network):
    """Otherwise the graph could not tell them apart, and would be invariant to more than the
    group.
    """
    graph = wiring(network.spec)
    names = torch.cat(
        [graph.ends.T.double(), graph.edge_place.double(), graph.edge_kind[:, None].double()], 1
    )
    assert len(names.unique(dim=0)) == len(names)


def test_nodes_are_units_positions_and_tensors():
    spec = PermutationSpec.parse(
        "h = 3, head = 2, dk = 4 per head\na: h 2 3 3\nb: h\nc: (head dk) h\nd: 5 (head dk)\ns:"
    )
    graph = wiring(spec)
    counts = {kind: int((graph.node_kind == i).sum()) for i, kind in enumerate(NODE_KINDS)}
    assert counts == {"unit": 3 + 8 + 2, "fixed": 2 + 5, "tensor": 2}
    edges = {
        kind: int((graph.edge_kind == i).sum())
        for i, kind in enumerate(EDGE_KINDS)
        if (graph.edge_kind == i).any()
    }
    assert edges == {
        "unit-fixed": 54 + 40,
        "unit-tensor": 3,
        "unit-unit": 24,
        "tensor-tensor": 1,
        "family": 8,
    }


def test_gates_are_parallel_edges_and_inputs_are_nodes():
    graph = wiring(BY_NAME["gru"].spec)
    first = graph.entry < 21 * 5
    assert graph.ends[:, first].unique(dim=1).shape[1] == 7 * 5
    assert graph.edge_place[first, 1].unique().tolist() == [-1, 0, 1]


def test_a_permutation_only_renumbers_nodes():
    network = BY_NAME["attention"]
    theta = network.weights()
    moved = Permutation.random(network.spec, torch.Generator().manual_seed(0))(theta)

    def degrees(params):
        graph = to_graph(network.spec, params)
        return (
            torch.zeros(graph.num_nodes)
            .index_add(0, graph.edge_index[1], graph.edge_attr[:, 0].exp())
            .sort()
            .values
        )

    torch.testing.assert_close(degrees(moved), degrees(theta))
    assert not torch.equal(
        to_graph(network.spec, moved).edge_attr, to_graph(network.spec, theta).edge_attr
    )


@pytest.mark.parametrize("heads", [0, 2])
def test_graphs_give_what_weights_give(heads):
    network = BY_NAME["dense"]
    net, theta = build(maker(heads), network), network.weights(3, dtype=torch.float64)
    graphs = [to_graph(network.spec, {n: t[i] for n, t in theta.items()}) for i in range(3)]
    torch.testing.assert_close(net(batch_of(graphs)), net(theta))
    torch.testing.assert_close(net(graphs[1]), net(theta)[1:2])


def test_different_architectures_go_in_one_batch():
    torch.manual_seed(0)
    net = GraphMetanetwork(hidden=4, layers=2, heads=2).double().eval()
    graphs = [to_graph(n.spec, n.weights(dtype=torch.float64)) for n in MARKET]
    together = net(batch_of(graphs))
    assert together.shape == (len(MARKET), 1)
    torch.testing.assert_close(together, torch.cat([net(graph) for graph in graphs]))
    others = [
        to_graph(
            n.spec,
            Permutation.random(n.spec, torch.Generator().manual_seed(1))(
                n.weights(dtype=torch.float64)
            ),
        )
        for n in MARKET
    ]
    torch.testing.assert_close(net(batch_of(others)), together, rtol=0, atol=1e-10)


def test_what_a_graph_cannot_hold_is_refused():
    with pytest.raises(
        SpecError, match="w: has 3 permutable axes, but an edge of a graph joins two units"
    ):
        wiring(PermutationSpec.parse("h = 3\nw: h h h"))
    network = BY_NAME["mlp"]
    with pytest.raises(
        SpecError, match=r"to_graph takes one network, but the weights have batch axes \(2,\)"
    ):
        to_graph(network.spec, network.weights(2))
    with pytest.raises(SpecError, match="has no specification and reads graphs"):
        GraphMetanetwork(hidden=4)(network.weights(2))
    with pytest.raises(ValueError, match="hidden=4 is not a multiple of heads=3"):
        GraphMetanetwork(network.spec, hidden=4, heads=3)


def test_groups_of_odd_units_are_read_up_to_sign():
    assert_reads_up_to_sign(GraphMetanetwork, hidden=4)


def test_geometric_is_loaded_on_first_use():
    code = "import sys, wsl.nn; sys.exit('torch_geometric' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
