"""Repair without data: exact where inputs are normal and layers linear, and laws over the market
of networks.
"""

import math

import pytest
import torch
from networks import BY_NAME, NETWORKS
from torch import nn
from torch.nn import functional as F

from wsl import params
from wsl.connectivity import repair, repair_closed_form, repair_on_noise
from wsl.connectivity.repairs import noise_like
from wsl.connectivity.repairs.moments import Uncertain
from wsl.connectivity.repairs.nonlinear import as_uncertain, larger
from wsl.connectivity.repairs.program import program_of
from wsl.connectivity.repairs.uncertain import known_after
from wsl.merging import average
from wsl.symmetry import Permutation

each_network = pytest.mark.parametrize(
    "network", [*NETWORKS, BY_NAME["transformer"]], ids=lambda n: n.name
)
each_way = pytest.mark.parametrize("mend", [repair_closed_form, repair_on_noise])


RNN = "no rule says how gru writes its units"


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def close(a, b, atol=1e-8):
    return a.keys() == b.keys() and all(torch.allclose(a[n], b[n], atol=atol) for n in a)


def trio(network):
    """Members that are alike, in double precision."""
    common = network.weights(seed=9, dtype=torch.float64)
    own = [network.weights(seed=i, dtype=torch.float64) for i in range(3)]
    return [
        {n: t + 0.5 * each[n] if t.is_floating_point() else t for n, t in common.items()}
        for each in own
    ]


def of_module(model, seed):
    """Random weights."""
    return {
        n: draw(*t.shape, seed=seed * 100 + i) if t.is_floating_point() else t
        for i, (n, t) in enumerate(model.state_dict().items())
    }


@each_network
@each_way
def test_a_network_that_is_its_own_only_member_stays_as_it_is(network, mend):
    model, theta = network.make().double(), trio(network)[0]
    theta = {n: t.abs() if "running_var" in n else t for n, t in theta.items()}
    found = mend(model, theta, [theta], example=network.inputs(2).double())
    assert close(found.params, theta)


@each_network
@each_way
def test_it_commutes_with_the_group(network, mend):
    model, given, x = network.make().double(), trio(network), network.inputs(2).double()
    given = [{n: t.abs() if "running_var" in n else t for n, t in m.items()} for m in given]
    g = Permutation.random(network.spec, torch.Generator().manual_seed(3))
    moved = [g(member) for member in given]
    plain = mend(model, average(given), given, example=x)
    assert close(mend(model, average(moved), moved, example=x).params, g(plain.params))
    changed = not close(plain.params, average(given))
    repaired = [site for site in plain.sites if "output" not in site.reason and site.reason != RNN]
    assert changed == bool(repaired)


def test_rows_of_a_first_layer_get_the_mean_length_of_its_members_exactly():
    model = nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 2)).double()
    given = [of_module(model, seed) for seed in (1, 2)]
    merged = average(given)
    found = repair_closed_form(
        model, merged, given, example=torch.randn(2, 5).double(), weights=[1, 3]
    ).params
    lengths = [each["0.weight"].norm(dim=1) for each in given]
    torch.testing.assert_close(found["0.weight"].norm(dim=1), lengths[0] / 4 + 3 * lengths[1] / 4)
    torch.testing.assert_close(found["0.bias"], given[0]["0.bias"] / 4 + 3 * given[1]["0.bias"] / 4)
    cosine = F.cosine_similarity(found["0.weight"], merged["0.weight"])
    torch.testing.assert_close(cosine, torch.ones_like(cosine))
    assert torch.equal(found["2.weight"], merged["2.weight"])


def test_the_running_variance_is_that_of_rows_by_their_cosines_exactly():
    model = nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6, eps=0), nn.ReLU(), nn.Linear(6, 2))
    model = model.double()
    given = [of_module(model, seed) for seed in (1, 2)]
    for member in given:  # what normal inputs give
        member["1.running_mean"] = member["0.bias"].clone()
        member["1.running_var"] = member["0.weight"].square().sum(1)
    merged = average(given)
    found = repair_closed_form(model, merged, given, example=torch.randn(2, 5).double()).params
    rho = F.cosine_similarity(given[0]["0.weight"], given[1]["0.weight"])
    a, b = (member["1.running_var"].sqrt() for member in given)
    expected = (a**2 + b**2 + 2 * rho * a * b) / 4
    torch.testing.assert_close(found["1.running_var"], expected)
    torch.testing.assert_close(
        found["1.running_mean"], (given[0]["0.bias"] + given[1]["0.bias"]) / 2
    )
    assert not torch.allclose(merged["1.running_var"], expected)


class Many(nn.Module):
    """Operations with a rule, each on the inputs."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 3, 3, padding=1)
        self.up = nn.ConvTranspose2d(2, 3, 2, stride=2)
        self.norm = nn.LayerNorm(8)
        self.free = nn.Parameter(torch.randn(8, 5))

    def forward(self, x):
        y = x * 1.5 - 0.3
        parts = [y.relu(), y.tanh(), F.gelu(y), F.leaky_relu(y), y.sigmoid(), (y / 4).exp()]
        halves = y.chunk(2, 1)
        return [
            *(self.conv(y), self.up(y), y @ self.free, F.max_pool2d(x, 2), F.avg_pool2d(y, 2)),
            *(F.adaptive_avg_pool2d(y, 1), y.mean((2, 3)), torch.cat(halves[::-1], 1)),
            *(halves[0] * halves[1], halves[0] + 2 * halves[1], F.pad(y, [1, 0], value=2.0)),
            *(y.flatten(1), y.transpose(1, 2), *parts),
        ]


def test_the_rules_are_the_moments_of_normal_inputs():
    """Each operation on many normal inputs, and its rule."""
    torch.manual_seed(0)
    model, x = Many().double(), draw(15000, 2, 4, 8)
    program = program_of(model, x)
    state, known, real = model.state_dict(), {}, {}
    for node, name in program.weights.items():
        known[node] = real[node] = state[name]
    for node in program.inputs:
        known[node], real[node] = Uncertain.standard((1, 2, 4, 8)), x
    seen = set()
    for node in program.operations:
        args = torch.fx.node.map_arg(node.args, known.__getitem__)
        kwargs = torch.fx.node.map_arg(node.kwargs, known.__getitem__)
        if "flatten" in str(node.target) and not any(isinstance(a, Uncertain) for a in args):
            continue
        known[node] = known_after(node, args, kwargs)
        with torch.no_grad():
            real[node] = node.target(*torch.fx.node.map_arg(node.args, real.__getitem__))
        if isinstance(known[node], Uncertain):
            mean, variance = known[node].mean, known[node].variance
            error = (real[node].mean(0) - mean[0]).abs() / (variance[0] + 1e-3).sqrt()
            assert error.max() < 0.04, node
            ratio = real[node].var(0) / variance[0].clamp(min=1e-12)
            assert (ratio - 1)[variance[0] > 1e-9].abs().max() < 0.12, node
            seen.add(str(node.target))
    assert len(seen) > 15


def test_half_of_a_normal_variable_has_the_moments_of_the_books():
    found = larger(Uncertain.standard(()), as_uncertain(0))
    assert math.isclose(float(found.mean), 1 / math.sqrt(2 * math.pi), rel_tol=1e-12)
    assert math.isclose(float(found.variance), 0.5 - 1 / (2 * math.pi), rel_tol=1e-12)


def test_an_operation_without_a_rule_is_taken_for_mean_zero_and_variance_one():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(4, 5), nn.Linear(5, 5)
            self.head = nn.Linear(5, 2)

        def forward(self, x):
            return self.head(self.last(self.first(x).softmax(1)).relu())

    model = Odd().double()
    given = [of_module(model, seed) for seed in (1, 2)]
    x = torch.randn(2, 4).double()
    found = repair_closed_form(model, average(given), given, example=x).params
    lengths = [each["last.weight"].norm(dim=1) for each in given]
    torch.testing.assert_close(found["last.weight"].norm(dim=1), (lengths[0] + lengths[1]) / 2)


def test_noise_is_of_unit_variance_falls_with_the_frequency_and_is_always_the_same():
    example = torch.zeros(1, 3, 32, 32)
    found = noise_like(example, 64)
    assert torch.equal(found, noise_like(example, 64))
    assert not torch.equal(found, noise_like(example, 64, seed=1))
    assert abs(float(found.mean())) < 0.01
    assert math.isclose(float(found.var()), 1, rel_tol=0.01)
    power = torch.fft.fft2(found).abs().square().mean((0, 1))
    assert math.isclose(float((power[0, 2] / power[0, 8]).sqrt()), 4, rel_tol=0.15)
    white = noise_like(example, 64, falloff=0)
    power = torch.fft.fft2(white).abs().square().mean((0, 1))
    assert math.isclose(float(power[0, 2] / power[0, 8]), 1, rel_tol=0.3)


def test_on_noise_without_batch_norm_it_is_repair_on_that_noise():
    network = BY_NAME["mlp"]
    model, given, x = network.make().double(), trio(network), network.inputs(2).double()
    found = repair_on_noise(model, average(given), given, example=x, draws=50).params
    expected = repair(model, average(given), given, batches=[noise_like(x, 50)]).params
    assert close(found, expected)


def test_deep_batch_norm_is_told_what_normal_inputs_would_show_better_than_by_the_mean():
    """Members with the statistics of normal inputs: what is written is near what a reset gives."""
    layers = [nn.Linear(8, 30), nn.BatchNorm1d(30), nn.ReLU()]
    for _ in range(3):
        layers += [nn.Linear(30, 30), nn.BatchNorm1d(30), nn.ReLU()]
    model = nn.Sequential(*layers, nn.Linear(30, 2)).double()
    given, x = [of_module(model, seed) for seed in (1, 2)], draw(20000, 8, seed=5)
    given = [repaired_statistics(model, member, x) for member in given]
    merged = average(given)
    truth = repaired_statistics(model, merged, x)
    names = [name for name in merged if name.endswith("running_var")]

    def error(theta):
        return max(float((theta[n].log() - truth[n].log()).abs().mean()) for n in names)

    for mend in (repair_closed_form, repair_on_noise):
        found = mend(model, merged, given, example=x[:2]).params
        assert error(found) < error(merged) / 2


def repaired_statistics(model, theta, x):
    from wsl.connectivity import reset_batch_norm

    return reset_batch_norm(model, theta, [x])


def test_wrong_inputs_and_members_are_refused_by_name():
    model = nn.Sequential(nn.Embedding(7, 4), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    given = [params.from_module(model)] * 2
    with pytest.raises(ValueError, match=r"inputs are torch.int64, and noise is of real numbers"):
        repair_on_noise(model, given[0], given, example=torch.zeros(2, 3, dtype=torch.long))
    found = repair_closed_form(model, given[0], given, example=torch.zeros(2, 3, dtype=torch.long))
    assert close(found.params, given[0], atol=1e-6)
    assert found.samples == 0
    for mend, name in ((repair_closed_form, "closed_form"), (repair_on_noise, "on_noise")):
        with pytest.raises(ValueError, match=f"repair_{name}: got 0 members"):
            mend(model, given[0], [], example=torch.zeros(2, 3))
