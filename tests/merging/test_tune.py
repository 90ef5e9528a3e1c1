"""Tuning by grids, statistics measured after alignment, and bits that depend on nothing else."""

import hashlib
import os
import subprocess
import sys

import pytest
import torch
from laws.methods import SPEC, weights

from wsl.merging import DARE, Fisher, GradientMatching, Measured, TaskArithmetic, merge, tune
from wsl.symmetry import Permutation


def test_a_grid_finds_the_best_of_each_field():
    base, members = {"w": torch.zeros(2)}, [{"w": torch.tensor([1.0, 0])}]

    def score(theta):
        return -float((theta["w"] - torch.tensor([0.6, 0])).square().sum())

    grid = {"scale": [0.0, 0.3, 0.6, 1.0]}
    found = tune(TaskArithmetic(), members, score, grid=grid, base=base)
    assert found.method == TaskArithmetic(0.6)
    assert found.score == pytest.approx(0)
    assert len(found.trials) == 4  # 1.0 is the method's own and tried once
    assert torch.equal(found.params["w"], torch.tensor([0.6, 0]))
    with pytest.raises(ValueError, match="TaskArithmetic has no field 'scal'"):
        tune(TaskArithmetic(), members, score, grid={"scal": [1]}, base=base)
    with pytest.raises(ValueError, match="the grid of 'scale' is empty"):
        tune(TaskArithmetic(), members, score, grid={"scale": []}, base=base)


def squares(theta):
    return {n: t.square() + 0.1 for n, t in theta.items() if t.is_floating_point()}


def test_statistics_are_measured_on_aligned_members():
    a, b = weights(0), weights(1)
    g = Permutation.random(SPEC, torch.Generator().manual_seed(3))
    method = Measured(Fisher(), squares)
    assert method.needs == frozenset()
    first = merge([a, b], method, spec=SPEC).params
    moved = merge([a, g(b)], method, spec=SPEC).params
    for name, tensor in first.items():
        torch.testing.assert_close(moved[name], tensor)
    base = weights(2)
    told = Measured(GradientMatching(), squares).solve([a, b], base=base)
    plain = GradientMatching().solve([a, b], base=base, statistics=[*map(squares, (a, b, base))])
    assert all(torch.equal(told[n], plain[n]) for n in told)
    with pytest.raises(ValueError, match="takes its own statistics"):
        method.solve([a, b], statistics=[{}, {}])


SCRIPT = """
import hashlib, sys, torch
sys.path[:0] = {path}
torch.set_num_threads({threads})
from laws.methods import weights
from wsl.merging import DARE, DELLA
names = list(weights(0))[::{step}]
order = lambda theta: {{n: theta[n] for n in names}}
digest = hashlib.sha256()
for method in (DARE(0.5), DELLA(0.5)):
    found = method.solve([order(weights(s)) for s in range(3)], base=order(weights(9)))
    for name in sorted(found):
        digest.update(found[name].numpy().tobytes())
print(digest.hexdigest())
"""


def test_random_merges_have_equal_bytes_in_every_process():
    seen = set()
    for seed, threads, step in (("0", 1, 1), ("1", 2, 1), ("2", 1, -1)):
        text = SCRIPT.format(path=sys.path, threads=threads, step=step)
        run = subprocess.run(
            [sys.executable, "-c", text],
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | {"PYTHONHASHSEED": seed},
        )
        seen.add(run.stdout.strip())
    assert len(seen) == 1
    assert hashlib.sha256().hexdigest() not in seen


def test_a_seed_changes_a_random_merge():
    members, base = [weights(0)], weights(9)
    one, two = (DARE(0.5, seed=s).solve(members, base=base) for s in (0, 1))
    assert not torch.equal(one["0.weight"], two["0.weight"])
