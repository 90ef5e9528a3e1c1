"""Many models to one universe: the family's laws, and what each method does beyond them."""

import numpy as np
import pytest
import torch
from laws.many import MANY_LAWS, independent, scattered, value
from networks import BY_NAME, NETWORKS

from wsl import params
from wsl.matching import (
    MANY,
    CycleConsistent,
    JointMatch,
    MergeMany,
    ToReference,
    WeightMatching,
    match,
    match_all,
)
from wsl.matching.blocks import plan
from wsl.matching.many.cycle_consistent import best_vertex
from wsl.matching.many.relaxed import Relaxed
from wsl.matching.solvers import aligned_tensors
from wsl.merging import Average, align, average, merge
from wsl.symmetry import Permutation, PermutationSpec, SpecError

ROWS = {
    **{name: kind() for name, kind in MANY.items()},
    "to the third": ToReference(reference=2),
    "one by one": ToReference(matcher=WeightMatching(seed=None)),
    "relaxed alone": CycleConsistent(rival=None),
    "relaxed from a start": CycleConsistent(start=ToReference(), rival=None),
}


@pytest.mark.parametrize("law", MANY_LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize("name", ROWS)
def test_every_method_for_many_keeps_the_laws(name, law):
    law(ROWS[name])


def test_the_laws_catch_a_method_that_does_nothing():
    class Idle(ToReference):
        def solve(self, spec, models, /):
            still = Permutation.identity(spec)
            return JointMatch((still,) * len(models), value(models), 1, True)

    failed = []
    for law in MANY_LAWS:
        try:
            law(Idle())
        except AssertionError:
            failed.append(law.__name__)
    assert failed == [
        "it_undoes_planted_permutations",
        "models_moved_beforehand_are_brought_together_alike",
    ]


def relaxed_after(network, steps, seed=0):
    """The relaxed problem after steps towards random permutations; the last is not yet taken."""
    models = independent(network, 3)
    names = aligned_tensors(models[0])
    cut = plan(network.spec, names)
    wide = {n: t.double() for n, t in params.stack(models).items() if n in names}
    problem = Relaxed(cut, wide, torch.empty(0, dtype=torch.float64))
    problem.soften()
    rng = torch.Generator().manual_seed(seed)
    for t in [*steps, None]:
        scores = problem.gradients()
        vertices = {
            name: best_vertex(
                block,
                {k: torch.randn(m.shape, generator=rng).to(m) for k, m in scores[name].items()},
                3,
            )
            for name, block in cut.blocks.items()
        }
        along = problem.along(vertices)
        if t is None:
            return problem, vertices, along
        problem.step(vertices, t)


@pytest.mark.parametrize("network", NETWORKS, ids=lambda n: n.name)
def test_the_polynomial_is_the_objective_along_the_step(network):
    """Quartic for matrices, also where a group acts twice on one tensor or has families."""
    for t in (0.0, 0.3, 1.0):
        problem, vertices, along = relaxed_after(network, [0.5, 0.7])
        problem.step(vertices, t)
        assert problem.value == pytest.approx(along(t), rel=1e-9, abs=1e-9)
    assert along.degree() <= 2 * max(len(piece.sites) for piece in problem.pieces)


@pytest.mark.parametrize("name", ["mlp", "cnn", "attention", "gru"])
def test_the_slope_of_the_polynomial_is_the_gradient_towards_the_vertices(name):
    """The gradient of each model from the sum of all is that of the sum over pairs."""
    problem, vertices, along = relaxed_after(BY_NAME[name], [0.5, 0.7])
    slope = 0.0
    for block, scores in problem.gradients().items():
        towards = vertices[block]
        for key, matrix in scores.items():
            columns = towards[block]
            if key != block:
                inner = towards[key]
                columns = (columns[..., None] * inner.shape[-1] + inner).flatten(1)
            at = matrix.gather(2, columns[..., None]).sum()
            slope += float(at - (matrix * problem.mass[block][key]).sum())
    assert along.deriv()(0.0) == pytest.approx(slope, rel=1e-9)


def test_soft_permutations_stay_doubly_stochastic():
    problem, vertices, _ = relaxed_after(BY_NAME["attention"], [0.5])
    problem.step(vertices, 0.25)
    for matrices in problem.mass.values():
        for matrix in matrices.values():
            assert matrix.min() >= 0
            for axis in (1, 2):
                np.testing.assert_allclose(matrix.sum(axis), 1, rtol=1e-6)


def test_merge_many_from_the_models_as_they_are_is_the_published_algorithm():
    network = BY_NAME["mlp"]
    models, _ = scattered(network, seed=3, noise=0.0)
    found = match_all(network.spec, models, MergeMany(start=None))
    first, *others = found(models)
    assert found.converged
    assert all(torch.allclose(o[n], t) for o in others for n, t in first.items())


def test_frank_wolfe_is_never_below_its_rival():
    network = BY_NAME["gru"]
    models = independent(network, 4)
    alone = match_all(network.spec, models, CycleConsistent(rival=None))
    rival = match_all(network.spec, models, MergeMany())
    assert alone.objective < rival.objective  # else this shows nothing
    both = match_all(network.spec, models, CycleConsistent())
    assert both.objective == rival.objective
    assert both.permutations == rival.permutations


def test_a_limit_of_rounds_is_told():
    network = BY_NAME["residual"]
    models = independent(network, 4)
    assert not match_all(network.spec, models, MergeMany(start=None, max_rounds=1)).converged
    assert not match_all(network.spec, models, CycleConsistent(max_iterations=2)).converged
    with pytest.raises(ValueError, match="MergeMany: max_rounds is 0, but at least one is needed"):
        MergeMany(max_rounds=0)
    with pytest.raises(ValueError, match="max_iterations is -1 and patience 3"):
        CycleConsistent(max_iterations=-1)


def test_all_to_one_reference_are_matched_as_each_alone():
    network = BY_NAME["cnn"]
    models = independent(network, 4)
    together = match_all(network.spec, models, ToReference(reference=1))
    for i in (0, 2, 3):
        alone = match(network.spec, models[1], models[i]).permutation
        assert together.permutations[i] == alone
    mixed = [
        models[0],
        {n: t.double() if t.is_floating_point() else t for n, t in models[2].items()},
    ]
    assert (
        match_all(network.spec, mixed, ToReference()).permutations[1]
        == match(network.spec, models[0], mixed[1]).permutation
    )


def test_signs_go_to_a_reference_and_nowhere_else():
    network, odd = BY_NAME["siren"], ("h1", "h2")
    models = independent(network, 3)
    signed = WeightMatching(odd=odd)
    found = match_all(network.spec, models, ToReference(matcher=signed))
    moved = found.beside(models)
    for i in (1, 2):
        alone = match(network.spec, models[0], models[i], signed)(models[i])
        assert all(torch.equal(t, moved[i][n]) for n, t in alone.items())
    with pytest.raises(ValueError, match="model 1 was moved by more than a permutation"):
        found.beside(models, 1)
    with pytest.raises(SpecError, match="WeightMatching searches permutation, sign; only perm"):
        MergeMany(matcher=signed)


def test_what_cannot_be_matched_is_refused_by_name():
    network = BY_NAME["mlp"]
    spec, models = network.spec, independent(network, 3)
    bad = dict(models[2])
    with pytest.raises(ValueError, match="match_all: got 1 models; at least two are needed"):
        match_all(spec, models[:1])
    with pytest.raises(SpecError, match=r"model 1: has batch axes \(2,\)"):
        match_all(spec, [models[0], params.stack(models[1:])])
    with pytest.raises(SpecError, match=r"0.weight: .*axis 0"):
        match_all(spec, [models[0], {**bad, "0.weight": bad["0.weight"][:-1]}])
    with pytest.raises(ValueError, match=r"0.bias: 7 of 7 values in 'model 2' are NaN or infinite"):
        match_all(spec, [*models[:2], {**bad, "0.bias": bad["0.bias"] * float("nan")}])
    with pytest.raises(ValueError, match=r"0.weight: int8 weights in 'model 1' cannot be matched"):
        match_all(spec, [models[0], {**bad, "0.weight": bad["0.weight"].to(torch.int8)}])
    with pytest.raises(ValueError, match=r"0.weight: is on the meta device in 'b'"):
        match(spec, models[0], {n: t.to("meta") for n, t in bad.items()})
    with pytest.raises(SpecError, match="ToReference: reference is 3, but there are 3 models"):
        match_all(spec, models, ToReference(reference=3))
    with pytest.raises(ValueError, match="3 models were matched, but 2 are given"):
        match_all(spec, models)(models[:2])


def test_models_without_groups_stay_as_they_are():
    spec = PermutationSpec.parse("w: 2 3")
    models = [
        {"w": torch.randn(2, 3, generator=torch.Generator().manual_seed(i))} for i in range(3)
    ]
    for method in MANY.values():
        found = match_all(spec, models, method())
        assert found.objective == pytest.approx(value(models))


def test_merging_aligns_all_members_to_each_other_on_request():
    network = BY_NAME["residual"]
    models, _ = scattered(network, seed=5, noise=0.1)
    found = match_all(network.spec, models)
    merged = merge(models, Average(), spec=network.spec, matcher=CycleConsistent())
    expected = average(found.beside(models))
    assert all(torch.equal(t, expected[n]) for n, t in merged.params.items())
    assert merged.report["objective"] == [found.objective]
    based = merge(models[1:], spec=network.spec, base=models[0], matcher=CycleConsistent())
    expected = average(found.beside(models)[1:])
    assert all(torch.equal(t, expected[n]) for n, t in based.params.items())
    first, *_ = align(network.spec, models, matcher=MergeMany())
    assert all(torch.equal(t, models[0][n]) for n, t in first.items())
