"""Canonical scales and phases: the same function, one form for each orbit, reached in one step,
whatever the order of units.
"""

import dataclasses

import pytest
import torch
from networks import BY_NAME, NETWORKS

from wsl.nn import InputNormalizer, StatNet
from wsl.params import call
from wsl.symmetry import (
    Permutation,
    PermutationSpec,
    Rescaling,
    SpecError,
    balanced_scales,
    canonical_phases,
    canonical_scales,
    symmetry_spec,
)

FORMS = {"scale": canonical_scales, "phase": canonical_phases}
KINDS = {
    n.name: {unit.kind for unit in symmetry_spec(n.make().eval(), n.inputs()).units}
    for n in NETWORKS
}
CASES = [(name, kind) for name, kinds in KINDS.items() for kind in FORMS if kind in kinds]
RELU = ["h1", "h2"]


def found(name, *kinds):
    """A network of the market, its specification with unit lines of some kinds, and weights in
    float64.
    """
    network = BY_NAME[name]
    spec = symmetry_spec(network.make().eval(), network.inputs())
    spec = dataclasses.replace(spec, units=tuple(unit for unit in spec.units if unit.kind in kinds))
    return network, spec, network.weights(2, dtype=torch.float64)


def assert_same(a, b, tolerance=1e-11):
    for name in b:
        torch.testing.assert_close(
            a[name], b[name], rtol=tolerance, atol=tolerance, msg=lambda m, n=name: f"{n}: {m}"
        )


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_canonical_forms_keep_the_function(name, kind):
    network, spec, theta = found(name, kind)
    model, x = network.make().double().eval(), network.inputs().double()
    moved = FORMS[kind](spec, theta)
    assert max((moved[n] - theta[n]).abs().max() for n in theta) > 1e-2
    for i in range(2):
        before, after = (call(model, {n: t[i] for n, t in w.items()}, x) for w in (theta, moved))
        torch.testing.assert_close(after, before, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_canonical_forms_are_constant_on_orbits(name, kind):
    _, spec, theta = found(name, kind)
    for seed in range(3):
        g = Rescaling.random(spec, torch.Generator().manual_seed(seed))
        assert_same(FORMS[kind](spec, g(theta)), FORMS[kind](spec, theta))


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_canonical_forms_are_reached_in_one_step(name, kind):
    _, spec, theta = found(name, kind)
    once = FORMS[kind](spec, theta)
    assert_same(FORMS[kind](spec, once), once)


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_canonical_forms_follow_permutations_and_signs(name, kind):
    _, spec, theta = found(name, kind, "sign")
    rng = torch.Generator().manual_seed(0)
    only = dataclasses.replace(
        spec, units=tuple(unit for unit in spec.units if unit.kind == "sign")
    )
    for g in (Permutation.random(spec, rng), Rescaling.random(only, rng)):
        assert_same(FORMS[kind](spec, g(theta)), g(FORMS[kind](spec, theta)))


def test_units_have_incoming_weights_of_size_one():
    spec, theta = BY_NAME["mlp"].spec, BY_NAME["mlp"].weights(2, dtype=torch.float64)
    moved = canonical_scales(spec, theta, RELU)
    for layer in ("0", "2"):
        rows = torch.cat([moved[f"{layer}.weight"], moved[f"{layer}.bias"].unsqueeze(-1)], -1)
        torch.testing.assert_close(rows.square().mean(-1), torch.ones_like(rows[..., 0]))
    assert torch.equal(canonical_scales(spec, theta, ["h2"])["0.weight"], theta["0.weight"])


@pytest.mark.parametrize("name", [name for name, kind in CASES if kind == "scale"])
def test_balanced_scales_keep_the_function_and_are_constant_on_orbits(name):
    network, spec, theta = found(name, "scale")
    model, x = network.make().double().eval(), network.inputs().double()
    moved = balanced_scales(spec, theta)
    for i in range(2):
        before, after = (call(model, {n: t[i] for n, t in w.items()}, x) for w in (theta, moved))
        torch.testing.assert_close(after, before, rtol=1e-9, atol=1e-9)
    g = Rescaling.random(spec, torch.Generator().manual_seed(0))
    assert_same(balanced_scales(spec, g(theta)), moved, 1e-5)
    assert_same(balanced_scales(spec, moved), moved, 1e-5)
    p = Permutation.random(spec, torch.Generator().manual_seed(1))
    assert_same(balanced_scales(spec, p(theta)), p(moved), 1e-5)


def test_balanced_weights_are_the_smallest_of_all_that_do_the_same():
    _, spec, theta = found("mlp", "scale")
    moved = balanced_scales(spec, theta)
    for first, second in (("0", "2"), ("2", "4")):
        own = [moved[f"{first}.weight"], moved[f"{first}.bias"].unsqueeze(-1)]
        into = torch.cat(own, -1).norm(dim=-1)
        torch.testing.assert_close(into, moved[f"{second}.weight"].norm(dim=1), rtol=1e-5, atol=0)

    def size(weights):
        return sum(t.flatten(1).square().sum(1) for t in weights.values())

    assert (size(moved) < size(theta)).all()
    for seed in range(3):
        g = Rescaling.random(spec, torch.Generator().manual_seed(seed))
        assert (size(g(moved)) > size(moved)).all()


def test_a_unit_that_nothing_reads_or_feeds_keeps_its_canonical_scale():
    _, spec, theta = found("mlp", "scale")
    theta["2.weight"][..., 1] = 0
    moved, canonical = balanced_scales(spec, theta), canonical_scales(spec, theta)
    assert torch.equal(moved["0.weight"][:, 1], canonical["0.weight"][:, 1])


def test_named_groups_and_found_lines_are_the_same():
    _, spec, theta = found("mlp", "scale")
    assert_same(canonical_scales(spec, theta), canonical_scales(BY_NAME["mlp"].spec, theta, RELU))
    _, spec, theta = found("siren", "phase")
    assert_same(
        canonical_phases(spec, theta),
        canonical_phases(BY_NAME["siren"].spec, theta, dict.fromkeys(RELU, 30.0)),
    )
    assert_same(canonical_phases(spec, theta, {}), theta)


def test_biases_end_within_a_quarter_turn():
    _, spec, theta = found("siren", "phase")
    moved = canonical_phases(spec, theta)
    assert max(moved[f"layers.{i}.bias"].abs().max() for i in (0, 1)) <= torch.pi / 60
    small = {n: 0.05 * t.clamp(-1, 1) for n, t in theta.items()}
    assert_same(canonical_phases(spec, small), small, 0.0)


def test_a_frequency_absorbed_into_the_weights_is_one():
    network, _, theta = found("siren", "phase")
    absorbed = {n: t * (30 if n[7] in "01" else 1) for n, t in theta.items()}
    moved = canonical_phases(network.spec, absorbed, dict.fromkeys(RELU, 1.0))
    expected = canonical_phases(network.spec, theta, dict.fromkeys(RELU, 30.0))
    assert_same({n: t / (30 if n[7] in "01" else 1) for n, t in moved.items()}, expected)


@pytest.mark.parametrize("size", [1e-18, 1e18])
def test_scales_of_any_size_are_read_in_single_precision(size):
    spec, theta = BY_NAME["mlp"].spec, BY_NAME["mlp"].weights(2)
    moved = {
        **theta,
        "0.weight": theta["0.weight"] * size,
        "0.bias": theta["0.bias"] * size,
        "2.weight": theta["2.weight"] / size,
    }
    assert_same(canonical_scales(spec, moved, RELU), canonical_scales(spec, theta, RELU), 1e-4)


def test_what_reads_a_dead_unit_becomes_zero_and_the_function_stays():
    network, spec, theta = found("mlp", "scale")
    for name in ("0.weight", "0.bias"):
        theta[name][:, 2] = 0
    moved = canonical_scales(spec, theta)
    assert not moved["2.weight"][..., 2].any()
    model, x = network.make().double(), network.inputs().double()
    for i in range(2):
        before, after = (call(model, {n: t[i] for n, t in w.items()}, x) for w in (theta, moved))
        torch.testing.assert_close(after, before)


def test_what_cannot_be_made_canonical_is_named():
    spec = PermutationSpec.parse("a = 2, b = 3\nw: a b\nscale a: w[0]\nscale b: w[1]")
    with pytest.raises(SpecError, match="scale a: other scales act wherever it does"):
        canonical_scales(spec, {"w": torch.ones(1, 2, 3)})
    with pytest.raises(SpecError, match="scale of group 'h9': there is no such group"):
        canonical_scales(BY_NAME["mlp"].spec, BY_NAME["mlp"].weights(1), ["h9"])
    with pytest.raises(SpecError, match="no tensor has it as its only axis"):
        canonical_phases(
            BY_NAME["mlp_without_bias"].spec, BY_NAME["mlp_without_bias"].weights(1), {"h1": 30.0}
        )


def test_functionals_read_what_a_normaliser_has_made_canonical():
    network, spec, theta = found("mlp", "scale")
    net = StatNet(network.spec).double().eval()
    moved = Rescaling.random(spec, torch.Generator().manual_seed(0))(theta)
    assert not torch.allclose(net(moved), net(theta))
    net.normalizer = InputNormalizer(network.spec, positive=RELU).double()
    torch.testing.assert_close(net(moved), net(theta))
    network, spec, theta = found("siren", "phase", "sign")
    net = StatNet(network.spec).double().eval()
    net.normalizer = InputNormalizer(
        network.spec, odd=RELU, phases=dict.fromkeys(RELU, 30.0)
    ).double()
    moved = Rescaling.random(spec, torch.Generator().manual_seed(0))(theta)
    torch.testing.assert_close(net(moved), net(theta))


def test_a_fitted_normaliser_of_scales_standardises_canonical_weights():
    rng = torch.Generator().manual_seed(0)
    spec = PermutationSpec.parse("h1 = 32\na: h1 8\nb: h1\nc: 3 h1\nd: 3")
    theta = {n: 0.3 * torch.randn(200, *shape, generator=rng) for n, shape in spec.shapes.items()}
    normalizer = InputNormalizer(spec, positive=["h1"]).fit(
        {n: (t.mean(), t.std()) for n, t in theta.items()}
    )
    for name, tensor in normalizer(theta).items():
        assert tensor.std() == pytest.approx(1, abs=0.2), name
