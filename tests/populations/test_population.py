"""Stacked training: each member as if alone, equal to torch's own optimisers, resumable recipes."""

import pytest
import torch
from stacked_settings import settings
from torch import nn
from torch.nn import functional as F

from wsl import params
from wsl.base import counter
from wsl.populations import SGD, AdamW, SampledBatches, initial_population, train_population
from wsl.populations.architectures.networks import cnn, mlp, siren
from wsl.zoo import ZooError

OPTIMIZERS = {
    "sgd": (SGD(momentum=0.9), lambda p, **k: torch.optim.SGD(p, momentum=0.9, **k)),
    "adamw": (
        AdamW(betas=(0.8, 0.99)),
        lambda p, **k: torch.optim.AdamW(p, betas=(0.8, 0.99), **k),
    ),
}
MAKERS = {
    "cnn": lambda: cnn(1, [3, 4], 5, strides=[2, 1]),
    "batch-norm": lambda: cnn(1, [3, 4], 5, batch_norm=True),
    "mlp": lambda: mlp([36, 7, 5], activation="tanh"),
    "group-norm": lambda: nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.Tanh(), nn.Flatten(), nn.Linear(64, 5)
    ),
}
LR, DECAY, FRACTION = (
    torch.tensor([1e-2, 3e-3, 5e-2]),
    torch.tensor([0.0, 0.1, 1e-3]),
    torch.tensor([1.0, 0.5, 0.1]),
)
SEEDS = torch.tensor([11, 5, 2**31 - 1])


@pytest.fixture(params=OPTIMIZERS)
def optimizer(request):
    return OPTIMIZERS[request.param]


@pytest.fixture(params=MAKERS)
def make(request):
    return MAKERS[request.param]


def data(dtype=torch.float32):
    rng = torch.Generator().manual_seed(0)
    return torch.randn(40, 1, 6, 6, generator=rng, dtype=dtype), torch.randint(
        5, (40,), generator=rng
    )


def batches(which, dtype=torch.float32):
    return SampledBatches(*data(dtype), seeds=SEEDS[which], batch_size=8, fraction=FRACTION[which])


def start(make, which, dtype=torch.float32):
    own = initial_population(make, SEEDS[which].tolist())
    return {name: t.to(dtype) if t.is_floating_point() else t for name, t in own.items()}


def train(make, optimizer, which, *, dtype=torch.float32, **options):
    model = make().to(dtype)
    return train_population(
        model,
        start(make, which, dtype),
        F.cross_entropy,
        batches=batches(which, dtype),
        **settings(
            optimizer=optimizer,
            lr=LR[which],
            weight_decay=DECAY[which],
            **{"steps": 5, **options},
        ),
    )


def assert_equal(found, expected, **tolerance):
    assert found.keys() == expected.keys()
    for name in expected:
        torch.testing.assert_close(
            found[name], expected[name], msg=lambda m, name=name: f"{name}: {m}", **tolerance
        )


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float32, 1e-5), (torch.float64, 1e-10)],
    ids=["float32", "float64"],
)
def test_stacked_steps_are_the_loop_over_members_with_torchs_optimizer(
    make, optimizer, dtype, tolerance
):
    ours, theirs = optimizer
    everyone = torch.arange(3)
    trained = train(make, ours, everyone, dtype=dtype)
    for i, theta in enumerate(params.unstack(start(make, everyone, dtype))):
        model = make().to(dtype).train()
        model.load_state_dict(theta)
        reference = theirs(model.parameters(), lr=LR[i].item(), weight_decay=DECAY[i].item())
        for step in range(5):
            x, y = batches(everyone, dtype)(step)
            reference.zero_grad()
            F.cross_entropy(model(x[i]), y[i]).backward()
            reference.step()
        assert_equal(
            params.unstack(trained.snapshots[0])[i],
            params.from_module(model),
            rtol=tolerance,
            atol=tolerance,
        )


@pytest.mark.parametrize("company", [[1], [2, 1]], ids=["alone", "in another place"])
def test_a_member_alone_is_the_member_in_any_batch(make, optimizer, company):
    together = train(make, optimizer[0], torch.arange(3), snapshots=(2, 4), steps=4)
    apart = train(make, optimizer[0], torch.tensor(company), snapshots=(2, 4), steps=4)
    for mine, everyones in zip(apart.snapshots, together.snapshots, strict=True):
        assert_equal(
            params.unstack(mine)[company.index(1)],
            params.unstack(everyones)[1],
            rtol=1e-5,
            atol=1e-6,
        )


def test_members_differ_by_seed_learning_rate_and_data():
    first, second, third = params.unstack(train(MAKERS["cnn"], SGD(), torch.arange(3)).snapshots[0])
    assert all(
        not torch.allclose(first[name], other[name]) for other in (second, third) for name in first
    )


def test_running_statistics_are_those_of_batch_norm_in_train_mode():
    trained = train(MAKERS["batch-norm"], SGD(), torch.arange(3), dtype=torch.float64, steps=1)
    x, _ = batches(torch.arange(3), torch.float64)(0)
    for i, theta in enumerate(
        params.unstack(start(MAKERS["batch-norm"], torch.arange(3), torch.float64))
    ):
        norm = torch.nn.BatchNorm2d(3).double()
        norm(F.conv2d(x[i], theta["convs.0.weight"], padding=1))
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            torch.testing.assert_close(
                trained.snapshots[0][f"norms.0.{name}"][i], norm.state_dict()[name]
            )


def test_a_divergent_member_is_reported_and_touches_no_other(make, optimizer):
    quiet = train(make, optimizer[0], torch.arange(3))
    poisoned = start(make, torch.arange(3))
    poisoned[next(iter(poisoned))][1] = float("nan")
    found = train_population(
        make(),
        poisoned,
        F.cross_entropy,
        batches=batches(torch.arange(3)),
        **settings(optimizer=optimizer[0], lr=LR, weight_decay=DECAY, steps=5),
    )
    assert quiet.finite.tolist() == [True, True, True]
    assert found.finite.tolist() == [True, False, True]
    for i in (0, 2):
        assert_equal(
            params.unstack(found.snapshots[0])[i],
            params.unstack(quiet.snapshots[0])[i],
            rtol=1e-5,
            atol=1e-6,
        )


def test_a_member_that_explodes_on_its_own_is_reported():
    model, x = mlp([36, 7, 5]), data()[0]
    found = train_population(
        model,
        initial_population(lambda: mlp([36, 7, 5]), [0, 1]),
        F.mse_loss,
        batches=lambda _: (x.expand(2, *x.shape), torch.zeros(2, 40, 5)),
        **settings(
            optimizer=SGD(), steps=40, lr=torch.tensor([1e-2, 1e4]), weight_decay=torch.zeros(2)
        ),
    )
    assert found.finite.tolist() == [True, False]


def test_snapshots_are_the_weights_after_that_many_steps():
    everyone = torch.arange(3)
    trained = train(MAKERS["cnn"], AdamW(), everyone, snapshots=(3, 0, 5))
    assert trained.steps == (0, 3, 5)
    assert_equal(trained.snapshots[0], start(MAKERS["cnn"], everyone), rtol=0, atol=0)
    assert_equal(
        trained.snapshots[1],
        train(MAKERS["cnn"], AdamW(), everyone, steps=3).snapshots[0],
        rtol=0,
        atol=0,
    )
    assert_equal(
        trained.snapshots[2], train(MAKERS["cnn"], AdamW(), everyone).snapshots[0], rtol=0, atol=0
    )


def test_training_changes_neither_the_given_weights_nor_the_model():
    given, model = start(MAKERS["batch-norm"], torch.arange(3)), MAKERS["batch-norm"]().eval()
    copies, before = {name: t.clone() for name, t in given.items()}, params.from_module(model)
    train_population(
        model,
        given,
        F.cross_entropy,
        batches=batches(torch.arange(3)),
        **settings(optimizer=SGD(), lr=LR, weight_decay=DECAY, steps=2),
    )
    assert_equal(given, copies, rtol=0, atol=0)
    assert_equal(params.from_module(model), before, rtol=0, atol=0)
    assert not model.training


def test_fields_share_coordinates_and_fit_their_own_values():
    axis = torch.linspace(-1, 1, 5)
    coordinates, values = (
        torch.cartesian_prod(axis, axis),
        torch.rand(3, 25, 1, generator=torch.Generator().manual_seed(0)),
    )
    begin = initial_population(lambda: siren([2, 16, 1]), [0, 1, 2])
    trained = train_population(
        siren([2, 16, 1]),
        begin,
        F.mse_loss,
        batches=lambda _: (coordinates.expand(3, -1, -1), values),
        **settings(
            steps=60,
            optimizer=AdamW(),
            lr=torch.full((3,), 1e-2),
            weight_decay=torch.zeros(3),
            snapshots=(0, 60),
        ),
    )
    before, after = (
        (params.call(siren([2, 16, 1]), p, coordinates) - values).square().mean((1, 2))
        for p in trained.snapshots
    )
    assert bool((after < 0.1 * before).all())


def test_initial_weights_depend_on_the_seed_alone_and_leave_the_global_state():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    both = initial_population(MAKERS["mlp"], [7, 8], scale=torch.tensor([1.0, 0.5]))
    assert torch.equal(torch.rand(1), expected)
    torch.manual_seed(8)
    model = params.from_module(MAKERS["mlp"]())
    assert torch.equal(both["layers.0.weight"][1], model["layers.0.weight"] * 0.5)
    assert torch.equal(both["layers.0.bias"][1], model["layers.0.bias"])
    assert_equal(
        params.unstack(initial_population(MAKERS["mlp"], [7]))[0],
        params.unstack(both)[0],
        rtol=0,
        atol=0,
    )


def test_a_fraction_of_the_data_is_the_members_own_fixed_subset():
    sampled = SampledBatches(
        *data(), seeds=torch.arange(20), batch_size=32, fraction=torch.full((20,), 0.25)
    )
    seen = torch.cat([sampled.indices(step) for step in range(30)], dim=1)
    subsets = [frozenset(row.tolist()) for row in seen]
    assert all(len(subset) == 10 for subset in subsets)
    assert len(set(subsets)) == 20
    everything = SampledBatches(
        *data(), seeds=torch.arange(2), batch_size=32, fraction=torch.ones(2)
    )
    assert all(
        len(set(row.tolist())) == 40
        for row in torch.cat([everything.indices(step) for step in range(30)], dim=1)
    )


def test_counter_draws_are_uniform_fixed_and_independent_of_their_neighbours():
    u = counter.uniform(torch.arange(400)[:, None], 3, torch.arange(500))
    assert u.dtype == torch.float64
    assert torch.equal(counter.uniform(17, 3, 41), u[17, 41])
    assert u.min() >= 0
    assert u.max() < 1
    assert abs(u.mean().item() - 0.5) < 0.003
    assert torch.histc(u, 10, 0, 1).sub(20_000).abs().max() < 600
    for other in (
        counter.uniform(torch.arange(400)[:, None], 4, torch.arange(500)),
        u.roll(1, 0),
        u.roll(1, 1),
    ):
        assert abs(torch.corrcoef(torch.stack([u.flatten(), other.flatten()]))[0, 1].item()) < 0.01
    assert counter.bits(0) == 0xE220A8397B1DCDAF >> 11  # SplitMix64's first output from seed 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lr": torch.ones(2)}, r"lr: has shape \(2,\), but 3 members need \(3,\)"),
        (
            {"weight_decay": torch.ones(3, 1)},
            r"weight_decay: has shape \(3, 1\), but 3 members need \(3,\)",
        ),
        ({"snapshots": (0, 7)}, r"snapshots: \[0, 7\] must lie between 0 and steps = 6"),
        (
            {"params": {"layers.0.weight": torch.zeros(3, 7, 36)}},
            r"params: layers\.0\.bias, .*must be the names in the state dict",
        ),
    ],
)
def test_wrong_arguments_are_refused(change, message):
    arguments = {
        "params": start(MAKERS["mlp"], torch.arange(3)),
        "lr": LR,
        "weight_decay": DECAY,
        "steps": 6,
    } | change
    with pytest.raises(ZooError, match=message):
        train_population(
            mlp([36, 7, 5]),
            arguments.pop("params"),
            F.cross_entropy,
            batches=batches(torch.arange(3)),
            **settings(optimizer=SGD(), **arguments),
        )


def test_a_fraction_outside_its_range_is_refused():
    with pytest.raises(ZooError, match=r"fraction: 0 to 1 given, but it must lie in \(0, 1\]"):
        SampledBatches(
            *data(), seeds=torch.arange(2), batch_size=4, fraction=torch.tensor([0.0, 1.0])
        )
