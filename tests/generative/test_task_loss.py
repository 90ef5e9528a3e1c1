"""The term through the task's loss: drawn codes decode to networks that work."""

import dataclasses

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from wsl.generative import (
    CorrectedPCA,
    FlowMatching,
    LatentDiffusion,
    Recalibration,
    TaskLoss,
    TrainingMembers,
    WeightDiffusion,
    WeightPCA,
)
from wsl.params import call, from_module, is_learned, is_running_statistic, stack, unstack
from wsl.symmetry import permutation_spec


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def quadrants(n=240):
    """Two classes that no linear map tells apart: points whose signs agree, and the others."""
    inputs = 2 * torch.rand(n, 2, generator=rng()) - 1
    return inputs, (inputs.prod(1) > 0).long()


def network():
    return nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))


@pytest.fixture(scope="module")
def members():
    """Twelve networks of different seeds, trained side by side, with measured statistics."""
    inputs, labels = quadrants()
    torch.manual_seed(0)
    params = stack([from_module(network()) for _ in range(12)])
    learned = [name for name, tensor in params.items() if is_learned(name, tensor)]
    loss, batches = TaskLoss(network(), inputs, labels, batch_size=100), rng()
    for _ in range(400):
        theta = {name: params[name].clone().requires_grad_() for name in learned}
        steps = torch.autograd.grad(12 * loss({**params, **theta}, batches), list(theta.values()))
        params |= {n: params[n] - 0.5 * step for n, step in zip(learned, steps, strict=True)}
    params = Recalibration().fit(network(), inputs)(params)
    return TrainingMembers(params, model=network().eval(), inputs=inputs, labels=labels)


@pytest.fixture(scope="module")
def spec():
    return permutation_spec(network().eval(), torch.zeros(2, 2))


SIZE = {"conditions": 0, "latent": 4, "hidden": 16, "blocks": 1}
KINDS = {
    "autoencoder": lambda spec: LatentDiffusion(spec, code="WeightVAE", **SIZE),
    "corrected": lambda spec: LatentDiffusion(spec, code=CorrectedPCA, **SIZE),
    "linear": lambda spec: FlowMatching(spec, **SIZE),
    "weights": lambda spec: WeightDiffusion(spec, channels=4, blocks=1),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_weight_of_zero_changes_no_byte_and_another_weight_does(kind, members, spec):
    def drawn(task_loss):
        made = KINDS[kind](spec)
        made.fit(members, code_steps=2, steps=2, task_loss=task_loss)
        return made.sample(3, steps=2, generator=rng())

    without, zero, some = drawn(None), drawn(0.0), drawn(3.0)
    for name, tensor in without.items():
        assert torch.equal(tensor, zero[name]), name
    assert any(not torch.equal(tensor, some[name]) for name, tensor in without.items())


def test_the_loss_is_that_of_each_network_run_by_itself(members):
    inputs, labels = members.inputs[:32], members.labels[:32]
    some = members.rows(torch.arange(3))
    measured = TaskLoss(members.model, inputs, labels, batch_size=9, weight=2.0)
    rows = torch.randint(32, (9,), generator=rng())
    model = network().train()
    own = [F.cross_entropy(call(model, t, inputs[rows]), labels[rows]) for t in unstack(some)]
    torch.testing.assert_close(measured(some, rng()), 2.0 * torch.stack(own).mean())
    kept = TaskLoss(members.model, inputs, labels, batch_size=9, measured=False)
    own = [
        F.cross_entropy(call(network().eval(), t, inputs[rows]), labels[rows])
        for t in unstack(some)
    ]
    torch.testing.assert_close(kept(some, rng()), torch.stack(own).mean())


def test_statistics_get_gradients_only_where_they_are_used(members):
    for measured in (True, False):
        theta = {
            name: t.clone().requires_grad_() if t.is_floating_point() else t
            for name, t in members.params.items()
        }
        term = TaskLoss(members.model, members.inputs, members.labels, measured=measured)
        term(theta, rng()).backward()
        for name, tensor in theta.items():
            if tensor.is_floating_point():
                reached = tensor.grad is not None and bool(tensor.grad.abs().max() > 0)
                assert reached is not (measured and is_running_statistic(name)), name
    assert isinstance(members.model[1], nn.BatchNorm1d)  # the user's model is left alone


def test_no_more_networks_are_run_than_asked_for(members):
    few = TaskLoss(members.model, members.inputs, members.labels, networks=2)
    first = members.rows(torch.arange(2))
    assert torch.equal(few(members.params, rng()), few(first, rng()))


# a planted case: components destroy the function, the term restores it


def accuracy(made, members, n=16):
    drawn = made.sample(n, generator=rng())
    model = network().eval()
    said = torch.stack([call(model, theta, members.inputs) for theta in unstack(drawn)])
    return float((said.argmax(-1) == members.labels).float().mean())


def test_draws_of_components_do_not_work_and_corrected_ones_do(members, spec):
    """Members in any order of units, not aligned, have a mean that is no network."""

    def fitted(code, **terms):
        made = FlowMatching(spec, latent=8, code=code, align=False, recalibrate=True)
        made.fit(members, steps=1, code_steps=150, **terms)
        return accuracy(made, members)

    plain, corrected = fitted(WeightPCA), fitted(CorrectedPCA, task_loss=3.0)
    assert accuracy_of_members(members) > 0.9
    assert plain < 0.75
    assert corrected > 0.88


def accuracy_of_members(members):
    said = call(network().eval(), members.params, members.inputs)
    return float((said.argmax(-1) == members.labels).float().mean())


# what it needs, and its file


def test_what_the_term_lacks_is_named(members, spec):
    made = FlowMatching(spec, **SIZE)
    bare = dataclasses.replace(members, labels=None)
    with pytest.raises(ValueError, match="task_loss: the training members come without model, inp"):
        made.fit(bare, task_loss=1.0)
    with pytest.raises(
        ValueError, match=r"labels: shape \(5,\), but one class for each of the 240"
    ):
        TaskLoss(members.model, members.inputs, members.labels[:5])
    with pytest.raises(ValueError, match=r"'CorectedPCA' does not exist .*'CorrectedPCA'"):
        FlowMatching(spec, code="CorectedPCA")


def test_a_corrected_code_starts_as_its_components_and_survives_its_file(members, spec, tmp_path):
    made = FlowMatching(spec, code="CorrectedPCA", **SIZE)
    linear = FlowMatching(spec, code="WeightPCA", **SIZE)
    for generator in (made, linear):
        generator.fit(members, steps=1, code_steps=2, task_loss=0.0)
    z = made.encode(members.params)
    assert torch.allclose(z, linear.encode(members.params), atol=1e-4)
    found, plain = made.decode(z)["0.weight"], linear.decode(z)["0.weight"]
    assert torch.allclose(found, plain, atol=0.1)
    made.save(tmp_path / "generator.safetensors")
    again = FlowMatching.load(tmp_path / "generator.safetensors")
    assert isinstance(again.code, CorrectedPCA)
    assert torch.equal(again.decode(z)["0.weight"], found)
