"""Activation matching: planted permutations are found wherever the data show the units."""

import copy
import pickle

import pytest
import torch
from networks import BY_NAME, DEEP, NETWORKS
from torch import nn

from wsl import params
from wsl.matching import ActivationMatching, match
from wsl.matching.solvers.activation import UNSEEN
from wsl.matching.solvers.moments import PairedMoments
from wsl.matching.solvers.units import unit_rows
from wsl.symmetry import (
    Permutation,
    PermutationSpec,
    SpecError,
    parse_axes,
    permutation_spec,
)

each_network = pytest.mark.parametrize("network", [*NETWORKS, *DEEP], ids=lambda n: n.name)


def generator(seed):
    return torch.Generator().manual_seed(seed)


def trained_like(network, seed):
    """Random weights whose ReLU units are not all dead or all on: small biases."""
    theta = network.weights(seed=seed)
    return {n: t * 0.1 if n.endswith("bias") else t for n, t in theta.items()}


def constant_units(found, theta, x):
    """The units of each group that are the same number at every site and sample."""
    varies = {}

    def visit(site, value):
        for rows in unit_rows(found.spec, site.axes):
            seen = rows.cut(value).std(1) > 1e-6
            if site.op not in ("linear", "conv2d", "batch_norm", "add"):
                varies[rows.name] = varies.get(rows.name, seen) | seen

    found.run(theta, x, visit=visit)
    return {name: ~seen for name, seen in varies.items()}


def matching_of(network, **settings):
    return ActivationMatching(network.inputs(60, seed=3), network.make(), **settings)


def wrong_and_alive(found, planted, dead):
    """Units that vary on the data and were not put back."""
    for name, index in (~planted).indices.items():
        wrong = (found.permutation.indices[name] != index).flatten()
        yield from (wrong & ~dead.get(name, torch.zeros_like(wrong))).tolist()


@each_network
def test_a_planted_permutation_is_found_where_the_data_show_the_units(network):
    x, matcher = network.inputs(60, seed=3), matching_of(network)
    sites = matcher._network(network.spec, (x,))
    for seed in (1, 2):
        theta = trained_like(network, seed)
        planted = Permutation.random(network.spec, generator(seed))
        found = match(network.spec, theta, planted(theta), matcher)
        dead = constant_units(sites, theta, x)
        assert not any(wrong_and_alive(found, planted, dead))
        # ReLUs are the only units that may be dead, and only some of them are.
        assert sum(int(d.sum()) for d in dead.values()) <= sum(network.spec.groups.values()) / 2
        assert dict(found.notes) == {}
        parents = {group.name for group in network.spec.declared if group.per is None}
        assert set(found.groups) == parents
        assert (found.sweeps, found.converged) == (1, True)
        assert found.trace.tolist() == [found.objective]
        assert set(found.seconds) == {"products", "assignment", "total"}


@pytest.mark.parametrize("name", ["mlp", "cnn", "residual", "depthwise", "dense", "tied", "gru"])
def test_noise_in_the_weights_is_borne_by_both_statistics(name):
    network, rng = BY_NAME[name], generator(5)
    theta = trained_like(network, 1)
    noisy = {
        n: t + 0.05 * torch.randn(t.shape, generator=rng) if t.dim() > 1 else t
        for n, t in theta.items()
    }
    planted = Permutation.random(network.spec, generator(2))
    for statistic in ("correlation", "covariance"):
        matcher = matching_of(network, statistic=statistic)
        found = match(network.spec, theta, planted(noisy), matcher).permutation
        right = [
            (found.indices[n] == index).double().mean() for n, index in (~planted).indices.items()
        ]
        assert sum(right) / len(right) > 0.8


def test_the_objective_is_the_sum_of_the_matched_correlations():
    network = BY_NAME["mlp"]
    a, b, x = network.weights(seed=1), network.weights(seed=2), network.inputs(60, seed=3)
    found = match(network.spec, a, b, matching_of(network, batch_size=7))
    layers, expected = (("0", "h1"), ("2", "h2")), 0.0
    hidden = [x.double(), x.double()]
    for layer, group in layers:
        hidden = [
            (z @ t[f"{layer}.weight"].double().T + t[f"{layer}.bias"].double()).relu()
            for z, t in zip(hidden, (a, b), strict=True)
        ]
        u, v = hidden
        order = found.permutation.indices[group]
        both = torch.corrcoef(torch.cat([u.T, v.T[order]])).nan_to_num()
        share = float(both[: len(order), len(order) :].diagonal().sum())
        assert found.groups[group] == pytest.approx(share / len(order), abs=1e-6)
        expected += share
    assert found.objective == pytest.approx(expected, abs=1e-5)


def test_of_a_residual_stream_every_stage_that_is_read_counts():
    network = BY_NAME["resnet20"]
    a, b = network.weights(seed=1), network.weights(seed=2)
    matcher, x = matching_of(network, positions=10**6), network.inputs(60, seed=3)
    found = match(network.spec, a, b, matcher)
    stages = {"relu", "relu_2", "relu_4", "relu_6"}
    seen = [[], []]
    for theta, values in zip((a, b), seen, strict=True):

        def visit(site, z, values=values):
            if site.name in stages:
                values.append(z.transpose(0, 1).flatten(1).double())

        matcher._network(network.spec, (x,)).run(theta, x, visit=visit)
    order = found.permutation.indices["s1"]
    mean = [
        torch.corrcoef(torch.cat([u, v[order]])).nan_to_num()[:3, 3:].diagonal().mean()
        for u, v in zip(*seen, strict=True)
    ]
    assert len(mean) == 4
    assert found.groups["s1"] == pytest.approx(float(sum(mean) / 4), abs=1e-5)


def test_batches_change_nothing_and_settings_decide_what_is_seen():
    network = BY_NAME["cnn"]
    a, b = trained_like(network, 1), trained_like(network, 2)

    def found(**settings):
        return match(network.spec, a, b, matching_of(network, **settings))

    whole, cut = found(), found(batch_size=8)
    assert whole.permutation == cut.permutation
    assert whole.objective == pytest.approx(cut.objective, rel=1e-6)
    first, again, other = (found(samples=9, positions=50, seed=seed) for seed in (0, 0, 1))
    assert first.objective == again.objective != other.objective
    assert found(samples=1).objective != 0


def test_the_networks_own_weights_and_mode_do_not_matter_and_are_left_alone():
    network = BY_NAME["residual"]
    a, b, model = network.weights(seed=1), network.weights(seed=2), network.make().train()
    before = params.from_module(model)
    x = network.inputs(60, seed=3)
    one = match(network.spec, a, b, ActivationMatching(x, model))
    other = match(network.spec, a, b, ActivationMatching((x,), model=network.make().eval()))
    assert one.permutation == other.permutation
    assert model.training
    assert all(torch.equal(t, before[n]) for n, t in model.state_dict().items())


def test_a_stack_is_matched_row_by_row_and_keeps_its_evidence():
    network = BY_NAME["mlp"]
    a, rows = trained_like(network, 1), [trained_like(network, seed) for seed in (2, 3)]
    together = match(network.spec, a, params.stack(rows), matching_of(network))
    each = [match(network.spec, a, row, matching_of(network)) for row in rows]
    assert together.objective.tolist() == [m.objective for m in each]
    assert together.groups["h1"].tolist() == [m.groups["h1"] for m in each]


class Stacked(nn.Module):
    """Two recurrent layers in one operation: no value shows the units of the first."""

    def __init__(self):
        super().__init__()
        self.rnn, self.head = nn.LSTM(5, 6, num_layers=2, batch_first=True), nn.Linear(6, 3)

    def forward(self, x):
        return self.head(self.rnn(x)[0][:, -1])


def test_a_group_that_no_site_shows_is_matched_by_weights_and_said():
    model, x = Stacked(), torch.randn(40, 7, 5, generator=generator(1))
    spec = permutation_spec(model, x)
    rng = generator(2)
    theta = {n: torch.randn(t.shape, generator=rng) for n, t in model.state_dict().items()}
    planted = Permutation.random(spec, generator(3))
    found = match(spec, theta, planted(theta), ActivationMatching(x, model))
    assert found.permutation == ~planted
    assert found.notes == {"h1": UNSEEN}
    assert set(found.groups) == {"h2"}


def test_both_directions_of_a_recurrent_layer_are_shown_by_its_states():
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = nn.LSTM(5, 6, batch_first=True, bidirectional=True)
            self.head = nn.Linear(12, 3)

        def forward(self, x):
            return self.head(self.rnn(x)[0].mean(1))

    model, x = Both(), torch.randn(40, 7, 5, generator=generator(1))
    spec = permutation_spec(model, x)
    theta = {n: torch.randn(t.shape, generator=generator(2)) for n, t in model.state_dict().items()}
    planted = Permutation.random(spec, generator(3))
    found = match(spec, theta, planted(theta), ActivationMatching(x, model))
    assert found.permutation == ~planted
    assert dict(found.notes) == {}


def test_half_precision_weights_are_compared_in_the_networks_own():
    network = BY_NAME["cnn"]
    theta = {n: t.bfloat16() for n, t in trained_like(network, 1).items()}
    planted = Permutation.random(network.spec, generator(1))
    found = match(network.spec, theta, planted(theta), matching_of(network))
    assert torch.equal(found.permutation.indices["c1"], (~planted).indices["c1"])
    assert all(t.dtype == torch.bfloat16 for t in found(theta).values())


def test_a_part_counts_where_one_group_and_no_other_moves():
    spec = PermutationSpec.parse("h = 3, head = 2, dk = 4 per head\nw: h (head dk)\nv: head 5")

    def shown(text):
        return [(rows.block, rows.name, rows.units) for rows in unit_rows(spec, parse_axes(text))]

    assert shown("7 h 5") == [("h", "h", (1,))]
    assert shown("7 (head dk)+h") == [("head", "dk", (1, 2)), ("h", "h", (1,))]
    assert shown("7 head 5 dk") == [("head", "dk", (1, 3))]
    assert shown("7 5") == shown("h h") == shown("7 h head") == shown("head dk dk") == []


def test_moments_are_those_of_all_samples_at_once_and_never_negative():
    rng = generator(0)
    x = 1e4 + torch.randn(4, 1000, generator=rng)
    y = 0.5 * x[[2, 0, 1, 3]] + torch.randn(4, 1000, generator=rng)
    x[3] = 1e4
    moments = PairedMoments()
    for part in (slice(0, 1), slice(1, 400), slice(400, 1000)):
        moments.add(x[:, part], y[:, part])
    both = torch.cat([x, y]).double()
    torch.testing.assert_close(
        moments.covariance(), both.cov(correction=0)[:4, 4:], rtol=1e-3, atol=1e-3
    )
    expected = both[[0, 1, 2, 4, 5, 6, 7]].corrcoef()[:3, 3:]
    torch.testing.assert_close(moments.correlation()[:3], expected, rtol=1e-3, atol=1e-3)
    assert torch.equal(moments.correlation()[3], torch.zeros(4, dtype=torch.float64))
    assert all((side.squares >= 0).all() for side in moments.sides)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"statistic": "cosine"}, "statistic is 'cosine', but one of correlation, covariance"),
        ({"samples": 0}, "samples is 0, but at least one"),
        ({"positions": -1}, "positions is -1, but at least one"),
        ({"batch_size": 0}, "batch_size is 0, but at least one"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        ActivationMatching(**settings)


def test_what_cannot_be_matched_is_refused_by_name():
    network = BY_NAME["mlp"]
    a, x = network.weights(seed=1), network.inputs(20)

    def refused(message, b=a, inputs=x, model=None, error=ValueError):
        with pytest.raises(error, match=message):
            match(network.spec, a, b, ActivationMatching(inputs, model or network.make()))

    refused("inputs are missing; give some hundred", inputs=None)
    refused("inputs are missing", inputs=x[:0])
    refused("input 0 has values that are NaN", inputs=x * float("nan"))
    refused("input 1 has 19 rows, but input 0 has 20", inputs=(x, x[1:]))
    other = BY_NAME["layer_norm"].make()
    refused(
        r"^0\.weight: the given specification has it, but the network", model=other, error=SpecError
    )
    refused(r"^2\.weight: ", b={**a, "2.weight": a["2.weight"] * float("inf")})
    refused(r"^0\.weight: .*int64", b={**a, "0.weight": a["0.weight"].long()})
    refused(r"^0\.weight: is on the meta device", b={**a, "0.weight": a["0.weight"].to("meta")})
    wrong = {**a, "2.weight": a["2.weight"][:, 1:]}
    refused(r"^2\.weight: axis 1 has size 6", b=wrong, error=SpecError)
    refused(
        "^relu_1 of 'b': activations are NaN or infinite", b={n: t * 1e30 for n, t in a.items()}
    )
    with pytest.raises(ValueError, match=r"the network is missing .* give model="):
        match(network.spec, a, a, ActivationMatching(x))


def test_a_matcher_is_copied_and_pickled_without_what_it_has_read():
    network = BY_NAME["mlp"]
    matcher, a, b = matching_of(network), network.weights(seed=1), network.weights(seed=2)
    found = match(network.spec, a, b, matcher)
    assert "_networks" in vars(matcher)
    for other in (copy.deepcopy(matcher), pickle.loads(pickle.dumps(matcher))):  # noqa: S301
        assert "_networks" not in vars(other)
        assert match(network.spec, a, b, other).objective == found.objective
