"""Diffusion of vectors: the published schedule, exact conversions, exact scores, and what a small
trained model must learn.
"""

import subprocess
import sys

import pytest
import torch
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

from wsl.generative import VectorDiffusion
from wsl.generative.models.denoiser import Denoiser, sinusoids
from wsl.generative.models.noise import (
    alpha_bars,
    clean_and_noise,
    linear_betas,
    noised,
    reverse,
    velocity,
)

MEAN = torch.tensor([1.0, -2.0], dtype=torch.float64)
COV = torch.tensor([[1.0, 0.6], [0.6, 0.5]], dtype=torch.float64)


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def exact_velocity(x, t):
    """v of the posterior mean E[x_0 | x_t] when x_0 is normal with MEAN and COV."""
    abar = alpha_bars(linear_betas())[t[0]]
    gain = abar.sqrt() * COV @ torch.linalg.inv(abar * COV + (1 - abar) * torch.eye(2).double())
    x0 = MEAN + (x - abar.sqrt() * MEAN) @ gain.T
    return velocity(x0, (x - abar.sqrt() * x0) / (1 - abar).sqrt(), abar)


def test_the_schedule_is_the_published_one():
    abar = alpha_bars(linear_betas())
    assert float(abar[0]) == pytest.approx(0.9999, abs=1e-12)
    assert float(abar[499]) == pytest.approx(0.0785872429, abs=1e-10)
    assert float(abar[999]) == pytest.approx(4.035830e-05, rel=1e-6)


def test_noise_and_velocity_are_those_of_diffusers():
    x0, noise, t = (
        torch.randn(5, 3, generator=rng()),
        torch.randn(5, 3, generator=rng(1)),
        torch.tensor([0, 10, 500, 900, 999]),
    )
    scheduler = DDPMScheduler(trained_betas=linear_betas().numpy())
    abar = alpha_bars(linear_betas())[t, None].float()
    torch.testing.assert_close(noised(x0, noise, abar), scheduler.add_noise(x0, noise, t))
    torch.testing.assert_close(velocity(x0, noise, abar), scheduler.get_velocity(x0, noise, t))


def test_conversions_between_clean_noise_and_velocity_are_inverse():
    x0, noise = (
        torch.randn(1000, 4, generator=rng()).double(),
        torch.randn(1000, 4, generator=rng(1)).double(),
    )
    abar = alpha_bars(linear_betas())[:, None]
    clean, again = clean_and_noise(noised(x0, noise, abar), velocity(x0, noise, abar), abar)
    torch.testing.assert_close(clean, x0, rtol=0, atol=1e-13)
    torch.testing.assert_close(again, noise, rtol=0, atol=1e-13)


@pytest.mark.parametrize(("steps", "eta"), [(100, 0.0), (250, 1.0)])
def test_the_exact_score_recovers_a_normal_distribution(steps, eta):
    n = 20_000
    start = torch.randn(n, 2, generator=rng(), dtype=torch.float64)
    x = reverse(exact_velocity, start, betas=linear_betas(), steps=steps, eta=eta, generator=rng(1))
    assert (x.mean(0) - MEAN).abs().max() < 5 * (1 / n) ** 0.5 + 0.01
    assert (x.T.cov() - COV).abs().max() < 5 * (2 / n) ** 0.5 + 0.02


def test_without_eta_the_generator_is_not_read_and_with_it_it_is():
    start = torch.randn(8, 2, generator=rng(), dtype=torch.float64)
    settings = {"betas": linear_betas(), "steps": 10}
    plain = reverse(exact_velocity, start, **settings, generator=rng(1))
    assert torch.equal(plain, reverse(exact_velocity, start, **settings, generator=rng(2)))
    drawn = reverse(exact_velocity, start, **settings, eta=1.0, generator=rng(1))
    assert torch.equal(drawn, reverse(exact_velocity, start, **settings, eta=1.0, generator=rng(1)))
    assert not torch.allclose(
        drawn, reverse(exact_velocity, start, **settings, eta=1.0, generator=rng(2))
    )


def test_steps_go_from_the_last_time_to_an_early_one():
    seen = []

    def predict(x, t):
        seen.append(int(t[0]))
        return torch.zeros_like(x)

    reverse(predict, torch.zeros(1, 2), betas=linear_betas(), steps=50)
    assert len(seen) == 50
    assert seen[0] == 999
    assert seen == sorted(seen, reverse=True)


def test_a_hidden_condition_is_not_seen():
    torch.manual_seed(0)
    model = Denoiser(3, conditions=2, hidden=16, blocks=2)
    torch.nn.init.normal_(model.leave.weight)
    x, t, known = (
        torch.randn(4, 3, generator=rng()),
        torch.arange(4),
        torch.tensor([0.0, 0.0, 1.0, 1.0]),
    )
    one, other = (
        model(x, t, condition, known=known) for condition in (torch.zeros(4, 2), torch.ones(4, 2))
    )
    assert torch.equal(one[:2], other[:2])
    assert not torch.allclose(one[2:], other[2:])


def test_times_are_told_apart_by_their_sinusoids():
    codes = sinusoids(torch.arange(1000), 32)
    assert codes.shape == (1000, 32)
    assert torch.pdist(codes.double()).min() > 1e-3


def two_clusters(n=512):
    label = torch.arange(n) % 2
    return torch.where(label[:, None] == 1, 1.0, -1.0) + 0.2 * torch.randn(
        n, 3, generator=rng()
    ), label[:, None] * 0.5 + 0.25


@pytest.fixture(scope="module")
def trained():
    torch.manual_seed(0)
    return VectorDiffusion(3, conditions=1, hidden=64, blocks=2).fit(*two_clusters(), steps=400)


def test_a_trained_model_draws_what_the_condition_asks_for(trained):
    high = trained.sample(200, torch.tensor([0.75]), generator=rng())
    low = trained.sample(200, torch.tensor([0.25]), generator=rng())
    assert (high.mean(0) - 1).abs().max() < 0.25
    assert (low.mean(0) + 1).abs().max() < 0.25
    assert high.std(0).max() < 0.5


def test_without_a_condition_both_clusters_are_drawn(trained):
    share = (trained.sample(400, generator=rng()).mean(1) > 0).double().mean()
    assert 0.25 < share < 0.75


def test_a_condition_per_row_is_obeyed_row_by_row(trained):
    wanted = torch.tensor([[0.25], [0.75]]).repeat(50, 1)
    drawn = trained.sample(100, wanted, guidance=1.5, generator=rng()).mean(1)
    assert ((drawn > 0) == (wanted[:, 0] > 0.5)).double().mean() > 0.95


def test_the_same_seed_gives_the_same_model_and_samples():
    def run(seed):
        torch.manual_seed(0)
        model = VectorDiffusion(3, conditions=1, hidden=16, blocks=1).fit(
            *two_clusters(64), steps=5, seed=seed
        )
        return model.sample(4, torch.tensor([0.5]), generator=rng())

    assert torch.equal(run(0), run(0))
    assert not torch.equal(run(0), run(1))


def test_wrong_conditions_are_refused_by_name():
    model = VectorDiffusion(3, conditions=2, hidden=16, blocks=1)
    with pytest.raises(
        ValueError, match="condition: missing, but the model was made for 2 numbers"
    ):
        model.fit(torch.zeros(4, 3), steps=1)
    with pytest.raises(ValueError, match=r"condition: shape \(4, 1\), but \(4, 2\) is needed"):
        model.fit(torch.zeros(4, 3), torch.zeros(4, 1), steps=1)
    with pytest.raises(ValueError, match="condition: holds NaN"):
        model.fit(torch.zeros(4, 3), torch.full((4, 2), torch.nan), steps=1)


def test_diffusers_is_imported_by_sampling_and_not_before():
    code = """
import sys, wsl.generative
before = "diffusers" in sys.modules
wsl.generative.VectorDiffusion(2, hidden=4, blocks=1).sample(1, steps=1)
sys.exit(before or "diffusers" not in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
