"""Training with augmentation and MixUp: the batch that a functional sees, and the loss that it is
given.
"""

import pytest
import torch
from networks import BY_NAME

from wsl import training
from wsl.nn import UNF
from wsl.params import unstack
from wsl.symmetry import PermutationBatch, SignedBatch
from wsl.zoo import Zoo

NETWORK = BY_NAME["mlp"]


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    """Sixty networks, of three kinds that a mean weight tells apart."""
    rng = torch.Generator().manual_seed(0)
    labels = torch.arange(60) % 3
    models = [
        {k: t[r] + 0.5 * label for k, t in NETWORK.weights(60, seed=1).items()}
        for r, label in enumerate(labels)
    ]
    orbit = PermutationBatch.random(NETWORK.spec, 60, rng)
    models = [orbit.element(r)(one) for r, one in enumerate(models)]
    path = tmp_path_factory.mktemp("zoo") / "mlp.h5"
    return Zoo.from_models(path, models, spec=NETWORK.spec, metadata={"label": labels.tolist()})


def train(zoo, **variety):
    torch.manual_seed(0)
    network = UNF(zoo.spec, out_features=3, hidden=4, layers=1, head_hidden=8)
    settings = training.Settings(epochs=8, batch_size=16, lr=1e-2)
    objective = training.LabelClassification(classes=3)
    return training.fit(
        network, zoo, objective, settings=settings, variety=training.Variety(**variety)
    ), network


VARIETIES = [
    {"mixup": "direct"},
    {"mixup": "randomised", "alpha": 0.3},
    {"mixup": "aligned"},
    {"noise": 0.1, "dropout": 0.05, "quantile": 0.1, "permutation": True},
]


@pytest.mark.parametrize("variety", VARIETIES, ids=str)
def test_training_with_variety_learns_and_differs_from_training_without(zoo, variety):
    plain, varied = train(zoo)[0].history, train(zoo, **variety)[0].history
    assert varied[-1]["train_loss"] < varied[0]["train_loss"]
    assert [row["train_loss"] for row in varied] != [row["train_loss"] for row in plain]
    assert varied == train(zoo, **variety)[0].history


def test_the_loss_of_a_mixed_batch_is_that_of_mixed_targets():
    objective = training.LabelClassification(classes=3)
    outputs, labels = (
        torch.randn(4, 3, generator=torch.Generator().manual_seed(0)),
        torch.tensor([0, 2, 1, 1]),
    )
    weight, partner = torch.tensor([0.0, 1.0, 0.3, 0.5]), torch.tensor([1, 2, 3, 0])
    hot = torch.eye(3)[labels]
    soft = torch.lerp(hot[partner], hot, weight[:, None])
    batch = training.augmentation.Batch({}, weight, partner)
    mixed = batch.loss(objective, outputs, {"label": labels})
    torch.testing.assert_close(mixed, torch.nn.functional.cross_entropy(outputs, soft))


def test_alignment_moves_checkpoints_within_their_orbit(zoo):
    rows = zoo.indices("train")
    prepared = training.Variety(mixup="aligned").prepare(zoo, rows)
    theta, _ = zoo.__getitems__(rows)
    aligned = prepared.alignment(theta, torch.arange(len(rows)))
    for name, tensor in theta.items():
        torch.testing.assert_close(
            aligned[name].flatten(1).sort(1).values, tensor.flatten(1).sort(1).values
        )
    spread = (
        sum(float(t.var(0).sum()) for t in aligned.values()),
        sum(float(t.var(0).sum()) for t in theta.values()),
    )
    assert spread[0] < spread[1]


def test_aligned_mixup_with_odd_groups_mixes_units_whose_signs_agree(tmp_path):
    network = BY_NAME["siren"]
    near = {
        k: t + 0.01 * torch.randn(20, *t.shape, generator=torch.Generator().manual_seed(1))
        for k, t in network.weights().items()
    }
    moved = SignedBatch.random(
        network.spec, 20, ["h1", "h2"], generator=torch.Generator().manual_seed(2)
    )(near)
    zoo = Zoo.from_models(
        tmp_path / "siren.h5", unstack(moved), spec=network.spec, metadata={"label": [0] * 20}
    )
    rows = zoo.indices()
    theta, where = zoo.__getitems__(rows)[0], torch.arange(20)

    def spread(odd):
        variety = training.Variety(mixup="aligned", odd=odd)
        mixed = variety.prepare(zoo, rows)(theta, where, torch.Generator().manual_seed(3)).params
        return max(float(t.std(0).max()) for t in mixed.values())

    assert spread(["h1", "h2"]) < 0.02
    assert spread([]) > 0.2


def test_input_maps_need_a_first_layer(zoo):
    prepared = training.Variety(rotate=20.0).prepare(zoo, zoo.indices("train"))
    theta, _ = zoo.__getitems__(zoo.indices("train")[:4])
    with pytest.raises(ValueError, match="rotation needs shape"):
        prepared(theta, torch.arange(4), torch.Generator())


def test_an_unknown_kind_of_mixup_is_refused():
    with pytest.raises(ValueError, match="choose null, direct, randomised or aligned"):
        training.Variety(mixup="align")
