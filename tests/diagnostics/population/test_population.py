"""Numbers of a population against what they must be by another way."""

import numpy as np
import pytest
import torch
from torch import nn

import wsl
from wsl.diagnostics import (
    QUANTILE_LEVELS,
    align_members,
    last_rows,
    member_weights,
    pca_map,
    population_distances,
    population_health,
    sample_rows,
    tensor_profiles,
    tsne_map,
)
from wsl.zoo import ZooWriter


def network(seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))


SPEC = wsl.permutation_spec(network(0), torch.zeros(1, 4))


def zoo_of(path, models, **options):
    return wsl.Zoo.from_models(path, models, spec=SPEC, metadata={}, **options)


def written(path, rows):
    """A zoo of (member, epoch, weights)."""
    member, epoch, weights = zip(*rows, strict=True)
    writer = ZooWriter(path, spec=SPEC, like=weights[0], columns={})
    writer.append(
        "all",
        wsl.params.stack(weights),
        member=member,
        epoch=epoch,
        metadata={},
        allow_nonfinite=True,
    )
    writer.finalize(split=(0.8, 0.1, 0.1), seed=0)
    return wsl.Zoo(path)


@pytest.fixture
def trajectories(tmp_path):
    """Eight members with three checkpoints each; member 5 has NaN in its last one."""
    rng, rows = torch.Generator().manual_seed(0), []
    for member in range(8):
        theta = wsl.params.from_module(network(member))
        for epoch in range(3):
            step = {
                n: t + 0.1 * epoch * torch.randn(t.shape, generator=rng) for n, t in theta.items()
            }
            if (member, epoch) == (5, 2):
                step["0.bias"][0] = torch.nan
            rows.append((member, epoch, step))
    return written(tmp_path / "zoo.h5", rows)


@pytest.mark.parametrize("shape", [(30, 7), (7, 30), (3, 40)])
def test_a_map_is_what_a_singular_value_decomposition_gives(shape):
    rows = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    found = pca_map(rows)
    u, s, _ = torch.linalg.svd((rows - rows.mean(0)).double(), full_matrices=False)
    expected = (u * s)[:, :2]
    assert torch.allclose(found.points.double().abs(), expected.abs(), atol=1e-4)
    assert found.shares == pytest.approx((s[:2] ** 2 / (s**2).sum()).tolist(), rel=1e-4)
    assert (found.points.abs().max(0).values == found.points.max(0).values).all()


def test_a_sketched_map_is_the_exact_one(monkeypatch):
    rng = torch.Generator().manual_seed(2)
    rows = torch.randn(200, 3, generator=rng) @ torch.randn(3, 90, generator=rng)
    rows += 0.1 * torch.randn(200, 90, generator=rng)
    exact = pca_map(rows)
    monkeypatch.setattr("wsl.diagnostics.population.maps._EXACT", 10)
    sketched = pca_map(rows)
    assert torch.allclose(sketched.points, exact.points, atol=1e-2)
    assert sketched.shares == pytest.approx(exact.shares, rel=1e-3)


def test_rows_that_are_not_finite_have_no_place():
    rows = torch.randn(12, 5, generator=torch.Generator().manual_seed(3))
    rows[4, 2] = torch.inf
    for found in (pca_map(rows), tsne_map(rows)):
        assert found.points.isfinite().all(1).tolist() == [i != 4 for i in range(12)]


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_maps_of_few_rows_exist(count):
    rows = torch.arange(5.0 * count).view(count, 5).square()
    assert pca_map(rows).points.isfinite().all()
    assert tsne_map(rows).points.isnan().all()


def test_a_map_by_neighbours_keeps_clusters_apart():
    rng = torch.Generator().manual_seed(4)
    rows = torch.randn(60, 8, generator=rng) + 20.0 * (torch.arange(60) % 2)[:, None]
    points = tsne_map(rows).points
    apart = torch.cdist(points, points).fill_diagonal_(torch.inf).argmin(1)
    assert (apart % 2 == torch.arange(60) % 2).all()
    assert tsne_map(rows, most=20).points.isfinite().all(1).sum() == 20


def test_members_are_sampled_with_whole_trajectories(trajectories):
    assert sample_rows(trajectories, 24).tolist() == list(range(24))
    rows = sample_rows(trajectories, 10)
    assert len(rows) == 9
    members, counts = np.unique(trajectories.table["member"][rows], return_counts=True)
    assert counts.tolist() == [3, 3, 3]
    assert sample_rows(trajectories, 10, seed=1).tolist() != rows.tolist()
    few = sample_rows(trajectories, 2)
    assert trajectories.table["epoch"][few].tolist() == [1, 2]
    assert few[0] // 3 in members
    with pytest.raises(ValueError, match="most is 0"):
        sample_rows(trajectories, 0)


def test_the_last_row_of_each_member_is_found(trajectories):
    assert last_rows(trajectories).tolist() == list(range(2, 24, 3))


def test_permuted_members_are_one_after_alignment(tmp_path):
    theta = wsl.params.from_module(network(0))
    rng = torch.Generator().manual_seed(0)
    zoo = zoo_of(tmp_path / "z.h5", [wsl.Permutation.random(SPEC, rng)(theta) for _ in range(6)])
    found = align_members(zoo)
    assert (found.members, found.reference) == (6, 0)
    assert torch.equal(found.weights, member_weights(zoo)[:1].expand(6, -1))


def test_one_element_moves_all_checkpoints_of_a_member(trajectories):
    found = align_members(trajectories)
    assert (found.members, found.reference) == (7, 2)
    raw, ends = member_weights(trajectories), last_rows(trajectories)
    assert torch.equal(found.weights[:3], raw[:3])
    assert found.weights[15:18].isnan().all()
    for end in ends[[0, 1, 7]]:
        g = wsl.match(
            SPEC, trajectories[2][0], trajectories[end][0], wsl.matching.WeightMatching(seed=None)
        )
        for row in range(end - 2, end + 1):
            moved = wsl.params.ravel(g(trajectories[row][0]))
            assert torch.equal(found.weights[row], moved)


def test_alignment_of_some_says_how_many(trajectories):
    told = []
    found = align_members(trajectories, most=3, progress=lambda *done: told.append(done))
    assert found.members == 3
    assert told == [(3, 3)]
    assert found.weights.isfinite().all(1).sum() == 9


def test_profiles_are_quantiles_and_singular_values(trajectories):
    profiles = {p.name: p for p in tensor_profiles(trajectories, [0, 17], most=3)}
    theta, _ = trajectories[0]
    weight = profiles["0.weight"]
    expected = torch.tensor(QUANTILE_LEVELS, dtype=torch.float64)
    expected = theta["0.weight"].double().flatten().quantile(expected).float()
    assert torch.allclose(weight.quantiles[0], expected, atol=1e-6)
    assert torch.allclose(
        weight.singular_values[0], torch.linalg.svdvals(theta["0.weight"])[:3], atol=1e-6
    )
    assert profiles["0.bias"].singular_values.shape == (2, 0)
    assert profiles["0.bias"].quantiles[1].isnan().all()
    assert weight.quantiles[1].isfinite().all()


def test_distances_are_those_of_pairs(trajectories):
    found = population_distances(trajectories, last_rows(trajectories))
    assert found.rows.tolist() == [2, 5, 8, 11, 14, 20, 23]
    flat = member_weights(trajectories)[found.rows].double()
    assert torch.allclose(found.before, torch.cdist(flat, flat), atol=1e-6)
    matcher = wsl.matching.WeightMatching(seed=None)
    one = wsl.matching.aligned_distance(
        SPEC, trajectories[5][0], trajectories[14][0], matcher=matcher
    )
    assert float(found.after[1, 4]) == pytest.approx(one, rel=1e-5)
    assert torch.equal(found.after, found.after.T)
    assert (found.after <= found.before + 1e-9).all()


def halves(members):
    """Training members, then from number 10 on test members."""
    return np.where(members < 10, 0, 2).astype(np.uint8)


def test_planted_illness_is_found(tmp_path):
    models = [wsl.params.from_module(network(i)) for i in range(20)]
    models[3]["0.weight"][[1, 4]] = 0
    models[6] = {name: 1000 * tensor for name, tensor in models[6].items()}
    models[9]["2.bias"][0] = torch.nan
    models[12] = models[2]
    models[14] = models[13]
    models[15] = wsl.Permutation.random(SPEC, torch.Generator().manual_seed(1))(models[4])
    zoo = zoo_of(tmp_path / "z.h5", models, allow_nonfinite=True, split=halves)
    found = population_health(zoo)
    assert found.dead.tolist() == [2 if i == 3 else 0 for i in range(20)]
    assert found.not_finite.tolist() == [int(i == 9) for i in range(20)]
    assert found.extreme.nonzero()[:, 0].tolist() == [6, 9]
    assert (found.duplicates, found.reordered) == (((2, 12), (13, 14)), ((4, 15),))
    assert found.leaks == ((2, 12), (4, 15))


def test_a_member_that_stands_still_is_no_duplicate(tmp_path):
    like = wsl.params.from_module(network(0))
    zoo = written(tmp_path / "z.h5", [(0, epoch, like) for epoch in range(3)])
    found = population_health(zoo)
    assert (found.duplicates, found.reordered, found.leaks) == ((), (), ())
    assert not found.extreme.any()


def test_equal_sorted_entries_alone_are_no_proof(tmp_path):
    """The same numbers in another order that no permutation of units explains."""
    theta = wsl.params.from_module(network(0))
    other = dict(theta, **{"0.weight": theta["0.weight"].T.reshape(6, 4)})
    found = population_health(zoo_of(tmp_path / "z.h5", [theta, other, *map(network, range(2, 9))]))
    assert found.reordered == ()


class Scaled(nn.Module):
    """A network with batch norm, whose counter has no axes, and a learned number without any."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3))
        self.scale = nn.Parameter(torch.tensor(2.0))

    def forward(self, x):
        return self.scale * self.layers(x)


def test_tensors_without_axes_and_statistics_are_understood(tmp_path):
    models = [Scaled() for _ in range(5)]
    spec = wsl.permutation_spec(models[0].eval(), torch.zeros(2, 4))
    zoo = wsl.Zoo.from_models(tmp_path / "z.h5", models, spec=spec, metadata={})
    assert member_weights(zoo).shape == (5, 24 + 6 + 6 + 6 + 18 + 3 + 1)
    assert {p.name: p.shape for p in tensor_profiles(zoo, [0])}["scale"] == ()
    assert population_health(zoo).duplicates == ()
    assert align_members(zoo).members == 5
    assert population_distances(zoo, [0, 1]).after.shape == (2, 2)
