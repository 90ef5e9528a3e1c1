"""Every way back from noise is exact where the answer is known: normal distributions."""

import pytest
import torch

from wsl.generative import (
    D2NWG,
    DDIM,
    DDPM,
    P_DIFF,
    DPMSolver,
    EulerSteps,
    HeunSteps,
    NoiseSchedule,
    RungeKutta,
    VectorFlow,
)
from wsl.generative.models.noise import alpha_bars, velocity

MEAN = torch.tensor([1.0, -2.0], dtype=torch.float64)
COV = torch.tensor([[1.0, 0.6], [0.6, 0.5]], dtype=torch.float64)
ONE = torch.eye(2, dtype=torch.float64)
N = 8_000
SAMPLERS = [
    DDIM(100),
    DDIM(150, eta=1.0),
    DDPM(200),
    DPMSolver(25),
    DPMSolver(30, order=3),
    EulerSteps(100),
    HeunSteps(50),
]


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def start(n=N):
    return torch.randn(n, 2, generator=rng(), dtype=torch.float64)


def is_the_target(x):
    assert (x.mean(0) - MEAN).abs().max() < 5 * (1 / N) ** 0.5 + 0.01
    assert (x.T.cov() - COV).abs().max() < 5 * (2 / N) ** 0.5 + 0.02


def exact(schedule):
    """v of the posterior mean E[x_0 | x_t] when x_0 is normal with MEAN and COV."""

    def predict(x, t):
        abar = alpha_bars(schedule.betas())[t[0]]
        gain = abar.sqrt() * COV @ torch.linalg.inv(abar * COV + (1 - abar) * ONE)
        x0 = MEAN + (x - abar.sqrt() * MEAN) @ gain.T
        return velocity(x0, (x - abar.sqrt() * x0) / (1 - abar).sqrt(), abar)

    return predict


def exact_flow(x, t):
    """E[x_1 - x_0 | x_t], affine in x, when x_1 is normal with MEAN and COV."""
    t = t[0]
    seen = (1 - t) ** 2 * ONE + t**2 * COV
    return MEAN + (x - t * MEAN) @ torch.linalg.inv(seen) @ (t * COV - (1 - t) * ONE)


def test_the_schedule_of_d2nwg_is_the_published_one():
    abar = alpha_bars(D2NWG.betas())
    assert len(abar) == 1024
    assert float(abar[0]) == pytest.approx(0.9985, abs=1e-12)
    assert float(abar[511]) == pytest.approx(0.1443738199, abs=1e-10)
    assert float(abar[1023]) == pytest.approx(5.610826e-04, rel=1e-6)


def test_the_schedule_of_p_diff_is_the_published_one():
    abar = alpha_bars(P_DIFF.betas())
    assert float(abar[0]) == pytest.approx(0.9999, abs=1e-12)
    assert float(abar[499]) == pytest.approx(0.0785872429, abs=1e-10)
    assert float(abar[999]) == pytest.approx(4.035830e-05, rel=1e-6)


@pytest.mark.parametrize("schedule", [P_DIFF, D2NWG], ids=["p-diff", "d2nwg"])
@pytest.mark.parametrize("sampler", SAMPLERS, ids=str)
def test_the_exact_score_recovers_a_normal_distribution(sampler, schedule):
    x = sampler.carry(exact(schedule), start(), betas=schedule.betas(), generator=rng(1))
    assert x.dtype == torch.float64
    is_the_target(x)


@pytest.mark.parametrize("sampler", [RungeKutta(20), RungeKutta(100, stages=2), RungeKutta(400, 1)])
def test_the_exact_velocity_recovers_a_normal_distribution(sampler):
    is_the_target(sampler.carry(exact_flow, start()))


def test_the_order_of_runge_kutta_is_its_number_of_stages():
    noise = start(50)
    best = RungeKutta(400).carry(exact_flow, noise)
    for stages in (1, 2, 4):
        coarse, fine = (
            (RungeKutta(steps, stages).carry(exact_flow, noise) - best).abs().max()
            for steps in (10, 20)
        )
        assert 0.7 * stages < float((coarse / fine).log2()) < 1.4 * stages + 0.4


def test_an_untrained_flow_leaves_a_standard_normal_what_it_is():
    flow = VectorFlow(2, hidden=8, blocks=1).double()
    noise = start(500)
    torch.testing.assert_close(flow.sample(500, noise=noise, steps=20), noise, rtol=0, atol=1e-4)


def test_the_flow_learns_the_velocity_that_is_exact():
    """With the exact velocity the loss of what is left over is that of the posterior alone."""
    flow = VectorFlow(2, hidden=8, blocks=1).double()
    x = MEAN + start(400) @ torch.linalg.cholesky(COV).T
    noised = flow.noised(x, generator=rng(3))
    t = noised.trust
    size = (t.square() + (1 - t).square()).sqrt()
    xt = noised.x * size
    v = ((2 * t - 1) * noised.x + noised.target) / size
    torch.testing.assert_close(xt + (1 - t) * v, x)
    torch.testing.assert_close(flow.clean(noised, noised.target), x)


def test_what_draws_noise_reads_the_generator_and_nothing_else_does():
    for sampler in SAMPLERS:
        runs = [
            sampler.carry(exact(P_DIFF), start(4), betas=P_DIFF.betas(), generator=rng(seed))
            for seed in (1, 1, 2)
        ]
        assert torch.equal(runs[0], runs[1])
        fresh = sampler.draws and sampler != DDIM(100)
        assert torch.equal(runs[0], runs[2]) is not fresh


def test_wrong_numbers_are_refused():
    with pytest.raises(ValueError, match="steps: 0, but at least 1"):
        DDIM(0)
    with pytest.raises(ValueError, match="1, 2 or 4 stages"):
        RungeKutta(10, stages=3)
    with pytest.raises(ValueError, match="0 < first <= last < 1"):
        NoiseSchedule(first=0.5, last=0.1)
