"""Batch-norm reset on what users have: older files, modules with two names, wrong inputs."""

import threading

import pytest
import torch
from torch import nn

from wsl import params
from wsl.connectivity import reset_batch_norm


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))


X = torch.randn(32, 6, generator=torch.Generator().manual_seed(0))


def test_weights_from_before_there_were_counters_get_the_same_statistics():
    model = network()
    theta = params.from_module(model)
    old = {name: t for name, t in theta.items() if "num_batches_tracked" not in name}
    expected, found = (reset_batch_norm(model, weights, [X, X]) for weights in (theta, old))
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert int(found["1.num_batches_tracked"]) == 2


def test_broken_statistics_do_not_come_out_again():
    model = network()
    theta = params.from_module(model)
    theta["1.running_var"] = torch.full((8,), -1.0)
    theta["1.running_mean"] = torch.full((8,), float("nan"))
    found = reset_batch_norm(model, theta, [X])
    assert (found["1.running_var"] >= 0).all()
    assert params.call(model.eval(), found, X).isfinite().all()


def test_what_is_measured_on_broken_inputs_is_refused_by_the_tensor():
    with pytest.raises(ValueError, match=r"1\.running_mean: what was measured is not finite"):
        reset_batch_norm(network(), params.from_module(network()), [X * float("nan")])


def test_a_norm_under_two_names_is_measured_under_both():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm1d(6)
            self.alias = self.norm

        def forward(self, x):
            return self.norm(x)

    found = reset_batch_norm(Twice(), params.from_module(Twice()), [X])
    for name in ("norm", "alias"):
        assert torch.allclose(found[f"{name}.running_mean"], X.mean(0), atol=1e-6)
        assert torch.allclose(found[f"{name}.running_var"], X.var(0), atol=1e-6)


def test_a_model_that_cannot_be_deep_copied_is_measured():
    model = network()
    model.lock = threading.Lock()
    theta = params.from_module(model)
    found = reset_batch_norm(model, theta, [X])
    assert int(found["1.num_batches_tracked"]) == 1
    assert all(torch.equal(theta[name], t) for name, t in model.state_dict().items())


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (torch.randn(4, 5), r"does not run on inputs of shape \(4, 5\)"),
        (torch.zeros(4, 6, dtype=torch.long), "does not run on inputs of shape .*int64"),
        ([], "a batch is a tensor of inputs.*got list"),
        ({"x": X}, "a batch is a tensor of inputs.*got dict"),
        (3, "a batch is a tensor of inputs.*got int"),
        (torch.randn(1, 6), "more than 1 value per channel"),
    ],
)
def test_a_wrong_batch_is_one_clear_error(batch, message):
    with pytest.raises(ValueError, match=message):
        reset_batch_norm(network(), params.from_module(network()), [batch])
