"""Which training members a run uses, whatever else it does."""

import numpy as np
import pytest
import torch
from networks import BY_NAME

from wsl import training
from wsl.nn import DWSNet, Standardize, StatNet
from wsl.zoo import Zoo

NETWORK = BY_NAME["mlp"]


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    models = [{k: t[i] for k, t in NETWORK.weights(50, seed=1).items()} for i in range(50)]
    path = tmp_path_factory.mktemp("zoo") / "mlp.h5"
    return Zoo.from_models(
        path, models, spec=NETWORK.spec, metadata={"label": [i % 2 for i in range(50)]}
    )


def test_a_smaller_share_of_the_training_members_is_part_of_a_larger_one(zoo):
    rows = {
        share: set(training.training_rows(zoo, share).tolist()) for share in (0.01, 0.1, 0.5, 1.0)
    }
    assert [len(rows[share]) for share in rows] == [1, 4, 20, 40]
    assert rows[0.01] < rows[0.1] < rows[0.5] < rows[1.0] == set(zoo.indices("train").tolist())


@pytest.mark.parametrize("share", [0, -0.1, 1.5])
def test_a_share_outside_of_its_range_is_refused(zoo, share):
    with pytest.raises(ValueError, match=rf"fraction is {share}, but it must lie in \(0, 1\]"):
        training.training_rows(zoo, share)


def test_a_run_on_a_share_sees_neither_weights_nor_statistics_of_the_other_members(zoo):
    seen = []

    class Watched(StatNet):
        def forward(self, params):
            if self.training:
                seen.append(params["0.weight"].clone())
            return super().forward(params)

    network = Watched(zoo.spec, out_features=2, hidden=4)
    training.fit(
        network,
        zoo,
        training.LabelClassification(classes=2),
        settings=training.Settings(epochs=1, fraction=0.1),
    )
    rows = training.training_rows(zoo, 0.1)
    expected, _ = zoo.__getitems__(rows)
    assert sorted(t.sum().item() for t in torch.cat(seen)) == sorted(
        t.sum().item() for t in expected["0.weight"]
    )
    assert np.isclose(
        network.normalizer.mean[0].item(), expected["0.weight"].mean().item(), atol=1e-6
    )


def test_a_gradient_that_is_not_finite_is_named_by_its_step(zoo):
    class Broken(StatNet):
        steps = 0

        def forward(self, params):
            self.steps += self.training
            return super().forward(params) * (
                torch.inf if self.training and self.steps == 3 else 1.0
            )

    network = Broken(zoo.spec, out_features=2, hidden=4)
    settings = training.Settings(epochs=2, batch_size=10)
    with pytest.raises(
        ValueError, match="the gradient is not finite in epoch 0, step 2; lower the learning rate"
    ):
        training.fit(network, zoo, training.LabelClassification(classes=2), settings=settings)


@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_heads_are_evaluated_with_statistics_of_what_training_reads_under_the_weights_kept(
    zoo, noise
):
    torch.manual_seed(0)
    network = DWSNet(zoo.spec, out_features=2, hidden=3, layers=1)
    how = {
        "settings": training.Settings(epochs=3, lr=0.1),
        "variety": training.Variety(noise=noise),
    }
    training.fit(network, zoo, training.LabelClassification(classes=2), **how)
    part, seen = next(part for part in network.modules() if isinstance(part, Standardize)), []
    part.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].detach()))
    network.eval()(zoo.__getitems__(training.training_rows(zoo, 1.0))[0])
    far = ((part.mean - seen[0].mean(0)) / part.variance.sqrt()).abs()
    assert (far.max() < 1e-4) == (noise == 0)
    assert far.max() < 1.5
