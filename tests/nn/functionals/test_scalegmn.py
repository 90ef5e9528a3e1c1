"""`ScaleGMN`: blind to permutations, signs, scales and phases of units, and to nothing that is no
symmetry.
"""

import dataclasses
import functools
import math

import pytest
import torch
from functionals import (
    DTYPES,
    MARKET,
    assert_compiles,
    assert_reads_and_is_invariant,
    assert_sees_one_alone,
    assert_trains_and_casts,
    build,
)
from networks import BY_NAME

from wsl.nn import ScaleGMN
from wsl.nn.functionals.nodes import NodeBlocks, Slot
from wsl.symmetry import (
    Permutation,
    PermutationSpec,
    Rescaling,
    SpecError,
    SymmetryElement,
    symmetry_spec,
)
from wsl.testing import TOLERANCE

LINES = [network for network in MARKET if network.name != "gru"]
"""Networks whose units have more than permutations."""
MIXED = """
    h1 = 5, h2 = 6, h3 = 7
    0.weight: h1 3
    0.bias: h1
    2.weight: h2 h1
    2.bias: h2
    4.weight: h3 h2
    4.bias: h3
    6.weight: 2 h3
    6.bias: 2"""
CHAIN = dataclasses.replace(BY_NAME["mlp"], name="chain", text=MIXED)


def maker(**kwargs):
    return lambda network: ScaleGMN(
        network.spec, **{"hidden": 4, "layers": 2, "out_features": 3, **kwargs}
    )


@functools.cache
def found_spec(network):
    """The specification with all that discovery finds of units."""
    return symmetry_spec(network.make().eval(), network.inputs())


def chain(dtype=torch.float64, seed=0):
    rng = torch.Generator().manual_seed(seed)
    return {
        n: torch.randn(2, *shape, generator=rng, dtype=dtype)
        for n, shape in CHAIN.spec.shapes.items()
    }


def error(net, theta, moved):
    expected = net(theta)
    return ((net(moved) - expected).abs().max() / expected.abs().max().clamp(min=1)).item()


def together(members):
    """Weights (1, *shape) as members of one batch."""
    return {n: torch.cat([theta[n] for theta in members]) for n in members[0]}


def scaled(theta, s, *, into="2", out="4"):
    """Units of a layer times s, what reads them divided by it."""
    moved = {
        f"{into}.weight": theta[f"{into}.weight"] * s[:, None],
        f"{into}.bias": theta[f"{into}.bias"] * s,
        f"{out}.weight": theta[f"{out}.weight"] / s,
    }
    return {**theta, **moved}


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("network", MARKET, ids=lambda n: n.name)
def test_permutations_are_not_seen_over_the_market(network, dtype, bidirectional):
    assert_reads_and_is_invariant(maker(bidirectional=bidirectional), network, dtype)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("network", MARKET, ids=lambda n: n.name)
def test_it_sees_when_one_occurrence_moves_alone(network, bidirectional):
    assert_sees_one_alone(maker(bidirectional=bidirectional), network)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("network", LINES, ids=lambda n: n.name)
def test_what_discovery_finds_of_units_is_not_seen_either(network, dtype, bidirectional):
    """The claim `invariant_units`, with the unit lines of the specification alone: batch norms,
    attention, sines.
    """
    spec, theta = found_spec(network), network.weights(2, dtype=dtype)
    net = build(
        lambda _: maker(bidirectional=bidirectional)(dataclasses.replace(network, text=str(spec))),
        network,
        dtype,
    )
    assert {unit.kind for unit in spec.units} - {"linear"} <= set(net.invariant_units)
    rng = torch.Generator().manual_seed(0)
    exact = {n: t[:1].double() if t.is_floating_point() else t[:1] for n, t in theta.items()}
    moved = together([exact, *(SymmetryElement.random(spec, rng)(exact) for _ in range(3))])
    outputs = net({n: t.to(theta[n].dtype) for n, t in moved.items()})
    assert (outputs - outputs[:1]).abs().max() < 5 * TOLERANCE[dtype]
    assert (outputs[0] - net(theta)[1]).abs().max() > 1e-6


@pytest.mark.parametrize("network", LINES, ids=lambda n: n.name)
def test_a_rescaling_that_leaves_out_one_place_is_seen(network):
    """Every unit symmetry, on its first place alone, is in general another function."""
    spec, theta = found_spec(network), network.weights(1, dtype=torch.float64)
    net = build(lambda _: ScaleGMN(spec, hidden=4, layers=2, out_features=3), network)
    acting = [unit for unit in spec.units if unit.kind != "linear"]
    wrong = []
    for i, unit in enumerate(acting):
        values = list(Rescaling.identity(spec).values)
        values[i] = torch.full_like(values[i], {"scale": 2, "sign": -1, "phase": 1}[unit.kind])
        place = unit.places[0].tensor
        wrong.append({**theta, place: Rescaling(spec, tuple(values))(theta)[place]})
    seen = (net(together(wrong)) - net(theta)).abs().amax(1)
    assert [unit.head for unit, change in zip(acting, seen, strict=True) if change < 1e-7] == []


@pytest.mark.parametrize("bidirectional", [False, True])
def test_mixed_networks_need_only_the_names_of_their_groups(bidirectional):
    net = build(maker(odd=["h1"], positive=["h2"], bidirectional=bidirectional), CHAIN)
    theta, s = chain(), torch.tensor([-1.0, 1, -1, 1, -1], dtype=torch.float64)
    q = torch.logspace(-3, 3, 6, dtype=torch.float64)
    assert error(net, theta, scaled(theta, s, into="0", out="2")) < 1e-12
    assert error(net, theta, scaled(theta, q)) < 1e-12
    assert error(net, theta, scaled(scaled(theta, q), s, into="0", out="2")) < 1e-12
    assert error(net, theta, scaled(theta, q[:5], into="0", out="2")) > 1e-3
    assert error(net, theta, scaled(theta, -torch.ones(6))) > 1e-3
    assert error(net, theta, scaled(theta, torch.tensor([2.0] * 7), into="4", out="6")) > 1e-3


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_backward_messages_keep_scales_from_a_thousandth_to_a_thousand(dtype, tolerance):
    net = build(maker(positive=["h1", "h2", "h3"], bidirectional=True, layers=3), CHAIN, dtype)
    theta, rng = chain(dtype), torch.Generator().manual_seed(0)
    for _ in range(5):
        moved = theta
        for into, out, size in (("0", "2", 5), ("2", "4", 6), ("4", "6", 7)):
            moved = scaled(
                moved,
                (10 ** (6 * torch.rand(size, generator=rng, dtype=torch.float64) - 3)).to(dtype),
                into=into,
                out=out,
            )
        assert error(net, theta, moved) < tolerance


def test_messages_go_backward_only_if_asked():
    """Without, hidden units do not see who reads them before the last reading: fewer weights."""
    counts = [
        sum(p.numel() for p in maker(bidirectional=b)(CHAIN).messages.parameters())
        for b in (False, True)
    ]
    assert counts[1] == 2 * counts[0] > 0


@pytest.mark.parametrize(
    "groups", [{}, {"odd": ["h1", "h2", "h3"]}, {"positive": ["h1", "h2", "h3"]}]
)
def test_gradients_are_finite_at_zero_weights(groups):
    net = build(maker(**groups), CHAIN)
    theta = {n: torch.zeros_like(t).requires_grad_() for n, t in chain().items()}
    net(theta).sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in net.parameters())
    assert all(t.grad is None or t.grad.isfinite().all() for t in theta.values())


def test_dead_units_have_no_scale():
    """A unit with zero incoming weights is zero for every input; what reads it is not seen."""
    net = build(maker(positive=["h2"]), CHAIN)
    theta = chain()
    for name in ("2.weight", "2.bias"):
        theta[name][:, 0] = 0
    wider = theta["4.weight"].clone()
    wider[..., 0] *= 7
    assert error(net, theta, {**theta, "4.weight": wider}) < 1e-12


def test_phases_by_name_are_those_of_the_specification():
    network = BY_NAME["siren"]
    net = build(maker(odd=["h1", "h2"], phases={"h1": 30.0, "h2": 30.0}), network)
    assert set(net.units.units) == set(found_spec(network).units)
    theta, spec = network.weights(2, dtype=torch.float64), found_spec(network)
    for seed in range(3):
        assert (
            error(net, theta, Rescaling.random(spec, torch.Generator().manual_seed(seed))(theta))
            < 1e-10
        )


@pytest.mark.parametrize("groups", [{}, {"odd": ["c1", "c2"]}, {"positive": ["c1", "c2", "h1"]}])
def test_it_trains(groups):
    network = BY_NAME["cnn"]
    assert_trains_and_casts(maker(**groups), network)


@pytest.mark.parametrize("name", ["siren", "attention"])
def test_it_compiles_to_one_graph(name):
    assert_compiles(maker(odd=["h1"]), BY_NAME[name])


def test_a_fitted_normaliser_keeps_every_symmetry():
    net, theta = build(maker(odd=["h1"], positive=["h2"]), CHAIN), chain()
    net.normalizer.fit({n: (t.mean() + 1, t.std()) for n, t in theta.items()})
    q = torch.logspace(-3, 3, 6, dtype=torch.float64)
    assert error(net, theta, scaled(theta, q)) < 1e-12
    assert error(net, theta, scaled(theta, -torch.ones(5), into="0", out="2")) < 1e-12


def test_the_normaliser_brings_canonical_weights_to_size_one():
    rng = torch.Generator().manual_seed(0)
    spec = PermutationSpec.parse("h1 = 32, h2 = 32\na: h1 8\nb: h1\nc: h2 h1\nd: h2\ne: 3 h2\nf: 3")
    size = {"a": 8**-0.5, "c": 32**-0.5, "e": 32**-0.5}
    theta = {
        n: size.get(n, 0.1) * torch.randn(200, *shape, generator=rng)
        for n, shape in spec.shapes.items()
    }
    net = ScaleGMN(spec, hidden=4, positive=["h1", "h2"])
    x = net.normalizer.fit({n: (t.mean(), t.std()) for n, t in theta.items()})(theta)
    for name, tensor in x.items():
        assert tensor.square().mean().sqrt() == pytest.approx(1, abs=0.35), name


def test_many_fixed_positions_are_mixed_down():
    """Inputs and kernels cost their number once, not for each feature of a message."""
    spec = PermutationSpec.parse("h1 = 4, h2 = 5\na: h1 784\nb: h2 h1 7 7\nc: 3 h2")
    net = ScaleGMN(spec, hidden=8, layers=1)
    assert sum(p.numel() for p in net.messages.parameters()) == 49 * 9 + 2 * 9 * 64
    assert net({n: torch.randn(2, *shape) for n, shape in spec.shapes.items()}).shape == (2, 1)


def test_slots_are_groups_with_the_parities_of_their_places():
    spec = found_spec(BY_NAME["residual"])
    blocks = NodeBlocks(spec)
    assert blocks.slots == (Slot("c2", (0,)), Slot("c1", (0,)))
    assert NodeBlocks(spec.without_units()).slots == (Slot("c1", ()), Slot("c2", ()))
    assert NodeBlocks(BY_NAME["attention"].spec).sizes == [8, 2, 8, 8]


def test_a_tied_square_has_its_diagonal_at_its_units():
    blocks = NodeBlocks(found_spec(BY_NAME["tied"]))
    theta = BY_NAME["tied"].weights(2)
    (place,) = [i for i, piece in enumerate(blocks.pieces) if piece.diagonal]
    assert blocks.pieces[place].ends == (Slot("h1", ()),)
    assert torch.equal(
        blocks.split(theta)[place][..., 0], theta["mix.weight"].diagonal(dim1=1, dim2=2)
    )


def test_it_learns_the_output_of_a_sine_network_at_a_point():
    """f(0) = W_2 sin(b_1) + b_2 of units in random order and sign: what a graph network that sees
    signs cannot average.
    """
    spec = PermutationSpec.parse("h = 6\na: h 2\nb: h\nc: 1 h\nd: 1")
    rng = torch.Generator().manual_seed(0)
    theta = {n: torch.randn(768, *shape, generator=rng) for n, shape in spec.shapes.items()}
    target = (theta["c"][:, 0] * theta["b"].sin()).sum(1, keepdim=True) / math.sqrt(6)
    torch.manual_seed(0)
    net = ScaleGMN(spec, hidden=16, layers=1, odd=["h"])
    optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
    for step in range(60):
        rows = torch.randperm(512, generator=torch.Generator().manual_seed(step))[:128]
        loss = (net({n: t[rows] for n, t in theta.items()}) - target[rows]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    held_out = {n: t[512:] for n, t in theta.items()}
    assert (net.eval()(held_out) - target[512:]).square().mean() / target[512:].var() < 0.2


def test_what_it_cannot_read_is_refused():
    with pytest.raises(
        SpecError,
        match="w: has 3 permutable axes, but a message goes from one row of units to another",
    ):
        ScaleGMN(PermutationSpec.parse("h = 3\nw: h h h"))
    with pytest.raises(
        SpecError, match="sign of group 'h9': there is no such group; the groups are"
    ):
        maker(odd=["h9"])(CHAIN)
    with pytest.raises(SpecError, match="sign g: signs of a single unit are not supported"):
        ScaleGMN(PermutationSpec.parse("g = 1, h = 2\na: g h\nb: g"), odd=["g"])
    with pytest.raises(
        SpecError, match="sign head1: signs of units that a family hangs on are not supported"
    ):
        maker(odd=["head1"])(BY_NAME["attention"])
    with pytest.raises(SpecError, match=r"2\.bias: axis 0 has size 9"):
        maker()(CHAIN)({**chain(torch.float32), "2.bias": torch.zeros(2, 9)})


def test_the_order_of_units_is_not_seen_with_signs_and_scales_at_once():
    net, theta = build(maker(odd=["h1", "h3"], positive=["h2"]), CHAIN), chain()
    element = SymmetryElement(
        Permutation.random(net.units, torch.Generator().manual_seed(1)),
        Rescaling.random(net.units, torch.Generator().manual_seed(2)),
    )
    assert error(net, theta, element(theta)) < 1e-12
