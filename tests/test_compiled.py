"""Compiled training: the same results to rounding, only where it pays, and a notice where there is no compiler."""

import pytest
import torch
from networks import BY_NAME

from wsl import training
from wsl.nn import UNF, EquivariantLinear
from wsl.nn.encode import encoded
from wsl.nn.layout import Layout
from wsl.training import compiled
from wsl.zoo import Zoo

NETWORK = BY_NAME["mlp"]


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    theta = NETWORK.weights(40, seed=1)
    models = [{name: tensor[i] for name, tensor in theta.items()} for i in range(40)]
    path = tmp_path_factory.mktemp("zoo") / "mlp.h5"
    return Zoo.from_models(path, models, spec=NETWORK.spec, metadata={"label": [i % 2 for i in range(40)]})


def train(zoo, compile):
    torch.manual_seed(0)
    network = UNF(zoo.spec, out_features=2, hidden=4, layers=1, head_hidden=8)
    settings = training.Settings(epochs=2, batch_size=8, compile=compile)
    return training.fit(network, zoo, training.LabelClassification(classes=2), settings=settings), network


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
    assert all(torch.equal(short[1].state_dict()[name], tensor) for name, tensor in plain[1].state_dict().items())


def test_long_training_is_compiled_for_full_batches_alone(monkeypatch):
    network, seen = UNF(NETWORK.spec, hidden=4, layers=1), []
    monkeypatch.setattr(torch, "compile", lambda module, **_: lambda theta: seen.append(1) or module(theta))
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
    with pytest.warns(RuntimeWarning, match="no working C.. compiler, so the network trains uncompiled") as notices:
        fast = train(zoo, True)
    assert len(notices) == 1
    torch.testing.assert_close(losses(fast), losses(train(zoo, False)), rtol=0, atol=0)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the compiler's own imports
@pytest.mark.parametrize("fixed", ["encoded", "exact"])
@pytest.mark.parametrize("name", ["siren", "cnn", "tied", "attention"])
def test_a_compiled_layer_and_its_gradients_are_the_plain_ones(name, fixed):
    spec = BY_NAME[name].spec
    layer = EquivariantLinear(spec, 3, 5, fixed=fixed)
    x = {n: torch.randn(4, *s, 3, requires_grad=True) for n, s in spec.shapes.items()}

    def run(module):
        out = list(module(x).values())
        return out + list(torch.autograd.grad(sum(y.square().sum() for y in out), [*x.values(), *layer.parameters()]))

    for fast, plain in zip(run(torch.compile(layer, fullgraph=True, dynamic=False)), run(layer), strict=True):
        torch.testing.assert_close(fast, plain, rtol=1e-3, atol=1e-4)


def test_kernels_with_encoded_positions_are_folded_and_sirens_are_not():
    counts = {name: len(EquivariantLinear(BY_NAME[name].spec, 1, 1, fixed="encoded").map.folds) for name in ("cnn", "siren")}
    assert counts == {"cnn": sum(len(b.space) == 4 for b in Layout(encoded(BY_NAME["cnn"].spec)).blocks), "siren": 0}
    assert counts["cnn"] > 0
