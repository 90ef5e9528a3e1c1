"""Diffusion of weights: what is drawn does not know the order of units."""

import pytest
import torch
from networks import BY_NAME

from wsl.generative import EquivariantDenoiser, Standardizer, WeightDiffusion
from wsl.nn import BlockLayout
from wsl.params import ravel, unravel
from wsl.symmetry import Permutation, PermutationSpec

NAMES = ["mlp", "cnn", "residual", "attention"]


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def awake(module):
    """With last layers that are not zero, so that all before them counts."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(5)
        for last in module.lower:
            last.weight.normal_()
            last.bias.normal_()
    return module


def denoiser(spec, **more):
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return awake(EquivariantDenoiser(spec, channels=8, blocks=2, **more)).double()


def moved(g, x, spec):
    return ravel(g(unravel(x, spec.shapes)), 1)


def fitted(spec):
    """A model in float64 whose denoiser is not zero, on tiny nets."""
    model = WeightDiffusion(spec, channels=8, blocks=2).double()
    weights = {n: torch.randn(6, *s, generator=rng(2)).double() for n, s in spec.shapes.items()}
    model.standardizer.fit(weights)
    awake(model.prior.denoiser)
    return model


def floating(name):
    spec = BY_NAME[name].spec
    return spec.restrict([n for n in spec.axes if "num_batches" not in n])


@pytest.mark.parametrize("name", [n for n in NAMES if n in BY_NAME])
def test_the_denoiser_moves_with_the_order_of_units(name):
    spec = floating(name)
    net, g = denoiser(spec, conditions=1), Permutation.random(spec, rng(1))
    size = sum(shape.numel() for shape in spec.shapes.values())
    x = torch.randn(3, size, generator=rng(), dtype=torch.float64)
    told = (torch.tensor([5, 500, 900]), torch.rand(3, 1, generator=rng()).double())
    known = torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64)
    before, after = net(x, *told, known=known), net(moved(g, x, spec), *told, known=known)
    torch.testing.assert_close(after, moved(g, before, spec), rtol=1e-9, atol=1e-10)
    assert not torch.allclose(after, before)


@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_noise_that_is_moved_becomes_the_network_that_is_moved(name):
    spec = floating(name)
    model, g = fitted(spec), Permutation.random(spec, rng(1))
    noise = torch.randn(4, model.standardizer.features, generator=rng(), dtype=torch.float64)
    one = model.sample(4, noise=noise, steps=5)
    other = model.sample(4, noise=moved(g, noise, spec), steps=5)
    for tensor, expected in zip(other.values(), g(one).values(), strict=True):
        torch.testing.assert_close(tensor, expected, rtol=1e-9, atol=1e-9)
    assert any(not torch.allclose(other[n], one[n]) for n in one)


def test_units_of_different_groups_are_not_exchanged():
    spec = PermutationSpec.parse("h1 = 4\nh2 = 4\n0.weight: h1 3\n2.weight: h2 h1\n4.weight: 2 h2")
    tied = PermutationSpec.parse("h1 = 4\n0.weight: h1 3\n2.weight: h1 h1\n4.weight: 2 h1")
    net = denoiser(spec)
    x = torch.randn(2, 36, generator=rng(), dtype=torch.float64)
    told = {"known": torch.zeros(2).double()}
    only = Permutation(spec, {"h1": torch.tensor([1, 2, 3, 0]), "h2": torch.arange(4)})
    both = Permutation(tied, {"h1": torch.tensor([1, 2, 3, 0])})
    t, none = torch.tensor([5, 9]), torch.zeros(2, 0).double()
    before = net(x, t, none, **told)
    wrong = net(moved(only, x, spec), t, none, **told)
    torch.testing.assert_close(wrong, moved(only, before, spec))
    assert not torch.allclose(wrong, moved(both, before, spec))


def test_what_is_told_of_an_axis_moves_with_it():
    spec = PermutationSpec.parse("h = 5\nout = 3\n0.weight: h 4\n2.weight: out h\n2.bias: out")
    net, g = denoiser(spec, extra=2), Permutation.random(spec, rng(1))
    x = torch.randn(2, 38, generator=rng(), dtype=torch.float64)
    classes = torch.randn(2, 3, 2, generator=rng(4)).double()
    order = g.indices["out"] if hasattr(g, "indices") else g["out"]

    def run(x, classes):
        told = {"2.weight": classes[:, :, None], "2.bias": classes}
        none = torch.zeros(2, 0).double()
        return net(x, torch.tensor([5, 9]), none, known=torch.zeros(2).double(), extra=told)

    before = run(x, classes)
    torch.testing.assert_close(run(moved(g, x, spec), classes[:, order]), moved(g, before, spec))
    assert not torch.allclose(run(x, classes.flip(1)), before)
    with pytest.raises(ValueError, match="extra: 'nothing' is no tensor"):
        net(
            x,
            torch.tensor([5, 9]),
            torch.zeros(2, 0).double(),
            known=torch.zeros(2).double(),
            extra={"nothing": classes},
        )


@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_a_symmetric_standardisation_moves_with_the_order_of_units(name):
    spec = floating(name)
    weights = {n: torch.randn(6, *s, generator=rng(2)).double() for n, s in spec.shapes.items()}
    x = Standardizer(spec, symmetric=True).double().fit(weights)
    g = Permutation.random(spec, rng(1))
    torch.testing.assert_close(x(g(weights)), moved(g, x(weights), spec))
    again = Standardizer(spec, symmetric=True).double().fit(g(weights))
    torch.testing.assert_close(again.mean, x.mean)
    for name, tensor in x.inverse(x(weights)).items():
        torch.testing.assert_close(tensor, weights[name])
    plain = Standardizer(spec).double().fit(weights)
    assert not torch.allclose(plain(g(weights)), moved(g, plain(weights), spec))


def test_an_untrained_one_draws_the_members_mean_and_deviation():
    spec = floating("mlp")
    weights = {n: 2 + 3 * torch.randn(400, *s, generator=rng()) for n, s in spec.shapes.items()}
    model = WeightDiffusion(spec, channels=4, blocks=1)
    model.standardizer.fit(weights)
    drawn = model.sample(400, steps=50, generator=rng(1))
    assert float(drawn["0.weight"].mean()) == pytest.approx(2, abs=0.2)
    assert float(drawn["0.weight"].std()) == pytest.approx(3, rel=0.1)


def test_the_length_of_a_chunk_of_samples_does_not_matter(monkeypatch):
    model = fitted(floating("mlp")).float()
    whole = model.sample(7, steps=3, generator=rng())
    monkeypatch.setattr("wsl.generative.models.vectors.CHUNK", 3)
    for name, tensor in model.sample(7, steps=3, generator=rng()).items():
        torch.testing.assert_close(tensor, whole[name], rtol=1e-5, atol=1e-5)


def test_no_more_numbers_than_agreed_are_drawn_at_a_time(monkeypatch):
    model, seen = fitted(floating("mlp")).float(), []
    monkeypatch.setattr(
        "wsl.generative.models.vectors.NUMBERS", 3 * model.standardizer.features + 1
    )
    model.prior.denoiser.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    assert len(model.sample(7, steps=2, generator=rng())["0.weight"]) == 7
    assert seen == [3, 3, 3, 3, 1, 1]
    monkeypatch.setattr("wsl.generative.models.vectors.NUMBERS", 1)
    assert len(model.sample(2, steps=2, generator=rng())["0.weight"]) == 2


def test_its_size_does_not_grow_with_the_number_of_units():
    def count(width):
        text = f"h1 = {width}\nh2 = {width}\n0.weight: h1 3\n2.weight: h2 h1\n4.weight: 2 h2"
        spec = PermutationSpec.parse(text)
        assert len(BlockLayout(spec).blocks) == 3
        return sum(p.numel() for p in EquivariantDenoiser(spec, channels=4).parameters())

    assert count(8) == count(64)
