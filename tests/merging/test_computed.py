"""Masks of pruning, spectral norms and weight norms through match and merge."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm

import wsl
from wsl.merging import Average, masked, merge, renewed
from wsl.params import call, from_module

X = torch.randn(6, 5, generator=torch.Generator().manual_seed(3))
EXACT = 1e-5


def pruned(layer):
    return prune.l1_unstructured(layer, "weight", amount=0.5)


def pruned_units(layer):
    return prune.ln_structured(layer, "weight", amount=0.3, n=2, dim=0)


KINDS = {
    "pruning": pruned,
    "pruning of units": pruned_units,
    "spectral norm": spectral_norm,
    "spectral norm, new": parametrizations.spectral_norm,
    "weight norm": weight_norm,
    "weight norm, new": parametrizations.weight_norm,
}
old_style = pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")


def network(kind, seed=0, steps=30):
    torch.manual_seed(seed)
    wrap = KINDS[kind]
    layers = [wrap(nn.Linear(5, 8)), nn.Tanh(), wrap(nn.Linear(8, 8)), nn.ReLU(), nn.Linear(8, 3)]
    model = nn.Sequential(*layers)
    for _ in range(steps):  # the power iteration settles
        model(X)
    return model.eval()


def effective(model, theta):
    """The matrices that the network computes with."""
    model.load_state_dict(theta)
    model(X)
    return [model[i].weight.detach().clone() for i in (0, 2)]


@old_style
@pytest.mark.parametrize("kind", KINDS)
def test_an_element_carries_what_belongs_to_a_weight(kind):
    model = network(kind)
    spec = wsl.permutation_spec(model, X)
    assert len(spec.groups) == 2
    g = wsl.Permutation.random(spec, torch.Generator().manual_seed(1))
    theta = g(from_module(model))
    torch.testing.assert_close(call(model, theta, X), model(X), rtol=EXACT, atol=EXACT)
    assert wsl.verify(spec, model, X).ok


@pytest.mark.parametrize("kind", ["pruning", "pruning of units"])
def test_masks_stay_masks_and_the_mean_is_that_of_the_pruned_weights(kind):
    models = [network(kind, seed) for seed in range(3)]
    spec = wsl.permutation_spec(models[0], X)
    members = [from_module(model) for model in models]
    found = [wsl.match(spec, members[0], other) for other in members[1:]]
    aligned = [members[0], *(m(theta) for m, theta in zip(found, members[1:], strict=True))]
    merged = merge(members, spec=spec).params
    masks = {name: t for name, t in merged.items() if name.endswith("_mask")}
    assert len(masks) == 2
    for theta in [*aligned, merged]:
        assert all(set(theta[name].unique().tolist()) <= {0.0, 1.0} for name in masks)
    expected = zip(*(effective(models[0], theta) for theta in aligned), strict=True)
    for weight, parents in zip(effective(models[0], merged), expected, strict=True):
        torch.testing.assert_close(weight, torch.stack(parents).mean(0), rtol=EXACT, atol=EXACT)


@pytest.mark.parametrize("kind", ["spectral norm", "spectral norm, new"])
def test_merged_spectral_norms_are_one(kind):
    models = [network(kind, seed) for seed in range(3)]
    merged = merge([from_module(model) for model in models]).params
    plain = wsl.merging.average([from_module(model) for model in models])
    for weight in effective(models[0], merged):
        assert torch.linalg.matrix_norm(weight, 2) == pytest.approx(1, abs=EXACT)
    assert max(torch.linalg.matrix_norm(w, 2) for w in effective(models[0], plain)) > 1.5
    before = call(models[0], merged, X)
    models[0].load_state_dict(merged)
    models[0].train()(X)  # one more step of the power iteration finds nothing to do
    torch.testing.assert_close(models[0].eval()(X), before, rtol=EXACT, atol=EXACT)


@pytest.mark.parametrize("kind", [nn.Conv2d, nn.ConvTranspose2d])
def test_the_side_of_the_matrix_is_found_where_both_fit(kind):
    torch.manual_seed(0)
    model, x = parametrizations.spectral_norm(kind(4, 4, 3)), torch.randn(2, 4, 6, 6)
    for _ in range(500):
        model(x)
    theta = from_module(model)
    other = {
        **theta,
        "parametrizations.weight.original": 2 * model.parametrizations.weight.original,
    }
    for name in ("parametrizations.weight.0._u", "parametrizations.weight.0._v"):
        again = renewed(theta, [theta, other])[name]
        torch.testing.assert_close(again, theta[name], rtol=1e-2, atol=1e-2)


def test_what_all_members_share_stays_as_it_is():
    theta = from_module(network("spectral norm", steps=1))
    same = merge([theta, theta], Average()).params
    assert all(torch.equal(same[name], tensor) for name, tensor in theta.items())
    assert all(masked(theta)[name] is tensor for name, tensor in theta.items())


@old_style
def test_weight_norms_are_merged_as_their_parameters():
    models = [network("weight norm", seed) for seed in range(2)]
    members = [from_module(model) for model in models]
    merged = merge(members).params
    mean = (members[0]["0.weight_g"] + members[1]["0.weight_g"]) / 2
    torch.testing.assert_close(merged["0.weight_g"], mean)
