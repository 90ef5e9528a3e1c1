"""The test of common origin is exact under its null, sees small grafts, and combines honestly."""

import itertools
import math

import numpy as np
import pytest
import torch
from networks import NETWORKS

from wsl.diagnostics import common_origin
from wsl.diagnostics.origin.sites import unit_sites, weights_of
from wsl.symmetry import Permutation, PermutationSpec, SpecError

MLP = PermutationSpec.parse("h1 = 512, h2 = 40\na: h1 30\nb: h2 h1\nc: 10 h2")


def drawn(spec, seed):
    rng = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=rng) for name, shape in spec.shapes.items()}


def grafted(spec, a, b, *, group, units):
    """b with the first units of a group, incoming and outgoing weights, from a."""
    theta = {name: tensor.clone() for name, tensor in b.items()}
    for place in spec.occurrences(group):
        index = (slice(None),) * place.axis + (slice(units),)
        theta[place.tensor][index] = a[place.tensor][index]
    return theta


def market_groups():
    """One group of every network that has one small enough to try."""
    for network in NETWORKS:
        spec = network.spec
        sites = unit_sites(spec, weights_of(network.weights()))
        plain = {group.name: group.size for group in spec.declared if group.per is None}
        names = [name for name, size in plain.items() if 2 <= size <= 9 and sites[name]]
        if names:
            yield pytest.param(network, names[-1], id=f"{network.name}-{names[-1]}")


@pytest.mark.parametrize(("network", "group"), list(market_groups()))
def test_over_a_cycle_of_relabellings_one_unit_in_the_mean_stays(network, group):
    spec, size = network.spec, network.spec.groups[group]
    a, b = network.weights(seed=1), network.weights(seed=2)
    same = Permutation.identity(spec).indices
    cycle = [torch.arange(size).roll(shift) for shift in range(size)]
    moved = [Permutation(spec, {**same, group: order})(b) for order in cycle]
    fixed = [common_origin(spec, a, theta).groups[group].fixed for theta in moved]
    assert sum(fixed) == size


@pytest.mark.parametrize("group", ["h1", "h2"])
def test_over_all_relabellings_the_fixed_points_follow_the_law_exactly(group):
    spec = PermutationSpec.parse("h1 = 4, h2 = 4\na: h1 3\nb: h2 h1\nr: h2 h2\nc: 2 h2")
    a, b = drawn(spec, 1), drawn(spec, 2)
    same = Permutation.identity(spec).indices
    orders = map(torch.tensor, itertools.permutations(range(4)))
    moved = [Permutation(spec, {**same, group: order})(b) for order in orders]
    fixed = [common_origin(spec, a, theta).groups[group].fixed for theta in moved]
    assert np.bincount(fixed, minlength=5).tolist() == [9, 8, 6, 0, 1]


def test_units_of_a_family_are_tested_within_each_of_its_parents():
    spec = PermutationSpec.parse(
        "head = 3, dk = 4 per head, d = 7\nq: (head dk) d\nk: (head dk) d\no: d d"
    )
    a = drawn(spec, 0)
    one = common_origin(spec, a, a)
    assert (one.groups["dk"].copies, one.groups["dk"].fixed) == (3, 12)
    assert one.groups["dk"].log_p == pytest.approx(-3 * math.log(24))
    g = Permutation.random(spec, torch.Generator().manual_seed(1))
    inner = {**Permutation.identity(spec).indices, "dk": g.indices["dk"]}
    moved = Permutation(spec, inner)(a)
    stay = int((g.indices["dk"] == torch.arange(4)).sum())
    assert common_origin(spec, a, moved).groups["dk"].fixed == stay


def test_all_units_in_place_have_one_chance_in_n_factorial():
    a = drawn(MLP, 0)
    found = common_origin(MLP, a, a)
    assert found.fixed == (552, 552)
    assert found.groups["h1"].log_p == pytest.approx(-math.lgamma(513))
    assert found.log_p == pytest.approx(-math.lgamma(513) + math.log(2))
    assert found.groups["h2"].cosine == pytest.approx(1)


@pytest.mark.parametrize("seed", range(5))
def test_two_percent_of_the_units_show_at_one_in_a_million(seed):
    a, b = drawn(MLP, 2 * seed), drawn(MLP, 2 * seed + 1)
    found = common_origin(MLP, a, grafted(MLP, a, b, group="h1", units=11), seed=seed)
    assert found.groups["h1"].fixed >= 11
    assert found.log10_p < -6
    assert common_origin(MLP, a, b, seed=seed).log10_p > -3


def test_groups_that_share_a_tensor_are_in_different_classes():
    found = common_origin(MLP, drawn(MLP, 0), drawn(MLP, 1))
    assert found.classes == (("h1",), ("h2",))
    assert found.log_p == min(0.0, min(g.log_p for g in found.groups.values()) + math.log(2))


@pytest.mark.parametrize("size", [4, 30])
def test_layers_that_began_as_copies_are_not_taken_for_independent(size):
    spec = PermutationSpec.parse(
        f"f1 = {size}, f2 = {size}, f3 = {size}\n"
        "u1: f1 9\nd1: 9 f1\nu2: f2 9\nd2: 9 f2\nu3: f3 9\nd3: 9 f3"
    )
    apart = drawn(spec, 0)
    assert common_origin(spec, apart, drawn(spec, 1)).classes == (("f1", "f2", "f3"),)
    cloned = {**apart, "u3": apart["u1"], "d3": apart["d1"], "u2": apart["u1"], "d2": apart["d1"]}
    found = common_origin(spec, cloned, drawn(spec, 1))
    assert found.classes == (("f1",), ("f2",), ("f3",))
    assert [group.twin for group in found.groups.values()] == ["", "f1", "f1"]


def test_ties_are_broken_at_random_and_not_in_favour_of_the_identity():
    spec = PermutationSpec.parse("h = 6\nw: h 4")
    same = {"w": torch.ones(6, 4)}
    fixed = [common_origin(spec, same, same, seed=s).groups["h"].fixed for s in range(400)]
    assert np.mean(fixed) == pytest.approx(1, abs=0.2)
    assert max(fixed) < 6


def test_randomized_p_is_uniform_over_the_law():
    group = common_origin(MLP, drawn(MLP, 0), drawn(MLP, 1)).groups["h1"]
    assert group.randomized_p(1.0) == pytest.approx(math.exp(group.log_p))
    assert group.randomized_p(0.0) < group.randomized_p(0.5) < group.randomized_p(1.0)


def test_what_cannot_be_tested_is_named():
    spec = PermutationSpec.parse("h = 4, one = 1\nw: h h\nv: one 3")
    found = common_origin(spec, drawn(spec, 0), drawn(spec, 0))
    assert dict(found.left_out) == {
        "h": "no tensor that takes part has it once",
        "one": "has a single unit",
    }
    assert (found.log_p, found.fixed, found.classes) == (0.0, (0, 0), ())


def test_tensors_that_no_training_made_can_be_left_out():
    spec = PermutationSpec.parse("d = 20\nposition: 9 d\nw: d 5")
    a, b = drawn(spec, 0), {**drawn(spec, 1), "position": drawn(spec, 0)["position"]}
    assert common_origin(spec, a, b).log10_p < -6
    assert common_origin(spec, a, b, leave_out=["position"]).log10_p > -3


def test_batch_norm_statistics_and_dead_units_say_nothing():
    spec = PermutationSpec.parse("h = 8\nw: h 3\nbn.weight: h\nbn.running_var: h")
    theta = drawn(spec, 0)
    assert common_origin(spec, theta, theta).groups["h"].tensors == ("w", "bn.weight")
    dead = {name: torch.zeros_like(t) for name, t in theta.items()}
    assert common_origin(spec, dead, dead).groups["h"].fixed < 8


def test_bad_weights_are_refused_by_name():
    a = drawn(MLP, 0)
    with pytest.raises(SpecError, match=r"b: axis 1 has size 5"):
        common_origin(MLP, a, {**a, "b": torch.zeros(40, 5)})
    with pytest.raises(ValueError, match="NaN or infinite"):
        common_origin(MLP, a, {**a, "a": a["a"] * float("nan")})
