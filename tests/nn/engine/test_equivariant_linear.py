"""`EquivariantLinear` is equivariant, complete, without redundancy, and equal to a slow literal sum
over the basis.
"""

import math

import pytest
import torch
from networks import BY_NAME, NETWORKS
from test_basis import TINY, mlp_spec

from wsl.nn import EquivariantLinear, layer_dimension
from wsl.nn.engine.basis import Space, join
from wsl.nn.engine.linear import BlockLinear
from wsl.symmetry import Permutation, PermutationSpec, SpecError
from wsl.testing import act, assert_equivariant, layer_rank

MARKET = [
    pytest.param(n, fixed, id=f"{n.name}-{fixed}")
    for n in NETWORKS
    for fixed in ("exact", "encoded")
]
DTYPES = [("exact", torch.float32), ("exact", torch.float64), ("encoded", torch.float32)]


def features(spec, channels, *, batch=3, dtype=torch.float64, seed=0):
    rng = torch.Generator().manual_seed(seed)
    return {
        n: torch.randn((batch, *shape, channels), generator=rng, dtype=dtype)
        for n, shape in spec.shapes.items()
    }


def random_layer(spec, *channels, dtype=torch.float64, **kwargs):
    layer = EquivariantLinear(spec, *channels, **kwargs).to(dtype)
    rng = torch.Generator().manual_seed(1)
    for weight in layer.parameters():
        weight.data = torch.randn(weight.shape, generator=rng, dtype=dtype) / 8
    return layer


@pytest.mark.parametrize(("fixed", "dtype"), DTYPES, ids=str)
@pytest.mark.parametrize("network", NETWORKS, ids=lambda n: n.name)
def test_every_layer_of_the_market_is_equivariant(network, fixed, dtype):
    layer = random_layer(network.spec, 2, 3, fixed=fixed, dtype=dtype)
    assert_equivariant(layer, network.spec, features(network.spec, 2, dtype=dtype))


@pytest.mark.parametrize("network", NETWORKS, ids=lambda n: n.name)
def test_a_layer_is_not_equivariant_when_one_occurrence_moves_alone(network):
    spec, layer, x = network.spec, random_layer(network.spec, 1, 1), features(network.spec, 1)
    alone = next(
        next(spec.occurrences(g)) for g in spec.groups if len(list(spec.occurrences(g))) > 1
    )
    index = torch.randperm(
        x[alone.tensor].shape[1 + alone.axis], generator=torch.Generator().manual_seed(0)
    )

    def move(params):
        return {**params, alone.tensor: params[alone.tensor].index_select(1 + alone.axis, index)}

    found, expected = layer(move(x)), move(layer(x))
    assert max((found[name] - expected[name]).abs().max() for name in x) > 1e-2


@pytest.mark.parametrize(
    "text", [*TINY.values(), str(mlp_spec(2, 3, 3)), str(mlp_spec(2, 3, 3, 2, 2, 2))]
)
def test_rank_is_the_theoretical_dimension_and_no_weight_is_redundant(text):
    spec = PermutationSpec.parse(text)
    layer = random_layer(spec, 1, 1)
    weights = sum(p.numel() for p in layer.parameters())
    assert layer_rank(layer, features(spec, 1, batch=1)) == weights == sum(layer_dimension(spec))


RANKS = {
    "convolution with fixed kernel": ("c = 3, h = 2\na: c 1 2 1\nb: h c 1 2\nd: 2 h", None),
    "residual": ("c = 3, h = 2\na: c 2\nu: h c\nd: c h\ne: 2 c", None),
    "tied square": ("h = 4\nw: h h", 15),
    "tied square of three": ("h = 3\nw: h h", 14),
    "tied square of two": ("h = 2\nw: h h", 8),
    "one hidden layer, two outputs": (str(mlp_spec(3, 4, 2)), 100),
    "two hidden layers, one output": (str(mlp_spec(2, 3, 4, 1)), 75),
    "three hidden layers, two outputs": (str(mlp_spec(2, 4, 3, 4, 2)), 164),
}


@pytest.mark.parametrize(("text", "linear"), RANKS.values(), ids=RANKS.keys())
def test_rank_of_the_linear_part(text, linear):
    spec = PermutationSpec.parse(text)
    rank = layer_rank(random_layer(spec, 1, 1, bias=False), features(spec, 1, batch=1))
    assert rank == layer_dimension(spec, bias=False)[0]
    assert linear in (None, rank)


def literal(layer: BlockLinear, spaces: tuple[Space, ...], inputs):
    """Sum over basis elements: each a dense 0/1 tensor of the joined axes, divided by the sizes of
    the parts averaged over.
    """
    outputs = [
        torch.zeros(*(a.size for a in space), *x.shape[-2:-1], 0)
        for space, x in zip(spaces, inputs, strict=True)
    ]
    totals = [0.0] * len(outputs)
    trees = terms_of(spaces)
    for lane in layer.lanes:
        matrix, row = lane.matrix(), 0
        for o, out in enumerate(lane.lane.outputs):
            column = 0
            for enter in lane.lane.inputs:
                weight = matrix[
                    row : row + lane.widths[o], column : column + inputs[enter.block].shape[-1]
                ]
                column += inputs[enter.block].shape[-1]
                basis = dense(spaces, trees, enter, out)
                totals[out.block] = totals[out.block] + term(basis, inputs[enter.block], weight)
            if lane.bias is not None:
                bias = lane.bias[row : row + lane.widths[o]]
                constant = dense(spaces, trees, None, out)[..., None, None] * bias
                totals[out.block] = totals[out.block] + constant
            row += lane.widths[o]
    return totals


def terms_of(spaces):
    """The reduction that each node of a tree stands for, replayed from its steps."""
    from wsl.nn.engine.plan import compile_plan

    found = []
    for tree in compile_plan(spaces, spaces).inputs:
        nodes = [([[i] for i in range(len(tree.shapes[0]))], [])]
        for step in tree.steps[1:]:
            kept, gone = (
                [list(p) for p in nodes[step.source][0]],
                [list(p) for p in nodes[step.source][1]],
            )
            if len(step.dims) == 1:
                gone.append(kept.pop(step.dims[0]))
            else:
                kept[step.dims[0]] += kept.pop(step.dims[1])
            nodes.append((kept, gone))
        found.append(nodes)
    return found


def dense(spaces, nodes, enter, out):
    """1 / (sizes averaged over) where the joined index is constant on every part, else 0; axes of
    the input come first.
    """
    source = spaces[enter.block] if enter else ()
    joined, shift = join(source, spaces[out.block]), len(source)
    kept_in, gone_in = nodes[enter.block][enter.node] if enter else ([], [])
    kept_out, gone_out = nodes[out.block][out.node]
    through = [
        kept_in[i] + [a + shift for a in kept_out[o]]
        for i, o in zip(enter.order if enter else [], out.order, strict=True)
    ]
    parts = through + gone_in + [[a + shift for a in part] for part in gone_out]
    index = torch.meshgrid(*[torch.arange(a.size) for a in joined], indexing="ij") if joined else ()
    indicator = torch.ones([a.size for a in joined], dtype=torch.float64)
    for part in parts:
        for axis in part[1:]:
            indicator *= index[part[0]] == index[axis]
    return indicator / math.prod(joined[part[0]].size for part in gone_in)


def term(basis, x, weight):
    count = x.dim() - 2
    y = torch.tensordot(basis, x, dims=(list(range(count)), list(range(count))))
    return y @ weight.T


@pytest.mark.parametrize("text", [*TINY.values(), BY_NAME["siren"].text], ids=[*TINY, "siren"])
def test_fast_path_equals_the_literal_sum_over_the_basis(text):
    spec = PermutationSpec.parse(text)
    layer, x = random_layer(spec, 2, 3), features(spec, 2, batch=2)
    pieces = layer.layout.split(x)
    slow = literal(layer.map, layer.layout.spaces, pieces)
    for name, tensor in layer(x).items():
        torch.testing.assert_close(layer.layout.join(slow)[name], tensor, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kernel", ["1 2", "2 3", "2 2 2"])
def test_folded_kernels_equal_the_literal_sum_over_the_basis(kernel):
    spec = PermutationSpec.parse(f"c = 3, h = 2\na: c 1 {kernel}\nu: c\nb: h c {kernel}\nd: 2 h")
    layer, x = random_layer(spec, 2, 3, fixed="encoded"), features(spec, 2, batch=2)
    assert len(layer.map.folds) == (0 if kernel == "1 2" else 2)
    pieces = layer.layout.split(x)
    for fast, slow in zip(
        layer.map(pieces), literal(layer.map, layer.layout.spaces, pieces), strict=True
    ):
        torch.testing.assert_close(fast, slow, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("network", NETWORKS, ids=lambda n: n.name)
def test_blocks_join_back_bit_for_bit(network):
    x = features(network.spec, 2)
    layout = EquivariantLinear(network.spec, 1, 1).layout
    back = layout.join(layout.split(x))
    assert list(back) == list(x)
    assert all(torch.equal(back[name], tensor) for name, tensor in x.items())


@pytest.mark.parametrize(("network", "fixed"), MARKET)
def test_fresh_layers_keep_activations_of_order_one(network, fixed):
    torch.manual_seed(0)
    x = features(network.spec, 8, dtype=torch.float32)
    for _ in range(3):
        x = EquivariantLinear(network.spec, 8, 8, fixed=fixed)(x)
        x = {name: 1.5 * torch.relu(tensor) for name, tensor in x.items()}
    scale = torch.cat([tensor.flatten() for tensor in x.values()]).square().mean().sqrt().item()
    assert 0.03 < scale < 3


def test_encoded_layers_tell_positions_apart():
    spec = BY_NAME["mlp"].spec
    layer = EquivariantLinear(spec, 1, 1, fixed="encoded").double()
    y = layer({name: torch.zeros_like(t) for name, t in features(spec, 1).items()})["4.bias"]
    assert y[0, :, 0].unique().numel() == 4


def test_encoded_layers_need_far_fewer_weights():
    spec = mlp_spec(784, 128, 128, 10)
    layer = EquivariantLinear(spec, 1, 1, fixed="encoded")
    assert sum(p.numel() for p in layer.map.parameters()) == 62 + 6


def test_gradients_are_those_of_finite_differences():
    spec = PermutationSpec.parse("h = 3, g = 2\nw: h h\nv: g h 2\nb: 2 h")
    layer, x = random_layer(spec, 1, 2), features(spec, 1, batch=1)
    tensors = [x[name].requires_grad_() for name in spec.axes]
    weights = list(layer.parameters())

    def run(*given):
        for weight, value in zip(weights, given[len(tensors) :], strict=True):
            assert weight is value
        return tuple(layer(dict(zip(spec.axes, given, strict=False))).values())

    assert torch.autograd.gradcheck(run, (*tensors, *weights))


def test_wrong_input_is_one_clear_error():
    spec = BY_NAME["mlp"].spec
    layer = EquivariantLinear(spec, 2, 3)
    with pytest.raises(
        SpecError, match=r"0\.weight: has 4 channels on its last axis, but the layer takes 2"
    ):
        layer(features(spec, 4))
    with pytest.raises(
        SpecError, match=r"must be \(batch, \*axes, channels\), but they have 0 batch axes"
    ):
        layer({name: t[0] for name, t in features(spec, 2).items()})
    with pytest.raises(ValueError, match="fixed='sometimes': it must be 'exact' or 'encoded'"):
        EquivariantLinear(spec, 2, 3, fixed="sometimes")


def test_the_action_on_channels_is_the_action_on_each_channel():
    spec = BY_NAME["cnn"].spec
    g, x = Permutation.random(spec, torch.Generator().manual_seed(3)), features(spec, 2)
    moved = act(g, x)
    assert all(
        torch.equal(moved[name][..., 1], t)
        for name, t in g({n: v[..., 1] for n, v in x.items()}).items()
    )
