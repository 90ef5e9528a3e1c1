"""Laws of merging: exact ends, equivariance, barriers of known paths, statistics as batch norm
itself takes them.
"""

import pytest
import torch
from networks import BY_NAME, NETWORKS
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F

from wsl import params
from wsl.connectivity import (
    PathLosses,
    accuracy_barrier,
    lerp,
    loss_barrier,
    mean_barrier,
    path_losses,
    reset_batch_norm,
)
from wsl.matching import WeightMatching, match
from wsl.merging import align, average, merge
from wsl.symmetry import Permutation

each_network = pytest.mark.parametrize("network", NETWORKS, ids=lambda n: n.name)
COMBINED = {
    "lerp": lambda members: lerp(members[0], members[1], 0.3),
    "average": average,
    "weighted average": lambda members: average(members, [0.5, 2.0, -0.5]),
}


def generator(seed):
    return torch.Generator().manual_seed(seed)


def equal(a, b):
    return a.keys() == b.keys() and all(
        torch.equal(a[n], b[n]) and a[n].dtype == b[n].dtype for n in a
    )


def close(a, b):
    return a.keys() == b.keys() and all(torch.allclose(a[n], b[n], atol=1e-6) for n in a)


def siblings(network, count=3):
    """Networks near one another, so that their alignment is unique."""
    base = network.weights(seed=0)
    members = []
    for i in range(count):
        other = network.weights(seed=10 + i)
        members.append(
            {n: t + 0.05 * other[n] if t.is_floating_point() else t for n, t in base.items()}
        )
    return members


@each_network
def test_the_ends_of_a_line_are_its_networks_bit_for_bit(network):
    a, b = network.weights(seed=1), network.weights(seed=2)
    assert equal(lerp(a, b, 0), a)
    assert equal(lerp(a, b, 1), b)
    assert equal(lerp(a, a, 0.3), a)
    assert not equal(lerp(a, b, 0.5), a)
    expected = {n: 0.75 * a[n] + 0.25 * b[n] if a[n].is_floating_point() else a[n] for n in a}
    assert close(lerp(a, b, 0.25), expected)


def test_counters_are_those_of_the_first_network_and_keep_their_type():
    network = BY_NAME["residual"]
    a, b = network.weights(seed=1), network.weights(seed=2)
    b = b | {"bn1.num_batches_tracked": torch.tensor(7)}
    for merged in (lerp(a, b, 0.9), average([a, b]), merge([a, b], spec=network.spec).params):
        assert merged["bn1.num_batches_tracked"].dtype == torch.int64
        assert merged["bn1.num_batches_tracked"] == 1
        assert (merged["bn1.running_var"] > 0).all()


def test_a_line_can_be_differentiated():
    a, b = {"w": torch.ones(3, requires_grad=True)}, {"w": torch.zeros(3, requires_grad=True)}
    lerp(a, b, 0.25)["w"].sum().backward()
    assert a["w"].grad.tolist() == [0.75] * 3
    assert b["w"].grad.tolist() == [0.25] * 3


@each_network
@pytest.mark.parametrize("method", COMBINED.values(), ids=COMBINED)
def test_every_method_commutes_with_the_group_bit_for_bit(network, method):
    members = [network.weights(seed=i) for i in range(3)]
    g = Permutation.random(network.spec, generator(1))
    assert equal(method([g(member) for member in members]), g(method(members)))


@each_network
def test_merging_does_not_see_how_the_units_of_each_member_are_ordered(network):
    members = siblings(network)
    first, *rest = [Permutation.random(network.spec, generator(i)) for i in range(3)]
    moved = [first(members[0]), *(g(member) for g, member in zip(rest, members[1:], strict=True))]
    assert close(merge(moved, spec=network.spec).params, first(average(members)))
    assert close(
        average(align(network.spec, moved, matcher=WeightMatching(seed=1)), [1, 2, 3]),
        first(average(members, [1, 2, 3])),
    )


def test_an_average_is_the_weighted_mean_in_any_order():
    members = [BY_NAME["cnn"].weights(seed=i, dtype=torch.float64) for i in range(3)]
    assert equal(average(members, [1, 0, 0]), members[0])
    assert equal(average(members[:1]), members[0])
    assert close(average(members[::-1], [3, 2, 1]), average(members, [0.1, 0.2, 0.3]))
    assert close(average(members[:2]), lerp(members[0], members[1], 0.5))
    half = average(
        [{"w": torch.ones(2, dtype=torch.float16)}, {"w": torch.zeros(2, dtype=torch.float16)}]
    )
    assert half["w"].dtype == torch.float16
    assert half["w"].tolist() == [0.5, 0.5]


@pytest.mark.parametrize(
    ("members", "weights", "message"),
    [
        ([], None, "got 0 members and 0 weights"),
        ([{"w": torch.zeros(2)}], [1, 2], "got 1 members and 2 weights"),
        ([{"w": torch.zeros(2)}] * 2, [1, -1], "weights that sum to 0"),
        (
            [{"w": torch.zeros(2)}, {"v": torch.zeros(2)}],
            None,
            "v: only the second of the two has it",
        ),
        (
            [{"w": torch.zeros(2)}, {"w": torch.zeros(3)}],
            None,
            r"w: shapes \(2,\) and \(3,\) differ",
        ),
    ],
)
def test_members_that_do_not_fit_are_refused(members, weights, message):
    with pytest.raises(ValueError, match=message):
        average(members, weights)


def test_merging_nothing_is_refused():
    with pytest.raises(ValueError, match="got 0 members"):
        merge([], spec=BY_NAME["mlp"].spec)


def quadratic(theta):
    return (theta["w"] - 1).square().sum(), theta["w"].sum()


def test_a_path_has_the_losses_of_its_points():
    path = path_losses(quadratic, {"w": torch.tensor([0.0])}, {"w": torch.tensor([4.0])}, points=5)
    assert path.t.tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert path.loss.tolist() == [1, 0, 1, 4, 9]
    assert path.accuracy.tolist() == [0, 1, 2, 3, 4]
    shifted = path_losses(
        quadratic,
        {"w": torch.tensor([0.0])},
        {"w": torch.tensor([4.0])},
        points=2,
        prepare=lambda theta: {"w": theta["w"] + 1},
    )
    assert shifted.loss.tolist() == [0, 16]
    with pytest.raises(ValueError, match="points is 1, but a path needs at least its 2 ends"):
        path_losses(quadratic, {"w": torch.zeros(1)}, {"w": torch.ones(1)}, points=1)


def test_barriers_of_known_curves():
    t = torch.linspace(0, 1, 5, dtype=torch.float64)
    hill = PathLosses(
        t,
        torch.tensor([1.0, 3, 4, 3, 2]).double(),
        torch.tensor([0.9, 0.5, 0.3, 0.6, 0.7]).double(),
    )
    assert loss_barrier(hill) == pytest.approx(4 - 1.5)
    assert mean_barrier(hill) == pytest.approx(4 - 1.5)
    assert accuracy_barrier(hill) == pytest.approx(0.8 - 0.3)
    slope = PathLosses(t, 1 + 3 * t, 1 - t)
    assert loss_barrier(slope) == pytest.approx(0)
    assert mean_barrier(slope) == pytest.approx(1.5)
    valley = PathLosses(t, (t - 0.5).square(), t)
    assert loss_barrier(valley) == 0


@each_network
def test_a_network_has_no_barrier_to_itself(network):
    model, x, theta = network.make().eval(), network.inputs(), network.weights()

    def evaluate(theta):
        out = params.call(model, theta, x)
        return out.square().mean(), (out > 0).float().mean()

    path = path_losses(evaluate, theta, theta, points=7)
    assert loss_barrier(path) == mean_barrier(path) == accuracy_barrier(path) == 0
    other = path_losses(evaluate, theta, network.weights(seed=1), points=7)
    assert other.loss[0] == path.loss[0]
    assert other.loss.unique().numel() == 7


def batches(count=4):
    return [torch.randn(5, 2, 6, 6, generator=generator(i)) * (i + 1) for i in range(count)]


def test_reset_statistics_are_those_that_batch_norm_accumulates_itself():
    network = BY_NAME["residual"]
    model, theta = network.make(), network.weights()
    before = params.from_module(model)
    found = reset_batch_norm(model, theta, batches())
    assert equal(params.from_module(model), before)
    assert model.training
    assert model.bn1.momentum == 0.1
    assert equal(theta, network.weights())
    reference = network.make()
    reference.load_state_dict(theta)
    for module in (reference.bn1, reference.bn2):
        module.reset_running_stats()
        module.momentum = None
    with torch.no_grad():
        for batch in batches():
            reference.train()(batch)
    assert equal(found, params.from_module(reference))
    assert found["bn1.num_batches_tracked"] == 4
    assert not torch.equal(found["bn2.running_mean"], theta["bn2.running_mean"])


def test_a_reset_commutes_with_the_group():
    network = BY_NAME["residual"]
    model, theta, g = (
        network.make().double(),
        network.weights(dtype=torch.float64),
        Permutation.random(network.spec, generator(1)),
    )
    data = [batch.double() for batch in batches()]
    assert close(reset_batch_norm(model, g(theta), data), g(reset_batch_norm(model, theta, data)))


def test_a_reset_takes_batches_as_loaders_yield_them_and_leaves_dropout_off():
    model = nn.Sequential(nn.Dropout(0.9), nn.BatchNorm1d(3), nn.Dropout(0.9), nn.BatchNorm1d(3))
    theta, x = params.from_module(model), torch.randn(8, 3, generator=generator(0))
    found = reset_batch_norm(model, theta, [(x, torch.zeros(8))])
    torch.testing.assert_close(found["1.running_mean"], x.mean(0))
    torch.testing.assert_close(found["1.running_var"], x.var(0))
    assert equal(found, reset_batch_norm(model, theta, iter([x])))


def test_networks_without_batch_norm_come_back_unchanged():
    model = nn.Sequential(
        nn.Linear(3, 4), nn.BatchNorm1d(4, track_running_stats=False), nn.LayerNorm(4)
    )
    theta = params.from_module(model)
    found = reset_batch_norm(model, theta, [])
    assert equal(found, theta)
    assert all(found[name] is not theta[name] for name in theta)


def test_a_reset_without_data_or_buffers_is_refused():
    model = nn.Sequential(nn.BatchNorm1d(3))
    theta = params.from_module(model)
    with pytest.raises(ValueError, match="no batches were given"):
        reset_batch_norm(model, theta, iter([]))
    with pytest.raises(
        ValueError, match=r"0\.running_mean: the model has it, but the weights do not"
    ):
        reset_batch_norm(model, dict(model.named_parameters()), [torch.zeros(2, 3)])


def trained_mlp(x, y, seed):
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10)
    )
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    for _ in range(150):
        i = torch.randint(len(x), (128,), generator=generator(seed))
        optimizer.zero_grad()
        F.cross_entropy(model(x[i]), y[i]).backward()
        optimizer.step()
    return model


def test_matching_removes_most_of_the_barrier_between_trained_networks():
    pixels, labels = load_digits(return_X_y=True)
    x, y = torch.tensor(pixels / 16, dtype=torch.float32), torch.tensor(labels)
    models = [trained_mlp(x[:1200], y[:1200], seed) for seed in (0, 1)]
    a, b = map(params.from_module, models)

    def evaluate(theta):
        out = params.call(models[0], theta, x[1200:])
        return F.cross_entropy(out, y[1200:]), (out.argmax(1) == y[1200:]).float().mean()

    spec = type(BY_NAME["mlp"].spec).parse(
        "h1 = 128, h2 = 128\n0.weight: h1 64\n0.bias: h1\n2.weight: h2 h1\n2.bias: h2\n4.weight: "
        "10 h2\n4.bias: 10"
    )
    before = loss_barrier(path_losses(evaluate, a, b))
    after = loss_barrier(path_losses(evaluate, a, match(spec, a, b).permutation(b)))
    assert before > 0.2
    assert after < 0.25 * before
