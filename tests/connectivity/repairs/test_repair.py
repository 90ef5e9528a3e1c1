"""Laws of repair over the market of networks: goals are met, one member alone stays as it is, and
the order of units does not matter. Values are measured by `wsl.symmetry.activations`, another way.
"""

import pytest
import torch
from networks import BY_NAME, NETWORKS
from torch import nn

from wsl import params
from wsl.connectivity import least_squares, repair
from wsl.merging import average
from wsl.symmetry import Permutation, activations

CASES = [
    *NETWORKS,
    BY_NAME["transformer"],
    pytest.param(BY_NAME["resnet20"], marks=pytest.mark.slow),
]
each_network = pytest.mark.parametrize("network", CASES, ids=lambda n: n.name)
SHARES = (0.25, 0.5, 0.25)
each_repair = pytest.mark.parametrize("mend", [repair, least_squares])


def members(network, count=3, spread=0.5):
    """Trained networks are alike: a common part and one of their own, in double precision."""
    common = network.weights(seed=9, dtype=torch.float64)
    own = [network.weights(seed=i, dtype=torch.float64) for i in range(count)]
    return [
        {
            n: 0.5 * t + 0.5 * spread * each[n] if t.is_floating_point() else t
            for n, t in common.items()
        }
        for each in own
    ]


def data(network, batch=8, count=4):
    return [network.inputs(batch, seed=i).double() for i in range(count)]


def close(a, b, atol=1e-8):
    return a.keys() == b.keys() and all(torch.allclose(a[n], b[n], atol=atol) for n in a)


def measured(inside, theta, batches):
    """Values at every site whose operation reads parameters or adds, by the site's name."""
    found = {}

    def visit(site, value):
        if site.parameters or site.op == "add":
            found.setdefault(site, []).append(value.detach().clone())

    for batch in batches:
        inside.run(theta, batch, visit=visit)
    return found


def moments(values, axis):
    rows = torch.cat([value.movedim(axis, -1).flatten(0, -2) for value in values])
    return torch.stack([rows.mean(0), rows.std(0, correction=0)])


def is_met(values, theirs, site):
    """Whether a site's units have the goals of the shares 1/4, 1/2, 1/4."""
    axis = 1 if "conv" in site.op or len(site.shape) == 4 else -1
    goal = sum(share * moments(v[site], axis) for share, v in zip(SHARES, theirs, strict=True))
    return torch.allclose(moments(values[site], axis), goal, atol=1e-9)


@each_network
def test_a_network_that_is_its_own_only_member_stays_as_it_is(network):
    model, theta = network.make().double(), members(network)[0]
    assert close(repair(model, theta, [theta], batches=data(network)).params, theta)
    fitted = least_squares(model, theta, [theta], batches=data(network)).params
    assert close(fitted, theta, atol=1e-6)


@each_network
@pytest.mark.parametrize("streams", [True, False])
def test_units_that_count_as_met_have_the_mean_and_deviation_of_the_members(network, streams):
    model, given, batches = network.make().double(), members(network), data(network)
    merged = average(given)
    found = repair(model, merged, given, batches=batches, weights=[1, 2, 1], streams=streams)
    inside = activations(model, batches[0])
    before, after = (measured(inside, theta, batches) for theta in (merged, found.params))
    theirs = [measured(inside, member, batches) for member in given]
    met = {site.name for site in found.sites if site.met and site.met == site.units}
    checked = []
    for site in after:
        if _module(site) not in met:
            continue
        sums = [each for each in after if each.op == "add" and site.name in each.sources]
        good = [each for each in [site, *sums[: int(streams)]] if is_met(after, theirs, each)]
        assert good, site
        checked.append(is_met(before, theirs, good[0]))
    assert len(checked) == len(met)
    assert not all(checked) or not met


def _module(site):
    return next((name.rpartition(".")[0] or name for name in site.parameters), None)


@each_network
@each_repair
def test_a_repair_commutes_with_the_group(network, mend):
    model, given, batches = network.make().double(), members(network), data(network)
    g = Permutation.random(network.spec, torch.Generator().manual_seed(3))
    plain = mend(model, average(given), given, batches=batches).params
    moved = [g(member) for member in given]
    assert close(mend(model, average(moved), moved, batches=batches).params, g(plain))
    assert not close(g(plain), plain) or not g.indices


@each_repair
def test_dead_channels_stay_dead_and_nothing_is_negative_or_nan(mend):
    network = BY_NAME["residual"]
    model, given = network.make(), members(network)
    given = [{n: t.float() if t.is_floating_point() else t for n, t in m.items()} for m in given]
    for member in given:
        for name in ("bn1", "bn2"):
            member[f"{name}.weight"][0] = member[f"{name}.bias"][0] = 0
        member["inner.weight"][1] = 0
        member["bn1.running_var"][1] = 0
        member["stem.weight"][2] = member["stem.bias"][2] = 0
    batches = [network.inputs(4, seed=i) for i in range(3)]
    found = mend(model, average(given), given, batches=batches).params
    assert all(torch.isfinite(t).all() for t in found.values())
    assert all((t >= 0).all() for name, t in found.items() if "running_var" in name)
    assert params.call(model.eval(), found, batches[0]).isfinite().all()
    assert found["bn1.weight"][0] == found["bn1.bias"][0] == 0


def test_least_squares_is_the_ridge_regression_that_its_formula_says():
    torch.manual_seed(0)
    model = nn.Conv1d(4, 6, 3, stride=2, padding=1, groups=2).double()
    given = [{n: torch.randn_like(t) for n, t in model.state_dict().items()} for _ in range(2)]
    merged, x = average(given), torch.randn(5, 4, 9).double()
    found = least_squares(model, merged, given, batches=x.split(1), ridge=0.3).params
    weight = found["weight"].clone().requires_grad_()
    bias = found["bias"].clone().requires_grad_()
    target = sum(params.call(model, member, x) for member in given) / 2
    y = torch.func.functional_call(model, {"weight": weight, "bias": bias}, (x,))
    columns = (
        torch.nn.functional.unfold(x.unsqueeze(2), (1, 3), stride=(1, 2), padding=(0, 1))
        .movedim(1, -1)
        .reshape(-1, 2, 6)
    )
    pull = columns.var(0, correction=0).mean(1)
    change = (weight - merged["weight"]).square().sum((1, 2)).view(2, 3).sum(1)
    loss = (y - target).square().sum() / len(columns) + (0.3 * pull * change).sum()
    slopes = torch.autograd.grad(loss, [weight, bias])
    assert all(slope.abs().max() < 1e-10 for slope in slopes)


def test_what_cannot_be_repaired_is_named_with_the_reason():
    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.twice = nn.Linear(5, 5, bias=False), nn.Linear(5, 5)
            self.rnn, self.head = nn.GRU(5, 5, batch_first=True), nn.Linear(5, 2)
            self.free = nn.Parameter(torch.randn(5, 5))

        def forward(self, x):
            x = self.first(x).relu()
            x = x + self.twice(self.twice(x).relu())
            x = x + torch.nn.functional.linear(x, self.free.T)
            return self.head(self.rnn(x)[0][:, -1])

    torch.manual_seed(0)
    given = [params.from_module(Mixed()) for _ in range(2)]
    found = repair(Mixed(), average(given), given, batches=[torch.randn(4, 3, 5)])
    assert found.left == {
        "first": "it has no bias, so the mean stays",
        "twice": "twice.weight is used 2 times",
        "free": "its weight is computed from other tensors",
        "add": "no layer writes for this sum alone",
        "add_1": "no layer writes for this sum alone",
        "rnn": "no rule says how gru writes its units",
        "head": "it writes the network's output",
    }
    assert found.samples == 4
    assert not torch.equal(found.params["first.weight"], average(given)["first.weight"])
    assert torch.equal(found.params["twice.weight"], average(given)["twice.weight"])


def test_batches_of_another_shape_are_left_out_and_none_is_an_error():
    network = BY_NAME["mlp"]
    given = [network.weights(seed=i) for i in range(2)]
    x = network.inputs(10)
    found = repair(
        network.make(), average(given), given, batches=[(part, 0) for part in x.split(4)]
    )
    assert found.samples == 8
    for mend, name in ((repair, "repair"), (least_squares, "least_squares")):
        with pytest.raises(ValueError, match=f"{name}: no batches were given"):
            mend(network.make(), given[0], given, batches=[])
        with pytest.raises(ValueError, match=f"{name}: got 0 members"):
            mend(network.make(), given[0], [], batches=[x])
        with pytest.raises(ValueError, match=r"got 2 members and the weights \[1.0, -1.0\]"):
            mend(network.make(), given[0], given, batches=[x], weights=[1, -1])
        short = {n: t for n, t in given[1].items() if n != "4.bias"}
        with pytest.raises(ValueError, match=r"4.bias: only the first of the two has it"):
            mend(network.make(), given[0], [short], batches=[x])
    with pytest.raises(ValueError, match="ridge is 0; it must be positive"):
        least_squares(network.make(), given[0], given, batches=[x], ridge=0)
