"""Every matcher of the table keeps its family's laws; matchers go wherever matching happens."""

import dataclasses
import itertools
from typing import ClassVar

import pytest
import torch
from laws.matchers import MATCHER_LAWS, SPEC, instances, network, weights
from networks import BY_NAME, NETWORKS

from wsl import params
from wsl.augment import Alignment, MixUp
from wsl.generative import Canonicalizer
from wsl.matching import (
    ElementRows,
    LearnedMatching,
    Match,
    WeightMatching,
    align,
    aligned_distance,
    match,
    match_many,
    nearest,
)
from wsl.symmetry import Permutation, PermutationSpec, SignedBatch, SpecError

each_network = pytest.mark.parametrize("network", NETWORKS, ids=lambda n: n.name)


@dataclasses.dataclass(frozen=True)
class Exhaustive:
    """The best of all permutations of one small group: the slow reference, one row at a time."""

    needs: ClassVar[frozenset[str]] = frozenset({"weights"})
    searches: ClassVar[frozenset[str]] = frozenset({"permutation"})
    many: ClassVar[bool] = False

    def solve(self, spec, a, b, /):
        (name,) = spec.groups
        every = itertools.permutations(range(spec.groups[name]))
        elements = (Permutation(spec, {name: torch.tensor(order)}) for order in every)

        def score(g):
            return sum(float((a[n].double() * t.double()).sum()) for n, t in g(b).items())

        best = max(elements, key=score)
        return Match(best, score(best), 1, True)


ROWS = {
    **instances(),
    "learned": LearnedMatching(
        lambda theta, x: network(theta, x).square().mean(), [torch.ones(2, 3)]
    ),
    "weight, fixed order": WeightMatching(seed=None),
    "weight, from the identity": WeightMatching(anchored=False),
    "exhaustive, one by one": Exhaustive(),
}


@pytest.mark.parametrize("law", MATCHER_LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize("name", ROWS)
def test_every_matcher_keeps_the_laws(name, law):
    law(ROWS[name])


def test_the_laws_catch_a_matcher_that_does_nothing():
    class Idle(Exhaustive):
        def solve(self, spec, *_):
            return Match(Permutation.identity(spec), 0.0, 0, True)

    failed = []
    for law in MATCHER_LAWS:
        try:
            law(Idle())
        except AssertionError:
            failed.append(law.__name__)
    assert failed == ["it_undoes_a_planted_permutation"]


def test_weight_matching_of_one_group_is_what_brute_force_finds():
    for seed in range(5):
        a, b = weights(seed), weights(20 + seed)
        assert match(SPEC, a, b).objective == pytest.approx(
            match(SPEC, a, b, Exhaustive()).objective
        )


@each_network
@pytest.mark.parametrize("seed", [0, None])
def test_every_row_of_any_network_is_matched_as_if_alone(network, seed):
    """Families, tied and recurrent weights included; rows that start in different orders too."""
    matcher, a = WeightMatching(seed=seed), network.weights(seed=1)
    rows = [network.weights(seed=2 + r) for r in range(3)]
    rows += [Permutation.random(network.spec, torch.Generator().manual_seed(r))(a) for r in (5, 6)]
    rows[1] = {n: t * (3 if "weight" in n else 1) for n, t in rows[1].items()}
    together = match(network.spec, a, params.stack(rows), matcher)
    for r, row in enumerate(rows):
        alone = match(network.spec, a, row, matcher)
        if network.spec.groups:
            assert together.permutation.element(r) == alone.permutation
        assert together.objective[r] == pytest.approx(alone.objective, rel=1e-6)
        assert (together.sweeps[r], together.converged[r]) == (alone.sweeps, alone.converged)
        assert together.trace[r, alone.sweeps - 1] == pytest.approx(
            float(alone.trace[-1]), rel=1e-5
        )


def test_rows_in_portions_are_matched_as_all_at_once(monkeypatch):
    network = BY_NAME["cnn"]
    a, rows = network.weights(seed=1), network.weights(7, seed=2)
    whole = match_many(network.spec, a, rows)
    monkeypatch.setattr("wsl.matching.solvers.rows.ENTRIES", 1)
    cut = match_many(network.spec, a, rows)
    assert all(
        torch.equal(index, cut.permutation.indices[name])
        for name, index in whole.permutation.indices.items()
    )
    assert torch.allclose(whole.objective, cut.objective)
    assert torch.equal(whole.sweeps, cut.sweeps)
    assert torch.allclose(whole.trace[:, -1], cut.trace[:, -1])


@each_network
def test_the_trace_is_the_objective_after_each_sweep(network):
    a, b = network.weights(seed=1), network.weights(seed=2)
    found = match(network.spec, a, b)
    assert len(found.trace) == found.sweeps
    for sweeps in range(1, found.sweeps + 1):
        short = match(network.spec, a, b, WeightMatching(max_sweeps=sweeps))
        assert float(found.trace[sweeps - 1]) == pytest.approx(short.objective, rel=1e-5, abs=1e-4)
    assert set(found.seconds) == {"products", "assignment", "total"}
    assert found.seconds["products"] + found.seconds["assignment"] <= found.seconds["total"]


def test_signs_of_one_network_are_those_of_a_stack_of_one():
    network, odd = BY_NAME["siren"], ("h1", "h2")
    a, b = network.weights(seed=1), network.weights(seed=2)
    one = match(network.spec, a, b, WeightMatching(seed=None, odd=odd))
    many = match_many(network.spec, a, params.stack([b]), odd=odd)
    assert isinstance(one.element, SignedBatch)
    assert isinstance(one.permutation, Permutation)
    assert one.permutation == many.permutation.element(0)
    moved = many(params.stack([b]))
    assert all(torch.equal(t, moved[n][0]) for n, t in one(b).items())
    assert one.objective == pytest.approx(float(many.objective[0]))
    assert WeightMatching(odd=odd).searches == {"permutation", "sign"}
    assert WeightMatching().searches == {"permutation"}


def test_signs_are_matched_beside_groups_that_have_none():
    network = BY_NAME["attention"]
    a, rows = network.weights(seed=1), network.weights(3, seed=2)
    signed = match_many(network.spec, a, rows, odd=["h1"])
    assert (signed.element.signs["h1"] < 0).any()
    start = params.unstack(rows)
    for r, row in enumerate(start):
        own = sum(float((a[n].double() * row[n].double()).sum()) for n in a)
        assert float(signed.objective[r]) > own


def test_a_matcher_goes_wherever_matching_happens():
    a, rows = weights(0), params.stack([weights(seed) for seed in range(1, 5)])
    each = [match(SPEC, a, row, Exhaustive()) for row in params.unstack(rows)]
    expected = params.stack([m(row) for m, row in zip(each, params.unstack(rows), strict=True)])
    found = match_many(SPEC, a, rows, matcher=Exhaustive())
    assert found.objective.tolist() == [m.objective for m in each]
    for moved in (
        found(rows),
        align(SPEC, rows, a, matcher=Exhaustive()),
        params.stack(align(SPEC, params.unstack(rows), a, matcher=Exhaustive())),
        Canonicalizer(SPEC, a, matcher=Exhaustive())(rows),
        Alignment.fit(SPEC, rows, reference=a, matcher=Exhaustive())(rows, torch.arange(4)),
        MixUp.aligned(SPEC, a, matcher=Exhaustive()).move(rows, torch.Generator()),
    ):
        assert all(torch.equal(moved[name], tensor) for name, tensor in expected.items())
    distances = [aligned_distance(SPEC, a, r, matcher=Exhaustive()) for r in params.unstack(rows)]
    assert nearest(SPEC, a, rows, matcher=Exhaustive()) == (
        distances.index(min(distances)),
        min(distances),
    )
    with pytest.raises(SpecError, match="Exhaustive takes no odd groups; leave out odd"):
        match_many(SPEC, a, rows, odd=["h"], matcher=Exhaustive())


def test_elements_of_other_kinds_act_row_by_row():
    class Doubling(Exhaustive):
        """An element that is no permutation."""

        def solve(self, spec, a, b, /):
            found = super().solve(spec, a, b)
            return dataclasses.replace(
                found, element=lambda theta: {n: 2 * t for n, t in found.permutation(theta).items()}
            )

    a, rows = weights(0), params.stack([weights(seed) for seed in range(1, 4)])
    found = match(SPEC, a, rows, Doubling())
    assert isinstance(found.element, ElementRows)
    plain = found.permutation(rows)
    assert all(torch.equal(t, 2 * plain[name]) for name, t in found(rows).items())
    some = {name: tensor[[2, 0]] for name, tensor in rows.items()}
    moved = found.element[torch.tensor([2, 0])](some)
    assert all(torch.equal(t, 2 * plain[name][[2, 0]]) for name, t in moved.items())


def test_the_nearest_up_to_signs_is_that_of_matching_every_one():
    spec = PermutationSpec.parse("h = 3\nin: h 2\nout: 1 h")
    matcher, rng = WeightMatching(odd=("h",)), torch.Generator().manual_seed(0)
    a = {name: torch.randn(shape, generator=rng) for name, shape in spec.shapes.items()}
    rows = {n: torch.randn(9, *s, generator=rng) for n, s in spec.shapes.items()}
    rows["in"][4], rows["out"][4] = -a["in"], -a["out"]
    assert nearest(spec, a, rows, matcher=matcher) == (4, 0.0)
    rows = {name: tensor[torch.arange(9) != 4] for name, tensor in rows.items()}
    distances = [aligned_distance(spec, a, row, matcher=matcher) for row in params.unstack(rows)]
    assert nearest(spec, a, rows, matcher=matcher)[1] == min(distances)


def test_canonical_rows_lie_in_order_in_memory_so_that_means_are_the_same():
    """A mean over rows adds in the order of memory; rows matched alone and stacked are in order."""
    network = BY_NAME["cnn"]
    a, rows = network.weights(seed=1), network.weights(6, seed=2)
    canonicalizer = Canonicalizer(network.spec, a)
    alone = params.stack([match(network.spec, a, row)(row) for row in params.unstack(rows)])
    mean = {name: tensor.mean(0) for name, tensor in alone.items()}
    assert all(torch.equal(t.mean(0), mean[n]) for n, t in canonicalizer(rows).items())
    fitted = Canonicalizer(network.spec, a).fit({n: t.clone() for n, t in rows.items()}, rounds=1)
    start = {name: tensor[0] for name, tensor in rows.items()}
    near = params.stack([match(network.spec, start, row)(row) for row in params.unstack(rows)])
    assert all(torch.equal(fitted.reference[n], t.mean(0)) for n, t in near.items())
