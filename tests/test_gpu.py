"""On an accelerator everything gives what it gives on the processor, to rounding. Marked gpu:
``pytest -m gpu``.
"""

import functools

import pytest
import torch
from networks import BY_NAME, DEEP, NETWORKS
from test_recipes import classifier, field

from wsl import training
from wsl.augment import MixUp
from wsl.matching import ActivationMatching, match, match_many
from wsl.nn import (
    NFN,
    NFT,
    UNF,
    DWSNet,
    EquivariantNet,
    FlatMLP,
    GraphMetanetwork,
    NFNEdit,
    ProbeNet,
    ScaleGMN,
    StatNet,
    WeightTokens,
)
from wsl.populations import Processes, Serial, TaskPopulation
from wsl.symmetry import SignedBatch
from wsl.training import LabelClassification, Settings, Variety
from wsl.zoo import Resident, Zoo, ZooError

pytestmark = pytest.mark.gpu
CUDA = torch.device("cuda")
READERS = [
    StatNet,
    FlatMLP,
    DWSNet,
    NFN,
    UNF,
    NFT,
    GraphMetanetwork,
    ScaleGMN,
    functools.partial(UNF, gated=True),
]


def named(make):
    return getattr(make, "__name__", "gated UNF")


def there(params):
    return {name: tensor.to(CUDA) for name, tensor in params.items()}


def assert_same(found, expected, tolerance=1e-9):
    assert found.device.type == CUDA.type
    torch.testing.assert_close(found.cpu(), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("network", [*NETWORKS, *DEEP], ids=lambda n: n.name)
@pytest.mark.parametrize("make", READERS, ids=named)
def test_a_functional_and_its_gradients_are_those_of_the_processor(network, make):
    torch.manual_seed(0)
    try:
        net = make(network.spec, hidden=4, out_features=3).double()
    except ValueError as error:
        pytest.skip(str(error))
    theta = network.weights(3, dtype=torch.float64)
    expected = net(theta)
    expected.square().sum().backward()
    grads = {
        name: weight.grad.clone()
        for name, weight in net.named_parameters()
        if weight.grad is not None
    }
    net.zero_grad()
    net.to(CUDA)
    outputs = net(there(theta))
    assert_same(outputs.detach(), expected.detach())
    outputs.square().sum().backward()
    for name, weight in net.named_parameters():
        if name in grads:
            assert_same(weight.grad, grads[name], 1e-6)


@pytest.mark.parametrize(
    "make", [EquivariantNet, NFNEdit, functools.partial(EquivariantNet, heads=2)], ids=str
)
def test_an_edit_is_that_of_the_processor(make):
    network = BY_NAME["siren"]
    net, theta = make(network.spec, hidden=4).double(), network.weights(3, dtype=torch.float64)
    expected = net(theta)
    found = net.to(CUDA)(there(theta))
    for name in expected:
        assert_same(found[name].detach(), expected[name].detach())


def test_probes_and_tokens_run_there():
    network = BY_NAME["mlp"]
    theta = network.weights(3, dtype=torch.float64)
    for net in (
        WeightTokens(network.spec, out_features=3).double().eval(),
        ProbeNet(network.spec, network.make(), network.input_shape, out_features=3).double().eval(),
    ):
        expected = net(theta)
        assert_same(net.to(CUDA)(there(theta)).detach(), expected.detach(), 1e-6)


def test_activations_are_matched_as_on_the_processor():
    network = BY_NAME["residual"]
    a, b, x = network.weights(seed=1), network.weights(seed=2), network.inputs(60)
    here = match(network.spec, a, b, ActivationMatching(x, network.make()))
    found = match(network.spec, there(a), there(b), ActivationMatching(x, network.make()))
    assert found.permutation == here.permutation
    assert found.objective == pytest.approx(here.objective, rel=1e-4)


def test_signs_and_permutations_and_mixing_are_those_of_the_processor():
    network = BY_NAME["siren"]
    theta = network.weights(5, dtype=torch.float64)
    elements = SignedBatch.random(
        network.spec, 5, ["h1", "h2"], generator=torch.Generator().manual_seed(0)
    )
    assert match_many(
        network.spec, network.weights(), there(theta), odd=["h1"]
    ).permutation.element(0) == match_many(
        network.spec, network.weights(), theta, odd=["h1"]
    ).permutation.element(0)
    for here, found in (
        (elements(theta), elements(there(theta))),
        (
            MixUp()(theta, torch.Generator().manual_seed(0)).params,
            MixUp()(there(theta), torch.Generator().manual_seed(0)).params,
        ),
    ):
        for name in here:
            assert_same(found[name], here[name])


@pytest.mark.parametrize(
    "executor", [Serial(device="cuda"), Processes(2, device="cuda")], ids=["serial", "processes"]
)
@pytest.mark.parametrize("name", ["fields", "classifiers", "tasks"])
def test_a_population_is_that_of_the_processor(tmp_path, name, executor):
    tasks = {
        "classes": 3,
        "architecture": {"_target_": "wsl.zoo.architectures.mlp", "widths": [64, 6, 3]},
    }
    make = {
        "fields": field,
        "classifiers": functools.partial(classifier, dropout=(0.1, 0.5), label_noise=(0.0, 0.5)),
        "tasks": lambda: TaskPopulation(
            **(
                {
                    f: getattr(classifier(), f)
                    for f in ("task", "members", "steps", "snapshots", "batch_size", "chunk", "lr")
                }
                | tasks
            )
        ),
    }[name]
    here, there_ = (
        make().build(tmp_path / "cpu.h5"),
        make().build(tmp_path / "gpu.h5", executor=executor),
    )
    assert here.provenance["hash"] == there_.provenance["hash"]
    rows = range(len(here))
    for name in here.shapes:
        torch.testing.assert_close(there_[rows][0][name], here[rows][0][name], rtol=5e-3, atol=2e-3)
    for name, values in here[rows][1].items():
        torch.testing.assert_close(
            there_[rows][1][name].double(), values.double(), rtol=2e-2, atol=2e-2
        )


@pytest.mark.parametrize("mixup", [None, "direct", "aligned"])
def test_training_there_learns_and_is_scored_alike(tmp_path, mixup):
    network = BY_NAME["siren"]
    models = [{k: t[i] for k, t in network.weights(60, seed=1).items()} for i in range(60)]
    zoo = Zoo.from_models(
        tmp_path / "z.h5", models, spec=network.spec, metadata={"label": [i % 2 for i in range(60)]}
    )
    net, objective = UNF(zoo.spec, hidden=4, out_features=2), LabelClassification(classes=2)
    variety = Variety(mixup=mixup, noise=0.1, permutation=True)
    trained = training.fit(
        net, zoo, objective, settings=Settings(epochs=3, batch_size=16), variety=variety
    )
    assert next(net.parameters()).device.type == "cuda"
    assert len(trained.history) == 3
    scores, _ = training.evaluate(net, zoo, objective)
    again, _ = training.evaluate(net.cpu(), zoo, objective)
    assert scores == pytest.approx(again, abs=1e-4)
    assert Resident(zoo, "cuda")[:2][0]["layers.0.weight"].device.type == "cuda"


def test_a_device_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ZooError, match=r"executor\.device: 'cuda:99' cannot be used here"):
        field().build(tmp_path / "z.h5", executor=Serial(device="cuda:99"))


@pytest.mark.parametrize(
    "make", [UNF, ScaleGMN, DWSNet, functools.partial(NFN, fixed="encoded")], ids=str
)
def test_recorded_steps_train_as_launched_ones_do(tmp_path, make):
    network = BY_NAME["siren"]
    models = [{k: t[i] for k, t in network.weights(60, seed=1).items()} for i in range(60)]
    zoo = Zoo.from_models(
        tmp_path / "z.h5", models, spec=network.spec, metadata={"label": [i % 2 for i in range(60)]}
    )
    histories = []
    for capture in (False, True):
        torch.manual_seed(0)
        net = make(zoo.spec, hidden=4, out_features=2)
        settings = Settings(epochs=3, batch_size=16, capture=capture)
        histories.append(
            training.fit(net, zoo, LabelClassification(classes=2), settings=settings).history
        )
    assert histories[1][-1] == pytest.approx(histories[0][-1], rel=1e-3)
