"""Learned optimisers: the paper's sizes, equivariant updates, unbiased gradients, stacked as alone,
exact resume.
"""

import dataclasses
import re
from pathlib import Path

import pytest
import torch
from networks import BY_NAME
from paths import DOCS

from wsl.learned_optimizers.evolution import gradient, perturbations
from wsl.learned_optimizers.features import FEATURES, features
from wsl.learned_optimizers.meta import MetaSettings, meta_train
from wsl.learned_optimizers.problem import Problem, start, unroll
from wsl.learned_optimizers.rule import HandWritten, LearnedOptimizer, Training
from wsl.nn import EquivariantNet, UpdateNet
from wsl.params import ravel
from wsl.populations import SGD, AdamW
from wsl.populations.architectures.networks import mlp
from wsl.symmetry import Permutation, SpecError, permutation_spec

SETTINGS = MetaSettings(iterations=4, pairs=3, window=2, horizon=4, save_every=1)


def make():
    return mlp([5, 4, 3])


SPEC = permutation_spec(make(), torch.zeros(2, 5))


def problem():
    rng = torch.Generator().manual_seed(0)
    return Problem(
        make,
        torch.randn(40, 5, generator=rng),
        torch.randint(3, (40,), generator=rng),
        batch_size=8,
    )


def rule(*, mixing=True, spec=SPEC, dtype=torch.float32, randomised=True):
    torch.manual_seed(0)
    made = LearnedOptimizer.from_spec(spec, mixing=mixing)
    if randomised:
        for parameter in made.net.last.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    return made.to(dtype)


def parameters(made, members):
    return {name: p.detach().expand(members, *p.shape) for name, p in made.named_parameters()}


def trained(made, rules, seeds, *, steps):
    first = start(made, problem().weights(seeds))
    return unroll(made, rules, first, problem=problem(), seeds=seeds, steps=range(steps))


def in_training(spec, seed=0):
    """A network some steps into training, and a gradient; float64."""
    rng = torch.Generator().manual_seed(seed)

    def some(*extra):
        return {
            n: torch.randn(*shape, *extra, generator=rng, dtype=torch.float64)
            for n, shape in spec.shapes.items()
        }

    return Training(some(), some(7), torch.tensor(3.0, dtype=torch.float64)), some()


@pytest.mark.parametrize(("mixing", "count"), [(False, 2788), (True, 3783)])
@pytest.mark.parametrize("widths", [[784, 32, 10], [64, 16, 10]], ids=str)
def test_the_rules_of_the_paper_have_its_numbers_of_parameters(mixing, count, widths):
    spec = permutation_spec(mlp(widths), torch.zeros(2, widths[0]))
    made = LearnedOptimizer.from_spec(spec, mixing=mixing)
    assert FEATURES == 19
    assert sum(p.numel() for p in made.parameters()) == count
    trunk = sum(p.numel() for p in made.net.layers.parameters())
    last = sum(p.numel() for p in made.net.last.parameters())
    assert (trunk, last) == (640 + 1056 + 1056, 32 * 32 + 4 if mixing else 33)


@pytest.mark.parametrize("name", ["mlp", "cnn", "residual", "gru"])
@pytest.mark.parametrize("mixing", [True, False])
def test_a_permuted_network_gets_the_permuted_update(name, mixing):
    floats = [n for n, t in BY_NAME[name].weights(1).items() if t.is_floating_point()]
    spec = BY_NAME[name].spec.restrict(floats)
    made, (training, grads) = rule(mixing=mixing, spec=spec, dtype=torch.float64), in_training(spec)
    g = Permutation.random(spec, torch.Generator().manual_seed(1))
    moved = {
        n: torch.stack(
            [g({k: t[..., c] for k, t in training.memory.items()})[n] for c in range(7)], -1
        )
        for n in grads
    }
    expected, found = (
        made(training, grads),
        made(Training(g(training.weights), moved, training.step), g(grads)),
    )
    for n, tensor in g(expected.weights).items():
        torch.testing.assert_close(found.weights[n], tensor, rtol=0, atol=1e-10)
    assert max((expected.weights[n] - t).abs().max() for n, t in found.weights.items()) > 1e-3


def test_the_functional_rule_sees_other_tensors_and_the_deepsets_rule_does_not():
    training, grads = in_training(SPEC)
    other = {
        **grads,
        "layers.1.weight": grads["layers.1.weight"]
        + torch.tensor([1.0, 0, 0, -2], dtype=torch.float64),
    }
    for mixing in (True, False):
        made = rule(mixing=mixing, dtype=torch.float64)
        change = (
            made(training, other).weights["layers.0.weight"]
            - made(training, grads).weights["layers.0.weight"]
        )
        assert (change.abs().max() > 1e-6) if mixing else not change.any()


@pytest.mark.parametrize("mixing", [True, False])
def test_a_fresh_rule_is_sgd_with_momentum(mixing):
    made, hand = rule(mixing=mixing, randomised=False), HandWritten(SGD(momentum=0.9), lr=0.01)
    ends = [
        trained(each, parameters(each, 2), torch.tensor([3, 8]), steps=10)[0].weights
        for each in (made, hand)
    ]
    torch.testing.assert_close(*ends)


def test_a_rule_without_output_leaves_the_weights():
    made, (training, _) = rule(randomised=False, dtype=torch.float64), in_training(SPEC)
    still = training._replace(memory={n: torch.zeros_like(t) for n, t in training.memory.items()})
    after = made(still, {n: torch.zeros_like(t) for n, t in training.weights.items()})
    assert all(torch.equal(after.weights[n], t) for n, t in training.weights.items())
    assert float(after.step) == float(training.step) + 1


def test_features_do_not_see_the_scale_of_the_loss():
    training, grads = in_training(SPEC)
    momenta = {n: t[..., 1:] for n, t in training.memory.items()}
    seen = features(training.weights, grads, momenta, step=training.step)
    scaled = [{n: 1e-2 * t for n, t in x.items()} for x in (grads, momenta)]
    again = features(training.weights, *scaled, step=training.step)
    for name, x in seen.items():
        assert x.shape == (*training.weights[name].shape, 19)
        torch.testing.assert_close(again[name], x, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(
            x[..., :8].square().flatten(0, -2).mean(0), torch.ones(8, dtype=torch.float64)
        )


def test_weights_of_a_rule_serve_networks_of_other_widths():
    wide = permutation_spec(mlp([64, 32, 10]), torch.zeros(2, 64))
    made, wider = rule(), rule(spec=wide, randomised=False)
    wider.load_state_dict(made.state_dict())
    training, grads = in_training(wide)
    after = wider.double()(training, grads)
    assert {n: t.shape for n, t in after.weights.items()} == dict(wide.shapes)


@pytest.mark.parametrize(
    "made",
    [rule(), rule(mixing=False), HandWritten(AdamW(), lr=0.01, weight_decay=0.1)],
    ids=["unf", "deepsets", "adamw"],
)
def test_members_that_are_stacked_train_as_if_alone(made):
    seeds = torch.tensor([4, 9, 2])
    rules = {
        n: p + 0.01 * torch.arange(3.0).view(3, *[1] * (p.dim() - 1))
        for n, p in parameters(made, 3).items()
    }
    together, losses = trained(made, rules, seeds, steps=6)
    for i in range(3):
        alone, loss = trained(
            made, {n: p[i : i + 1] for n, p in rules.items()}, seeds[i : i + 1], steps=6
        )
        torch.testing.assert_close(losses[i : i + 1], loss)
        for name, tensor in alone.weights.items():
            torch.testing.assert_close(
                together.weights[name][i : i + 1], tensor, rtol=1e-4, atol=1e-5
            )
    assert (losses[0] - losses[1]).abs().max() > 1e-3


def test_a_layer_under_two_names_trains_as_one():
    class Twice(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.first = torch.nn.Linear(5, 5)
            self.again, self.last = self.first, torch.nn.Linear(5, 3)

        def forward(self, x):
            return self.last(self.again(self.first(x).tanh()))

    twice, seeds = dataclasses.replace(problem(), make=Twice), torch.tensor([5])
    hand = HandWritten(SGD(momentum=0.9), lr=0.1)
    first = start(hand, twice.weights(seeds))
    ended, _ = unroll(hand, parameters(hand, 1), first, problem=twice, seeds=seeds, steps=range(3))
    model = Twice()
    model.load_state_dict({n: t[0] for n, t in twice.weights(seeds).items()})
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for step in range(3):
        x, y = twice.batches(seeds)(step)
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x[0]), y[0]).backward()
        optimizer.step()
    for name in ("again.weight", "again.bias", "last.weight"):  # the last name of a layer counts
        torch.testing.assert_close(ended.weights[name][0], model.state_dict()[name])


@pytest.mark.parametrize("optimizer", [SGD(momentum=0.9), AdamW()], ids=["sgd", "adamw"])
def test_hand_written_rules_are_those_of_torch(optimizer):
    seeds, hand = torch.tensor([5]), HandWritten(optimizer, lr=0.05, weight_decay=0.01)
    ended, _ = trained(hand, parameters(hand, 1), seeds, steps=5)
    model = make()
    model.load_state_dict({n: t[0] for n, t in problem().weights(seeds).items()})
    options = {"lr": 0.05, "weight_decay": 0.01}
    torchs = (
        torch.optim.SGD(model.parameters(), momentum=0.9, **options)
        if isinstance(optimizer, SGD)
        else torch.optim.AdamW(model.parameters(), **options)
    )
    for step in range(5):
        x, y = problem().batches(seeds)(step)
        torchs.zero_grad()
        torch.nn.functional.cross_entropy(model(x[0]), y[0]).backward()
        torchs.step()
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(ended.weights[name][0], tensor, rtol=1e-4, atol=1e-6)


def test_evolution_finds_the_gradient_of_a_quadratic():
    size, count, sigma = 10, 4000, 0.1
    rng = torch.Generator().manual_seed(0)
    half = torch.randn(size, size, generator=rng, dtype=torch.float64)
    curvature, phi = half @ half.T / size, torch.randn(size, generator=rng, dtype=torch.float64)
    noise = perturbations(count, size, sigma=sigma, rng=rng).double()
    plus, minus = (((phi + e) @ curvature * (phi + e)).sum(1) / 2 for e in (noise, -noise))
    true, found = curvature @ phi, gradient(noise, plus, minus, sigma=sigma)
    error = (
        ((size + 1) / count) ** 0.5
    )  # antithetic differences of a quadratic are linear: E |g - g'|^2 = (size + 1) / N |g|^2
    assert (found - true).norm() < 2 * error * true.norm()
    assert torch.cosine_similarity(found, true, 0) > 0.99


def test_persistent_evolution_counts_what_truncated_evolution_ignores():
    """s <- s + phi at every window with losses s: dL/dphi is the number of windows so far, not
    one.
    """
    count, sigma, rng = 20_000, 0.1, torch.Generator().manual_seed(0)
    state, accumulated, persistent, truncated = torch.zeros(count), torch.zeros(count, 1), 0.0, 0.0
    for _ in range(4):
        noise = perturbations(count, 1, sigma=sigma, rng=rng)
        accumulated = accumulated + noise
        state = (
            state + noise[:, 0]
        )  # of the positive half, around phi = 0; the negative is its mirror image
        persistent += float(gradient(accumulated, state, -state, sigma=sigma))
        truncated += float(gradient(noise, state, -state, sigma=sigma))
    assert persistent == pytest.approx(1 + 2 + 3 + 4, abs=0.5)
    assert truncated == pytest.approx(4, abs=0.5)


def learned(folder=None, settings=SETTINGS):
    made = rule(randomised=False)
    history = meta_train(made, problem(), settings=settings, folder=folder)
    return ravel(dict(made.named_parameters())), history


def test_meta_training_repeats_and_changes_the_rule():
    (one, history), (two, _) = learned(), learned()
    assert torch.equal(one, two)
    assert not torch.equal(one, ravel(dict(rule(randomised=False).named_parameters())))
    assert [row["iteration"] for row in history] == [0, 1, 2, 3]
    assert not torch.equal(one, learned(settings=dataclasses.replace(SETTINGS, seed=1))[0])


def test_an_interrupted_run_ends_as_one_that_was_not(tmp_path, monkeypatch):
    expected, history = learned()
    advance = meta_train.__globals__["_Run"].advance

    def interrupted(self, iteration):
        if iteration == 2:
            raise KeyboardInterrupt
        advance(self, iteration)

    with monkeypatch.context() as patch:
        patch.setattr(meta_train.__globals__["_Run"], "advance", interrupted)
        with pytest.raises(KeyboardInterrupt):
            learned(tmp_path)
    found, again = learned(tmp_path)
    assert torch.equal(found, expected)
    assert again == history
    assert torch.equal(learned(tmp_path)[0], expected)


def test_the_folder_of_another_run_is_refused(tmp_path):
    learned(tmp_path)
    with pytest.raises(ValueError, match=r"belongs to another run .*delete the file"):
        learned(tmp_path, dataclasses.replace(SETTINGS, sigma=0.5))


def test_learning_raises_a_learning_rate_that_is_too_small_and_lowers_the_loss():
    made = HandWritten(SGD(momentum=0.9), lr=1e-3)
    settings = MetaSettings(iterations=40, pairs=8, window=10, horizon=20, lr=0.02, sigma=1e-3)
    history = meta_train(made, problem(), settings=settings)
    first, last = (sum(row["loss"] for row in part) / 10 for part in (history[:10], history[-10:]))
    assert made.lr.item() > 0.02
    assert last < first - 0.02


def test_errors_teach():
    training, grads = in_training(SPEC)
    with pytest.raises(
        ValueError, match=r"layers.0.weight: the net gave .*out_channels=1, residual=False"
    ):
        LearnedOptimizer(UpdateNet(SPEC, FEATURES, 2)).double()(training, grads)
    with pytest.raises(ValueError, match="horizon=100 must be a multiple of window=30"):
        MetaSettings(window=30)
    with pytest.raises(ValueError, match="lr and share must be positive"):
        LearnedOptimizer(UpdateNet(SPEC, FEATURES), lr=0.0)
    with pytest.raises(ValueError, match="layers=0"):
        UpdateNet(SPEC, FEATURES, layers=0)
    with pytest.raises(SpecError):
        UpdateNet(SPEC, FEATURES)({"layers.0.weight": torch.zeros(1, 4, 5, FEATURES)})


def test_any_functional_from_weights_to_weights_is_a_rule():
    class OneFeature(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.net = EquivariantNet(SPEC, hidden=4, layers=1, residual=False)

        def forward(self, x):
            return self.net({name: tensor[..., 0] for name, tensor in x.items()})

    made = LearnedOptimizer(OneFeature())
    ended, losses = trained(made, parameters(made, 2), torch.tensor([1, 2]), steps=3)
    assert losses.isfinite().all()
    assert all(tensor.isfinite().all() for tensor in ended.weights.values())


def test_the_snippet_of_the_page_runs(tmp_path, monkeypatch):
    page = (DOCS / "learned_optimizers.md").read_text()
    code, space = re.search(r"```python\n(.*?)```", page, re.DOTALL)[1], {}
    monkeypatch.chdir(tmp_path)
    exec(code.replace("iterations=200", "iterations=1, pairs=1, window=2, horizon=2"), space)
    assert len(space["history"]) == 1
    assert Path("runs/rule/meta.pt").exists()
