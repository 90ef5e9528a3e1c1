"""Rules that see blocks: the numbers of the whole tensors, whatever the blocks; entries by rank."""

import numpy as np
import pytest
import torch
from laws.methods import GIVEN, ROWS

from wsl.merging import METHODS, TIES, Karcher, ModelStock, MultiSlerp, Slerp
from wsl.merging.pieces import Entries, at_ranks, products, shares, tangent

SHAPES = {"a.weight": (30, 7), "a.bias": (30,), "conv": (5, 3, 2, 2), "one": (), "none": (0, 4)}
PASSING = {n: m for n, m in ROWS.items() if not {"statistics", "validation"} & m.needs}


def model(seed, kind=torch.float64):
    rng = torch.Generator().manual_seed(seed)
    return {n: torch.randn(shape, generator=rng).to(kind) for n, shape in SHAPES.items()}


def tensors(count, shape=(40, 25)):
    rng = torch.Generator().manual_seed(count)
    return torch.randn(count, *shape, generator=rng, dtype=torch.float64)


@pytest.fixture
def small_blocks(monkeypatch):
    def length(self):
        return 17 if not self._rows else max(1, 17 // self._row) * self._row

    monkeypatch.setattr(Entries, "_length", length)


@pytest.mark.parametrize("name", [n for n in PASSING if n not in GIVEN])
def test_the_size_of_blocks_does_not_matter(name, monkeypatch):
    method = PASSING[name]
    members = [model(seed) for seed in range(getattr(method, "takes", 3))]
    base = model(9) if "base" in method.needs else None
    whole = method.solve(members, base=base)
    monkeypatch.setattr(Entries, "_length", lambda self: 17 if not self._rows else self._row)
    found = method.solve(members, base=base)
    for tensor, expected in whole.items():
        torch.testing.assert_close(found[tensor], expected, rtol=1e-12, atol=1e-12)


def test_blocks_are_the_tensors_one_after_the_other(small_blocks):
    members = [model(seed) for seed in range(3)]
    names = [n for n in SHAPES if n != "none"]
    entries = Entries([[m[n] for m in members] for n in names])
    expected = torch.stack([torch.cat([m[n].flatten() for n in names]) for m in members])
    assert torch.equal(torch.cat([b.clone() for b in entries], 1), expected)
    assert entries.size == expected.shape[1]
    based = Entries([[m[n] for m in members] for n in names], based=True)
    difference = torch.cat([b.clone() for b in based], 1)
    assert torch.equal(difference, expected[:2] - expected[2])
    assert torch.allclose(products(entries), expected @ expected.T)


def test_blocks_of_rows_end_between_units(small_blocks):
    theta = model(0)
    for name, row in (("a.weight", 7), ("a.bias", 30), ("conv", 12), ("one", 1)):
        shapes = {b.shape[2] for b in Entries([[theta[name]] * 2], rows=True)}
        assert shapes == {row}


KINDS = {
    "normal": lambda rng: torch.randn(4000, generator=rng),
    "few values": lambda rng: torch.randint(0, 5, (4000,), generator=rng).float(),
    "mostly zero": lambda rng: (
        torch.randn(4000, generator=rng).relu() * (torch.arange(4000) > 3800)
    ),
    "equal": lambda _: torch.full((4000,), 0.25),
    "ascending": lambda _: torch.arange(4000.0),
    "bfloat16": lambda rng: torch.randn(4000, generator=rng).bfloat16().float(),
    "long tail": lambda rng: torch.randn(4000, generator=rng).mul(9).exp(),
}


@pytest.mark.parametrize("sample", [8, 300, 5000])
@pytest.mark.parametrize("kind", KINDS)
def test_entries_by_rank_are_those_of_a_sorted_vector(kind, sample, monkeypatch, small_blocks):
    monkeypatch.setattr("wsl.merging.pieces.selection.SAMPLE", sample)
    x = torch.stack([KINDS[kind](torch.Generator().manual_seed(seed)) for seed in (0, 1)])
    ranks = [[1, 2, 40, 800, 2000], [3999, 4000, 3, 1234, 1]]
    found = at_ranks(Entries([list(x)]), ranks)
    ordered = x.sort(1, descending=True).values
    assert torch.equal(
        found, torch.stack([o[torch.tensor(r) - 1] for o, r in zip(ordered, ranks, strict=True)])
    )


def test_a_sample_that_misleads_is_not_believed(monkeypatch):
    """Every entry of the sample is a zero, and all others are not."""
    monkeypatch.setattr("wsl.merging.pieces.selection.SAMPLE", 10)
    x = torch.arange(1.0, 5001)[None]
    x[0, torch.tensor(np.random.default_rng(0).integers(0, 5000, 10))] = 0
    ordered = x[0].sort(descending=True).values
    for rank in (1, 700, 2500, 4900, 5000):
        assert at_ranks(Entries([[x[0]]]), [[rank]]).item() == ordered[rank - 1]


def test_entries_that_are_no_numbers_do_not_hang():
    assert at_ranks(Entries([[torch.full((70000,), torch.nan)]]), [[3]]).isnan().all()


def slow_ties(tau, density, weights):
    flat = tau.flatten(1)
    kept = []
    for row in flat:
        least = row.abs().sort(descending=True).values[max(1, int(density * len(row) + 1e-9)) - 1]
        kept.append(torch.where(row.abs() >= least, row, 0))
    scaled = torch.stack(kept) * torch.tensor(weights)[:, None]
    inside = scaled * scaled.sum(0).sign() > 0
    counted = (inside * torch.tensor(weights)[:, None]).sum(0)
    return ((scaled * inside).sum(0) / torch.where(counted == 0, 1, counted)).view_as(tau[0])


def slow_karcher(x, weights, steps):
    part = torch.tensor(shares(weights, len(x)), dtype=x.dtype)
    flat = x.flatten(1)
    lengths = flat.norm(dim=1)
    unit = flat / lengths[:, None]
    point = part @ unit
    point = point / point.norm()
    for _ in range(steps):
        move = part @ tangent(point, unit)
        point = point * move.norm().cos() + move * torch.sinc(move.norm() / torch.pi)
    return (point * (part @ lengths)).view_as(x[0])


def slow_slerp(a, b, t):
    omega = ((a * b).sum() / (a.norm() * b.norm())).acos()
    return (((1 - t) * omega).sin() * a + (t * omega).sin() * b) / omega.sin()


def slow_model_stock(tau):
    flat = tau.flatten(1)
    unit = flat / flat.norm(dim=1, keepdim=True)
    cosines = unit @ unit.T
    count = len(tau)
    c = ((cosines.sum() - count) / (count * (count - 1))).clamp(min=0)
    return count * c / (1 + (count - 1) * c) * tau.mean(0)


def test_fast_rules_are_the_slow_ones(small_blocks):
    x, base = tensors(3), tensors(1)[0]
    base = base.expand_as(x[0]).clone()
    tau = x + 2 * tensors(2).mean(0) - base  # members that have something in common

    def solved(method, members, start=None):
        dicts = [{"w": m} for m in members]
        return method.solve(dicts, base=None if start is None else {"w": start})["w"]

    weights = [0.5, 1.0, 2.0]
    same = {
        "ties": (
            solved(TIES(0.3, weights=weights), base + tau, base) - base,
            slow_ties(tau, 0.3, weights),
        ),
        "karcher": (solved(Karcher(weights, max_iter=4, tol=0), x), slow_karcher(x, weights, 4)),
        "slerp": (solved(Slerp(0.3), x[:2]), slow_slerp(x[0], x[1], 0.3)),
        "stock": (solved(ModelStock(), base + tau, base) - base, slow_model_stock(tau)),
        "multi": (solved(MultiSlerp(), x[:2]), None),
    }
    middle = slow_slerp(*(x[:2] / x[:2].flatten(1).norm(dim=1)[:, None, None]), 0.5)
    same["multi"] = (same["multi"][0], middle * x[:2].flatten(1).norm(dim=1).mean())
    for name, (found, expected) in same.items():
        torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-8, msg=name)


def slow_pcb(tau, density, clip):
    flat = tau.flatten(1)

    def clamped(x, low, high):
        ordered, size = x.sort(1).values, x.shape[1]
        bottom = ordered[:, min(int(size * low), size - 1), None]
        top = ordered[:, max(int(size * (1 - high) - 1), 0), None]
        return torch.minimum(torch.maximum(x, bottom), torch.maximum(bottom, top))

    def ranged(x):
        return (x - x.amin(1, keepdim=True)) / (x.amax(1, keepdim=True) - x.amin(1, keepdim=True))

    flat = flat.sign() * clamped(flat.abs(), clip, clip)
    score = torch.exp(len(flat) * ranged(flat.abs()).square()) * torch.tanh(flat * flat.sum(0))
    score = ranged(clamped(score, 1 - density, 0.0))
    return ((score * flat).sum(0) / score.sum(0).clamp(min=1e-12)).view_as(tau[0])


@pytest.mark.parametrize("unit", ["tensor", "vector"])
def test_competition_is_that_of_whole_tensors(unit, small_blocks):
    tau = tensors(3)
    method = METHODS["pcb"](density=0.2, clip=0.01, unit=unit)
    found = method.solve([{"w": t} for t in tau], base={"w": torch.zeros_like(tau[0])})["w"]
    torch.testing.assert_close(found, slow_pcb(tau, 0.2, 0.01), rtol=1e-8, atol=1e-10)
