"""Compiled training: the same results to rounding, only where it pays, and a notice where there is
no compiler.
"""

import copy

import pytest
import torch
from networks import BY_NAME

from wsl import training
from wsl.nn import NFN, UNF, DWSNet, EquivariantLinear
from wsl.nn.engine.encode import encoded
from wsl.nn.engine.layout import BlockLayout
from wsl.training.loop import compiled
from wsl.zoo import Zoo

NETWORK = BY_NAME["mlp"]


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    theta = NETWORK.weights(40, seed=1)
    models = [{name: tensor[i] for name, tensor in theta.items()} for i in range(40)]
    path = tmp_path_factory.mktemp("zoo") / "mlp.h5"
    return Zoo.from_models(
        path, models, spec=NETWORK.spec, metadata={"label": [i % 2 for i in range(40)]}
    )


def train(zoo, compile):
    torch.manual_seed(0)
    network = UNF(zoo.spec, out_features=2, hidden=4, layers=1, head_hidden=8)
    settings = training.Settings(epochs=2, batch_size=8, compile=compile)
    return training.fit(
        network, zoo, training.LabelClassification(classes=2), settings=settings
    ), network


def losses(fitted):
    return torch.tensor([row["train_loss"] for row in fitted[0].history])


@pytest.mark.slow
def test_compiled_training_is_plain_training_to_rounding(zoo):
    plain, fast = train(zoo, False), train(zoo, True)
    torch.testing.assert_close(losses(fast), losses(plain), rtol=1e-3, atol=1e-4)
    assert list(fast[1].state_dict()) == list(plain[1].state_dict())


def test_short_training_is_not_compiled_and_leaves_the_network_as_it_was(zoo, monkeypatch):
    monkeypatch.setattr(torch, "compile", None)  # calling it would be an error
    short, plain = train(zoo, None), train(zoo, False)
    assert short[0] == plain[0]
    assert all(
        torch.equal(short[1].state_dict()[name], tensor)
        for name, tensor in plain[1].state_dict().items()
    )


def test_long_training_is_compiled_for_full_batches_alone(monkeypatch):
    network, seen = UNF(NETWORK.spec, hidden=4, layers=1), []
    monkeypatch.setattr(
        torch, "compile", lambda module, **_: lambda theta: seen.append(1) or module(theta)
    )
    assert compiled.prepare(network, NETWORK.weights(8), compiled=None, steps=100) is network
    fast = compiled.prepare(network, NETWORK.weights(8), compiled=None, steps=10**9).train()
    fast(NETWORK.weights(8))
    fast(NETWORK.weights(7))
    fast.eval()(NETWORK.weights(8))
    assert seen == [1]


def test_without_a_compiler_a_network_trains_uncompiled_with_one_notice(zoo, monkeypatch):
    from torch._dynamo.exc import BackendCompilerFailed

    def broken(module, **options):
        def run(theta):
            raise BackendCompilerFailed(broken, RuntimeError("No working C++ compiler found"), None)

        return run

    monkeypatch.setattr(torch, "compile", broken)
    with pytest.warns(
        RuntimeWarning, match="no working C.. compiler, so the network trains uncompiled"
    ) as notices:
        fast = train(zoo, True)
    assert len(notices) == 1
    torch.testing.assert_close(losses(fast), losses(train(zoo, False)), rtol=0, atol=0)


@pytest.mark.slow
@pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning"
)  # the compiler's own
@pytest.mark.parametrize("fixed", ["encoded", "exact"])
@pytest.mark.parametrize("name", ["siren", "cnn", "tied", "attention"])
def test_a_compiled_layer_and_its_gradients_are_the_plain_ones(name, fixed):
    torch._dynamo.reset()  # the compiler takes only so many layers of one class
    spec = BY_NAME[name].spec
    layer = EquivariantLinear(spec, 3, 5, fixed=fixed)
    x = {n: torch.randn(4, *s, 3, requires_grad=True) for n, s in spec.shapes.items()}

    def run(module):
        out = list(module(x).values())
        return out + list(
            torch.autograd.grad(
                sum(y.square().sum() for y in out), [*x.values(), *layer.parameters()]
            )
        )

    for fast, plain in zip(
        run(torch.compile(layer, fullgraph=True, dynamic=False)), run(layer), strict=True
    ):
        torch.testing.assert_close(fast, plain, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("make", [DWSNet, NFN, UNF])
def test_a_compiled_classifier_its_gradients_and_its_statistics_are_the_plain_ones(make):
    spec = BY_NAME["siren"].spec
    plain = make(spec, hidden=8, layers=2, out_features=3, dropout=0.3)
    twin = copy.deepcopy(plain)
    fast = compiled.prepare(twin, BY_NAME["siren"].weights(8), compiled=True, steps=1)
    for size in (8, 5, 8):
        theta = BY_NAME["siren"].weights(size, seed=size)
        found, expected = (
            _outputs_and_gradients(run, network, theta)
            for run, network in ((fast, twin), (plain, plain))
        )
        scale = torch.cat([g.flatten() for g in expected[1]]).norm()
        torch.testing.assert_close(found[0], expected[0], rtol=1e-5, atol=1e-5)
        assert (
            max((a - b).norm() for a, b in zip(found[1], expected[1], strict=True)) < 1e-5 * scale
        )
    torch.testing.assert_close(
        dict(twin.named_buffers()), dict(plain.named_buffers()), rtol=1e-5, atol=1e-5
    )


def _outputs_and_gradients(run, network, theta):
    torch.manual_seed(0)
    outputs = run(theta)
    return outputs, torch.autograd.grad(outputs.square().sum(), list(network.parameters()))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("masked", [False, True])
def test_a_compiled_classifier_keeps_no_masks_and_a_plain_relu_would(masked, monkeypatch):
    if masked:
        monkeypatch.setattr("wsl.nn.functionals.dwsnet.relu", torch.relu)
        monkeypatch.setattr("wsl.nn.engine.pool.peak", lambda x: x.amax(0))
    torch._dynamo.reset()
    network, kept = DWSNet(BY_NAME["siren"].spec, hidden=8, layers=2), []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.dtype) or t, lambda t: t):
        torch.compile(network, dynamic=False)(BY_NAME["siren"].weights(8))
    assert (torch.bool in kept) == masked


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_compiled_network_is_compiled_once_whatever_sizes_and_modes_it_sees():
    from torch._dynamo.utils import counters

    torch._dynamo.reset()
    counters.clear()
    network = DWSNet(NETWORK.spec, hidden=4, layers=1, dropout=0.5)
    network = compiled.prepare(network, NETWORK.weights(8), compiled=True, steps=1)
    for size in (8, 7, 8, 3, 8):
        network.train()(NETWORK.weights(size, seed=size)).sum().backward()
        network.eval()(NETWORK.weights(size))
    assert counters["stats"]["unique_graphs"] == 1


def test_kernels_with_encoded_positions_are_folded_and_sirens_are_not():
    counts = {
        name: len(EquivariantLinear(BY_NAME[name].spec, 1, 1, fixed="encoded").map.folds)
        for name in ("cnn", "siren")
    }
    assert counts == {
        "cnn": sum(len(b.space) == 4 for b in BlockLayout(encoded(BY_NAME["cnn"].spec)).blocks),
        "siren": 0,
    }
    assert counts["cnn"] > 0
