"""Every option of stacked training: the member alone is the member in any company, and each does
what torch does.
"""

import warnings

import pytest
import torch
from stacked_settings import settings
from torch import nn
from torch.nn import functional as F

from wsl import params
from wsl.base import counter
from wsl.base.compiled import Engine
from wsl.populations import (
    SGD,
    Adam,
    AdamW,
    Augment,
    Constant,
    Cosine,
    SampledBatches,
    Steps,
    initial_population,
    train_population,
)
from wsl.populations.architectures.networks import cnn, mlp, recurrent, residual_cnn, siren
from wsl.populations.stacked.start import SCHEMES
from wsl.zoo import ZooError

SEEDS, LR, DECAY = (
    torch.tensor([11, 5, 2**31 - 1]),
    torch.tensor([1e-2, 3e-3, 5e-2]),
    torch.tensor([0.0, 0.1, 1e-3]),
)
MAKERS = {
    "mlp": lambda: mlp([36, 7, 5]),
    "dropout": lambda: mlp([36, 7, 5], dropout=0.4),
    "cnn": lambda: cnn(1, [3, 4], 5, strides=[2, 1], dropout=0.2),
    "residual": lambda: residual_cnn(1, 3, 5, blocks=1),
    "gru": lambda: recurrent(6, 4, 5),
    "lstm": lambda: recurrent(6, 4, 5, cell="lstm"),
}
OPTIONS = {
    "nesterov": {"optimizer": SGD(momentum=0.9, nesterov=True)},
    "momentum each": {"optimizer": SGD(), "momentum": torch.tensor([0.0, 0.5, 0.9])},
    "adam": {"optimizer": Adam()},
    "betas each": {"betas": torch.tensor([[0.9, 0.999], [0.5, 0.9], [0.0, 0.99]])},
    "cosine with warm-up": {"schedule": Cosine(warmup=2)},
    "schedules each": {"schedule": [Constant(), Steps(at=(0.4,)), Cosine(final=0.1)]},
    "clip": {"clip": 0.1},
    "dropout each": {"dropout": torch.tensor([0.0, 0.3, 0.8])},
    "chunks": {"chunk": 2},
}
DATA = {
    "epochs": {"replacement": False},
    "label noise": {"label_noise": torch.tensor([0.0, 0.5, 1.0])},
    "shift": {"augment": Augment(shift=2)},
    "rotation": {"augment": Augment(rotation=30.0)},
    "pixel noise": {"augment": Augment(noise=0.3)},
}
PER_MEMBER = ("momentum", "betas", "dropout", "schedule", "label_noise")


def take(options, which):
    """The options of some members."""
    return {
        name: ([value[i] for i in which.tolist()] if isinstance(value, list) else value[which])
        if name in PER_MEMBER and isinstance(value, (list, torch.Tensor))
        else value
        for name, value in options.items()
    }


def batches(which, dtype=torch.float32, **more):
    rng = torch.Generator().manual_seed(0)
    images, labels = (
        torch.randn(40, 1, 6, 6, generator=rng).to(dtype),
        torch.randint(5, (40,), generator=rng),
    )
    return SampledBatches(
        images,
        labels,
        SEEDS[which],
        batch_size=8,
        fraction=torch.tensor([1.0, 0.5, 0.1])[which],
        **more,
    )


def start(make, which, dtype=torch.float32):
    own = initial_population(make, SEEDS[which].tolist())
    return {name: t.to(dtype) if t.is_floating_point() else t for name, t in own.items()}


def train(which, *, make="mlp", dtype=torch.float32, data=None, **options):
    model = MAKERS[make]().to(dtype)
    options = {"optimizer": AdamW(), "steps": 5, **take(options, which)}
    return train_population(
        model,
        start(MAKERS[make], which, dtype),
        F.cross_entropy,
        batches=batches(which, dtype, **take(data or {}, which)),
        **settings(lr=LR[which], seeds=SEEDS[which], weight_decay=DECAY[which], **options),
    )


def assert_close(found, expected, **tolerance):
    for name in expected:
        torch.testing.assert_close(
            found[name], expected[name], msg=lambda m, name=name: f"{name}: {m}", **tolerance
        )


def alone_equals_together(together, alone, place):
    assert_close(
        params.unstack(alone.snapshots[0])[0],
        params.unstack(together.snapshots[0])[place],
        rtol=1e-4,
        atol=1e-5,
    )


@pytest.mark.parametrize("option", OPTIONS)
def test_with_every_option_a_member_alone_is_the_member_in_company(option):
    make = "dropout" if "dropout" in option else "mlp"
    together = train(torch.arange(3), make=make, **OPTIONS[option])
    alone_equals_together(together, train(torch.tensor([1]), make=make, **OPTIONS[option]), 1)


@pytest.mark.parametrize("kind", DATA)
def test_with_every_kind_of_data_a_member_alone_is_the_member_in_company(kind):
    together = train(torch.arange(3), data=DATA[kind])
    alone_equals_together(together, train(torch.tensor([1]), data=DATA[kind]), 1)
    plain = train(torch.arange(3))
    assert not torch.allclose(
        plain.snapshots[0]["layers.0.weight"][1],
        together.snapshots[0]["layers.0.weight"][1],
        atol=1e-4,
    )


@pytest.mark.parametrize("make", MAKERS)
def test_every_architecture_trains_a_member_alone_as_in_company(make):
    alone_equals_together(train(torch.arange(3), make=make), train(torch.tensor([2]), make=make), 2)


REFERENCES = {
    "nesterov": lambda p, i: torch.optim.SGD(
        p, LR[i].item(), 0.9, weight_decay=DECAY[i].item(), nesterov=True
    ),
    "momentum each": lambda p, i: torch.optim.SGD(
        p, LR[i].item(), [0.0, 0.5, 0.9][i], weight_decay=DECAY[i].item()
    ),
    "adam": lambda p, i: torch.optim.Adam(p, LR[i].item(), weight_decay=DECAY[i].item()),
    "betas each": lambda p, i: torch.optim.AdamW(
        p, LR[i].item(), [(0.9, 0.999), (0.5, 0.9), (0.0, 0.99)][i], weight_decay=DECAY[i].item()
    ),
    "clip": lambda p, i: torch.optim.AdamW(p, LR[i].item(), weight_decay=DECAY[i].item()),
    "cosine with warm-up": lambda p, i: torch.optim.AdamW(
        p, LR[i].item(), weight_decay=DECAY[i].item()
    ),
}


@pytest.mark.parametrize("option", REFERENCES)
def test_stacked_options_are_torchs(option):
    everyone = torch.arange(3)
    options = {
        k: v.double() if isinstance(v, torch.Tensor) else v for k, v in OPTIONS[option].items()
    }
    trained = train(everyone, dtype=torch.float64, **options)
    for i, theta in enumerate(params.unstack(start(MAKERS["mlp"], everyone, torch.float64))):
        model = MAKERS["mlp"]().double()
        model.load_state_dict(theta)
        optimizer = REFERENCES[option](model.parameters(), i)
        for step in range(5):
            for group in optimizer.param_groups:
                group["lr"] = LR[i].item() * options.get("schedule", Constant())(step, 5)
            x, y = batches(everyone, torch.float64)(step)
            optimizer.zero_grad()
            F.cross_entropy(model(x[i]), y[i]).backward()
            if "clip" in options:
                nn.utils.clip_grad_norm_(model.parameters(), options["clip"])
            optimizer.step()
        assert_close(
            params.unstack(trained.snapshots[0])[i], params.from_module(model), rtol=1e-6, atol=1e-8
        )


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_recurrent_layers_written_out_are_torchs(cell):
    model, rng = recurrent(6, 4, 5, cell=cell).double(), torch.Generator().manual_seed(0)
    x, y = torch.randn(8, 1, 6, 6, generator=rng, dtype=torch.float64), torch.arange(8) % 5
    before = params.from_module(model)
    trained = train_population(
        model,
        params.stack([before]),
        F.cross_entropy,
        batches=lambda _: (x[None], y[None]),
        **settings(steps=1, optimizer=SGD(0.0), lr=torch.ones(1), weight_decay=torch.zeros(1)),
    )
    F.cross_entropy(model(x), y).backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(trained.snapshots[0][name][0], before[name] - parameter.grad)


@pytest.mark.parametrize(
    "layer",
    [
        nn.GRU(3, 4, 2, bidirectional=True),
        nn.LSTM(3, 4, 2, batch_first=True, bias=False),
        nn.RNN(3, 4, nonlinearity="relu"),
    ],
)
def test_recurrent_layers_of_any_depth_and_direction_are_torchs(layer):
    from wsl.populations.architectures.permember import PerMember

    x = torch.randn(5, 2, 3)
    with PerMember(torch.tensor(0), torch.tensor(0), None):
        found = layer(x)
    torch.testing.assert_close(found, layer(x))


def test_schedules_are_their_formulas():
    assert [Cosine(warmup=2)(t, 6) for t in range(6)] == pytest.approx(
        [0.5, 1, 1, 0.853553, 0.5, 0.146447], abs=1e-5
    )
    assert [Steps(at=(0.5, 0.75), factor=0.1)(t, 4) for t in range(4)] == pytest.approx(
        [1, 1, 0.1, 0.01]
    )
    assert Constant()(3, 9) == 1


def test_dropout_keeps_the_mean_and_its_rate():
    class Probe(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.ones(1))

        def forward(self, x):
            return F.dropout(x * self.w, 0.9, self.training)

    x, rates = torch.ones(3, 50, 400), torch.tensor([0.0, 0.25, 0.75])
    means = []
    for loss in (
        lambda out, _: out.mean(),
        lambda out, _: out.square().mean(),
    ):  # gradients E y = 1 and E 2 y^2 = 2 / (1 - p)
        trained = train_population(
            Probe(),
            {"w": torch.ones(3, 1)},
            loss,
            batches=lambda _: (x, x),
            **settings(
                optimizer=SGD(0.0),
                steps=1,
                lr=torch.ones(3),
                weight_decay=torch.zeros(3),
                dropout=rates,
                seeds=SEEDS,
            ),
        )
        means.append(1 - trained.snapshots[0]["w"][:, 0])
    torch.testing.assert_close(means[0], torch.ones(3), rtol=0, atol=0.03)
    torch.testing.assert_close(means[1], 2 / (1 - rates), rtol=0.05, atol=0)


def test_a_member_that_diverges_stands_still_and_says_since_when():
    x = torch.randn(2, 40, 36, generator=torch.Generator().manual_seed(0))
    found = train_population(
        MAKERS["mlp"](),
        initial_population(MAKERS["mlp"], [0, 1]),
        F.mse_loss,
        batches=lambda _: (x, torch.zeros(2, 40, 5)),
        **settings(
            optimizer=SGD(),
            steps=40,
            lr=torch.tensor([1e-2, 1e4]),
            weight_decay=torch.zeros(2),
            snapshots=(30, 40),
        ),
    )
    assert found.diverged[0] == -1
    assert 0 < found.diverged[1] < 30
    assert found.finite.tolist() == [True, False]
    early, late = (params.unstack(snapshot)[1] for snapshot in found.snapshots)
    assert_close(late, early, rtol=0, atol=0, equal_nan=True)


def test_without_replacement_every_example_is_read_once_per_epoch_in_another_order():
    sampled = SampledBatches(
        torch.zeros(40, 1),
        torch.zeros(40),
        SEEDS,
        batch_size=8,
        fraction=torch.tensor([1.0, 0.5, 0.2]),
        replacement=False,
    )
    read = torch.cat([sampled.indices(step) for step in range(10)], 1)
    for i, size in enumerate((40, 20, 8)):
        epochs = read[i].view(-1, size)
        assert all(len(set(epoch.tolist())) == size for epoch in epochs)
        assert torch.equal(epochs[0].sort().values, epochs[1].sort().values)
        assert not torch.equal(epochs[0], epochs[1])


def test_keyed_permutations_are_bijections_and_differ_by_key():
    for size in (1, 2, 3, 17, 64, 1000):
        found = counter.permutation(
            torch.arange(size), torch.tensor(size), torch.arange(4)[:, None], 9
        )
        assert torch.equal(found.sort(1).values, torch.arange(size).expand(4, size))
    assert not torch.equal(found[0], found[1])
    ranks = counter.permutation(
        torch.zeros(1).long(), torch.tensor(10), torch.arange(20_000)[:, None]
    )
    assert torch.bincount(ranks[:, 0]).sub(2000).abs().max() < 250


def test_label_noise_changes_that_share_of_labels_once_and_for_all():
    labels = torch.arange(2000) % 10
    sampled = SampledBatches(
        torch.arange(2000.0)[:, None],
        labels,
        torch.arange(2),
        batch_size=2000,
        fraction=torch.ones(2),
        label_noise=torch.tensor([0.0, 0.5]),
        replacement=False,
    )
    (x, y), (again, z) = sampled(0), sampled(1)
    assert torch.equal(y[0], labels[x[0, :, 0].long()])
    wrong = (y[1] != labels[x[1, :, 0].long()]).float().mean()
    assert 0.4 < wrong < 0.5  # a tenth of the drawn labels is the old one
    assert torch.equal(y[1][x[1, :, 0].argsort()], z[1][again[1, :, 0].argsort()])


def test_augmentation_is_shifts_turns_and_noise_of_its_size():
    image = torch.zeros(1, 400, 1, 9, 9)
    image[..., 4, 4] = 1
    keys = counter.bits(3, torch.arange(400))[None]
    shifted = Augment(shift=2)(image, keys)[0, :, 0]
    assert torch.equal(shifted.sum((1, 2)), torch.ones(400))
    assert sorted(set(shifted.flatten(1).argmax(1).tolist())) == [
        9 * r + c for r in range(2, 7) for c in range(2, 7)
    ]
    torch.testing.assert_close(
        Augment(rotation=45.0)(image, keys)[..., 4, 4], torch.ones(1, 400, 1)
    )
    line = torch.zeros(1, 400, 1, 9, 9)
    line[..., 4, :] = 1
    assert Augment(rotation=45.0)(line, keys).flatten(2).std(1).max() > 0.2
    noisy = Augment(noise=0.5)(image, keys) - image
    assert abs(noisy.std() - 0.5) < 0.01
    assert abs(noisy.mean()) < 0.01


@pytest.mark.parametrize("scheme", [name for name in SCHEMES if name != "own"])
def test_a_scheme_draws_weights_anew_and_leaves_biases(scheme):
    own, drawn = (
        initial_population(MAKERS["cnn"], [3, 4], scheme=name) for name in ("own", scheme)
    )
    for name, tensor in own.items():
        assert torch.equal(drawn[name], tensor) == name.endswith("bias")
    torch.manual_seed(4)
    model = MAKERS["cnn"]()
    SCHEMES[scheme](model.convs[0].weight)
    assert torch.equal(drawn["convs.0.weight"][1], model.convs[0].weight)


COMPILED = {
    "siren": (lambda: siren([2, 5, 1]), "fields"),
    "cnn with dropout": (MAKERS["cnn"], "images"),
}


@pytest.mark.parametrize(
    "case", ["siren", pytest.param("cnn with dropout", marks=pytest.mark.slow)]
)
def test_compiled_steps_are_the_plain_ones(case):
    make, kind = COMPILED[case]
    axis = torch.linspace(-1, 1, 5)
    coordinates, values = torch.cartesian_prod(axis, axis).expand(3, -1, -1), torch.rand(3, 25, 1)
    data, loss = (
        ((lambda _: (coordinates, values)), F.mse_loss)
        if kind == "fields"
        else (batches(torch.arange(3)), F.cross_entropy)
    )
    engine = Engine(compiled=True)
    plain, fast = (
        train_population(
            make(),
            initial_population(make, [1, 2, 3]),
            loss,
            batches=data,
            **settings(
                optimizer=AdamW(),
                lr=LR,
                clip=1.0,
                weight_decay=DECAY,
                seeds=SEEDS,
                steps=6,
                chunk=2,
                engine=each,
            ),
        )
        for each in (Engine(compiled=False), engine)
    )
    assert_close(fast.snapshots[0], plain.snapshots[0], rtol=1e-4, atol=1e-5)
    assert len(engine.kept) == 1, "chunks of one size share what was compiled"


def test_a_short_job_is_not_compiled_and_a_long_one_is(monkeypatch):
    def never(self, function, example):
        raise AssertionError("compiled")

    monkeypatch.setattr(Engine, "_compile", never)
    train(torch.arange(3))
    with pytest.raises(AssertionError, match="compiled"):
        train(torch.arange(3), engine=Engine(repeats=10**7))


def test_without_a_compiler_everything_runs_with_one_notice(monkeypatch):
    from torch._dynamo.exc import BackendCompilerFailed

    def broken(graph, **options):
        def run(*arguments):
            raise BackendCompilerFailed(broken, RuntimeError("No working C++ compiler found"), None)

        return run

    monkeypatch.setattr(torch, "compile", broken)
    with pytest.warns(
        RuntimeWarning, match="no working C.. compiler, so populations train uncompiled"
    ) as notices:
        fast = train(torch.arange(3), engine=Engine(compiled=True), chunk=2)
    assert len(notices) == 1
    assert_close(fast.snapshots[0], train(torch.arange(3), chunk=2).snapshots[0], rtol=0, atol=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(torch.arange(3))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"momentum": torch.ones(3, 1), "optimizer": SGD()},
            r"momentum: has shape \(3, 1\), but 3 members need \(3,\)",
        ),
        (
            {"schedule": [Constant()]},
            "schedule: 1 given for 3 members; give one for all, or one each",
        ),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ZooError, match=message):
        train_population(
            mlp([36, 7, 5]),
            start(MAKERS["mlp"], torch.arange(3)),
            F.cross_entropy,
            batches=batches(torch.arange(3)),
            **settings(lr=LR, weight_decay=DECAY, steps=2, **{"optimizer": AdamW(), **options}),
        )


def test_an_unknown_scheme_is_refused():
    with pytest.raises(ZooError, match="scheme: 'zeros' is not one of own, xavier_uniform"):
        initial_population(MAKERS["mlp"], [0], scheme="zeros")


def test_dropout_between_recurrent_layers_is_refused():
    layer = nn.GRU(6, 4, 2, dropout=0.5)
    with pytest.raises(
        ZooError,
        match="recurrent layers with dropout between them cannot be trained as a population",
    ):
        train_population(
            nn.Sequential(layer),
            initial_population(lambda: nn.Sequential(nn.GRU(6, 4, 2, dropout=0.5)), [0]),
            lambda out, _: out[0].mean(),
            batches=lambda _: (torch.zeros(1, 5, 2, 6), torch.zeros(1)),
            **settings(optimizer=SGD(), lr=torch.ones(1), weight_decay=torch.zeros(1), steps=1),
        )
