"""Laws of matching: planted permutations are found, the objective only rises, the result moves with
its inputs.
"""

import itertools
import os
import subprocess
import sys

import pytest
import torch
from networks import BY_NAME, NETWORKS
from paths import TESTS

from wsl import params
from wsl.matching import Match, WeightMatching, aligned_distance, match, match_many, nearest
from wsl.matching.solvers.assignment import assign
from wsl.symmetry import Permutation, PermutationBatch, PermutationSpec, SignedBatch, SpecError

IGNORED = ("running_mean", "running_var", "num_batches_tracked")
each_network = pytest.mark.parametrize("network", NETWORKS, ids=lambda n: n.name)


def generator(seed):
    return torch.Generator().manual_seed(seed)


def residual_family(din, stream, inner, dout, *, blocks):
    names = [f"b{i}" for i in range(blocks)]
    layers = [line for b in names for line in (f"{b}.up: {b} s", f"{b}.down: s {b}")]
    sizes = ", ".join([f"s = {stream}", *(f"{b} = {inner}" for b in names)])
    return PermutationSpec.parse("\n".join([sizes, f"stem: s {din}", *layers, f"head: {dout} s"]))


def gaussian(spec, seed, dtype=torch.float32):
    rng = generator(seed)
    return {
        name: torch.randn(shape, generator=rng, dtype=dtype) for name, shape in spec.shapes.items()
    }


def noisy(theta, scale, seed):
    rng = generator(seed)
    return {
        n: t + scale * torch.randn(t.shape, generator=rng).to(t) if t.is_floating_point() else t
        for n, t in theta.items()
    }


def inner(a, b):
    names = [name for name, t in a.items() if t.is_floating_point() and not name.endswith(IGNORED)]
    return sum(float((a[name].double() * b[name].double()).sum()) for name in names)


def elements(spec):
    """Every element of a small group."""
    tables = []
    for group in spec.declared:
        one = [torch.tensor(p) for p in itertools.permutations(range(group.size))]
        copies = itertools.product(one, repeat=spec.groups[group.per]) if group.per else None
        tables.append([torch.stack(c) for c in copies] if copies else one)
    for choice in itertools.product(*tables):
        yield Permutation(
            spec, {group.name: index for group, index in zip(spec.declared, choice, strict=True)}
        )


@each_network
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_planted_permutation_is_found_and_undone_bit_for_bit(network, dtype):
    for seed in range(3):
        theta = network.weights(seed=seed, dtype=dtype)
        planted = Permutation.random(network.spec, generator(seed))
        found = match(network.spec, theta, planted(theta))
        assert found.permutation == ~planted
        back = found.permutation(planted(theta))
        assert all(torch.equal(back[name], theta[name]) for name in theta)
        assert found.objective == pytest.approx(inner(theta, theta), rel=1e-12)
        assert found.converged


@pytest.mark.parametrize(
    ("blocks", "stream", "inner_size", "trials"), [(3, 30, 50, 10), (9, 64, 64, 3)]
)
def test_planted_permutations_of_residual_networks_are_always_found(
    blocks, stream, inner_size, trials
):
    spec = residual_family(10, stream, inner_size, 10, blocks=blocks)
    for seed in range(trials):
        theta, planted = gaussian(spec, seed), Permutation.random(spec, generator(seed))
        assert match(spec, theta, planted(theta)).permutation == ~planted


def test_without_the_anchor_deep_residual_networks_are_missed():
    spec = residual_family(10, 64, 64, 10, blocks=9)
    theta, planted = gaussian(spec, 0), Permutation.random(spec, generator(0))
    assert (
        match(spec, theta, planted(theta), WeightMatching(anchored=False)).permutation != ~planted
    )


def test_planted_permutations_survive_noise_larger_than_the_weights():
    spec = residual_family(10, 64, 64, 10, blocks=9)
    theta, planted = gaussian(spec, 0), Permutation.random(spec, generator(0))
    assert match(spec, theta, planted(noisy(theta, 1.5, seed=1))).permutation == ~planted


@each_network
@pytest.mark.parametrize("anchored", [True, False])
def test_the_objective_never_falls_and_is_never_below_the_identity(network, anchored):
    for seed in range(2):
        a, b = network.weights(seed=seed), network.weights(seed=100 + seed)
        path = [inner(a, b)]
        for sweeps in range(1, 8):
            found = match(network.spec, a, b, WeightMatching(max_sweeps=sweeps, anchored=anchored))
            assert found.sweeps <= sweeps
            path.append(found.objective)
        assert all(late >= early - 1e-5 * abs(early) for early, late in itertools.pairwise(path)), (
            path
        )
        assert found.objective == pytest.approx(inner(a, found.permutation(b)), rel=1e-12)
        assert found.converged


@each_network
def test_a_converged_match_stays_where_it_is(network):
    a, b = network.weights(seed=1), network.weights(seed=2)
    aligned = match(network.spec, a, b).permutation(b)
    again = match(network.spec, a, aligned, WeightMatching(anchored=False))
    assert again.permutation == Permutation.identity(network.spec)
    assert (again.sweeps, again.converged) == (1, True)


@each_network
def test_the_match_moves_with_its_inputs(network):
    spec = network.spec
    g, h = Permutation.random(spec, generator(3)), Permutation.random(spec, generator(4))
    a = network.weights(seed=1)
    b = Permutation.random(spec, generator(5))(noisy(a, 0.1, seed=2))
    plain = match(spec, a, b).permutation
    assert match(spec, g(a), b).permutation == g @ plain
    assert match(spec, a, h(b)).permutation == plain @ ~h


def test_one_hidden_layer_is_solved_exactly_in_one_sweep():
    spec = PermutationSpec.parse("h = 5\n0.weight: h 3\n0.bias: h\n2.weight: 2 h\n2.bias: 2")
    for seed in range(5):
        a, b = gaussian(spec, seed), gaussian(spec, 50 + seed)
        best = max(inner(a, g(b)) for g in elements(spec))
        for anchored in (True, False):
            found = match(spec, a, b, WeightMatching(anchored=anchored))
            assert found.objective == pytest.approx(best)
            assert (found.sweeps, found.converged) == (1, True)


def test_heads_are_paired_by_their_best_inner_assignments():
    spec = PermutationSpec.parse(
        "head = 2, dk = 3 per head, dv = 2 per head\nqk: (2 head dk) 4\nv: (head dv) 4\nscale: head"
    )
    for seed in range(3):
        a, b = gaussian(spec, seed), gaussian(spec, 50 + seed)
        best = max(inner(a, g(b)) for g in elements(spec))
        assert match(spec, a, b).objective == pytest.approx(best)


@pytest.mark.parametrize(
    "text",
    [
        "h = 4\nmix: h h\nbias: h",
        "h = 4\npair: (h h) 2",
        "a = 2, j = 2 per a, k = 2 per a\ncross: (a j k) 3\nj: (a j)",
        "a = 2, j = 3 per a\nsquare: (a j) (a j)\nin: (a j) 3",
        "c1 = 2, c2 = 3\nsum: c1+c2 3+c1\nnested: (c1 (c2 2))",
    ],
)
def test_every_annotation_can_be_matched(text):
    spec = PermutationSpec.parse(text)
    for seed in range(4):
        a, b = gaussian(spec, seed), gaussian(spec, 50 + seed)
        values = sorted(inner(a, g(b)) for g in elements(spec))
        found = match(spec, a, b)
        assert inner(a, b) - 1e-5 <= found.objective <= values[-1] + 1e-5
        assert found.objective > values[len(values) // 2]
        planted = next(itertools.islice(elements(spec), len(values) * 2 // 3, None))
        moved = match(spec, a, planted(a)).permutation(planted(a))
        assert inner(a, moved) == pytest.approx(inner(a, a))


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 6])
def test_assignments_are_the_best_of_all_permutations(n):
    scores = torch.randn(4, 2, n, n, generator=generator(n))
    found = assign(scores)
    total = scores.gather(-1, found[..., None]).sum((-1, -2))
    best = torch.stack(
        [scores[..., range(n), p].sum(-1) for p in itertools.permutations(range(n))]
    ).amax(0)
    torch.testing.assert_close(total, best)
    assert torch.equal(found.sort(-1).values, torch.arange(n).expand(4, 2, n))
    assert torch.equal(assign(scores[0, 0]), found[0, 0])


def test_networks_that_already_lie_close_are_left_alone():
    spec = residual_family(10, 64, 64, 10, blocks=9)
    a = gaussian(spec, 0)
    for scale in (0.0, 0.5):
        found = match(spec, a, noisy(a, scale, seed=1))
        assert found.permutation == Permutation.identity(spec)
    b = noisy(a, 3.0, seed=1)
    assert match(spec, a, b).objective >= inner(a, b)
    lost = match(spec, a, Permutation.random(spec, generator(1))(b))
    assert lost.objective < inner(a, b), "the anchored pass alone should miss what the identity has"


def test_equal_units_a_single_unit_and_zero_weights_do_no_harm():
    spec = PermutationSpec.parse("one = 1, h = 4, dead = 3\nin: h 2\nmid: one h\nout: dead one")
    twins = gaussian(spec, 0) | {"in": torch.ones(4, 2), "out": torch.zeros(3, 1)}
    found = match(spec, twins, twins)
    assert found.permutation == Permutation.identity(spec)
    assert found.objective == pytest.approx(inner(twins, twins))
    assert found.converged


def test_a_specification_without_groups_gives_the_identity():
    spec = PermutationSpec.parse("w: 3 2\nsteps:")
    a = {"w": torch.randn(3, 2, generator=generator(0)), "steps": torch.tensor(3)}
    assert match(spec, a, a) == Match(
        Permutation.identity(spec), pytest.approx(inner(a, a)), 1, True
    )


def test_statistics_do_not_vote_but_are_carried_along():
    network = BY_NAME["residual"]
    a, planted = network.weights(), Permutation.random(network.spec, generator(1))
    b = planted(a | {name: t.flip(0) * 100 for name, t in a.items() if "running" in name})
    assert match(network.spec, a, b).permutation == ~planted
    everything = match(network.spec, a, planted(a), WeightMatching(ignore=())).objective
    assert everything == pytest.approx(
        sum(float(t.double().square().sum()) for t in a.values() if t.is_floating_point())
    )
    only = PermutationSpec.parse("c = 3\nbn.running_mean: c")
    assert match(only, gaussian(only, 0), gaussian(only, 1)).permutation == Permutation.identity(
        only
    )


@pytest.mark.parametrize(
    ("left", "right"), [(torch.float16, torch.float16), (torch.bfloat16, torch.float64)]
)
def test_low_and_mixed_precision_are_matched_in_float32(left, right):
    network = BY_NAME["cnn"]
    theta, planted = network.weights(), Permutation.random(network.spec, generator(1))
    a, b = ({n: t.to(kind) for n, t in theta.items()} for kind in (left, right))
    assert match(network.spec, a, planted(b)).permutation == ~planted


def test_inputs_stay_as_they_are_and_may_require_gradients():
    network = BY_NAME["cnn"]
    a, b = network.weights(seed=1), network.weights(seed=2)
    before = {name: t.clone() for name, t in b.items()}
    first = match(network.spec, a, b)
    assert all(torch.equal(b[name], before[name]) for name in b)
    a, b = ({n: t.requires_grad_() for n, t in theta.items()} for theta in (a, b))
    assert match(network.spec, a, b).permutation == first.permutation


def test_a_limit_of_sweeps_is_reported():
    spec = residual_family(5, 20, 20, 5, blocks=5)
    a, b = gaussian(spec, 0), gaussian(spec, 1)
    short = match(spec, a, b, WeightMatching(max_sweeps=1))
    assert (short.sweeps, short.converged) == (1, False)
    full = match(spec, a, b)
    assert full.converged
    assert full.sweeps > 1


def test_the_result_does_not_depend_on_the_hash_seed():
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from networks import BY_NAME; from wsl.matching import match\n"
        "for name in ('attention', 'gru', 'dense', 'residual'):\n"
        "    n = BY_NAME[name]; m = match(n.spec, n.weights(seed=1), n.weights(seed=2))\n"
        "    sys.stdout.write(repr(({k: i.tolist() for k, i in m.permutation.indices.items()}, "
        "m.objective, m.sweeps)))\n"
    )
    folder = str(TESTS)
    runs = [
        subprocess.run(
            [sys.executable, "-c", code, folder],
            env={**os.environ, "PYTHONHASHSEED": seed, "OMP_NUM_THREADS": "1"},
            cwd=os.path.dirname(folder),
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert runs[0] == runs[1]
    assert "head1" in runs[0]


@each_network
def test_distance_after_alignment_does_not_see_the_order_of_units(network):
    spec, a = network.spec, network.weights(seed=1)
    assert aligned_distance(spec, a, Permutation.random(spec, generator(1))(a)) == 0
    b = noisy(a, 0.1, seed=2)
    names = [name for name, t in a.items() if t.is_floating_point() and not name.endswith(IGNORED)]
    expected = (
        sum(float((a[name].double() - b[name].double()).square().sum()) for name in names) ** 0.5
    )
    assert aligned_distance(spec, a, Permutation.random(spec, generator(3))(b)) == pytest.approx(
        expected
    )


@each_network
def test_the_nearest_candidate_is_that_of_matching_every_one(network):
    spec, a = network.spec, network.weights(seed=1)
    far = [network.weights(seed=10 + i) for i in range(4)]
    others = [Permutation.random(spec, generator(5))(noisy(a, 0.5, seed=3)), *far[2:]]
    for members in (far, [*far[:2], *others]):
        distances = [aligned_distance(spec, a, member) for member in members]
        assert nearest(spec, a, params.stack(members)) == (
            distances.index(min(distances)),
            min(distances),
        )


def test_nearest_stops_when_no_bound_can_win():
    calls = []

    class Counting(WeightMatching):
        def solve(self, spec, a, b, /):
            calls.append(1)
            return super().solve(spec, a, b)

    network = BY_NAME["cnn"]
    a = network.weights(seed=1)
    members = [{n: t * 3 for n, t in network.weights(seed=i).items()} for i in range(5)]
    members.insert(3, Permutation.random(network.spec, generator(1))(a))
    assert nearest(network.spec, a, params.stack(members), matcher=Counting()) == (3, 0.0)
    assert len(calls) == 1


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_named(value):
    network = BY_NAME["mlp"]
    good, bad = network.weights(), network.weights()
    bad["2.weight"][1, 2] = value
    with pytest.raises(ValueError, match=r"2\.weight: 1 of 42 values in 'b' are NaN or infinite"):
        match(network.spec, good, bad)
    with pytest.raises(ValueError, match=r"2\.weight: 1 of 42 values in 'a' are NaN or infinite"):
        match(network.spec, bad, good)
    with pytest.raises(ValueError, match=r"2\.weight: 1 of 42 values in 'candidates'"):
        nearest(network.spec, good, params.stack([bad]))


def test_weights_that_do_not_fit_are_refused():
    network = BY_NAME["mlp"]
    spec, theta = network.spec, network.weights()
    with pytest.raises(SpecError, match=r"0\.weight: axis 1 has size 4, but it must have size 5"):
        match(spec, theta, theta | {"0.weight": torch.zeros(7, 4)})
    with pytest.raises(
        SpecError, match=r"b: has batch axes \(2, 3\), but match takes one checkpoint"
    ):
        match(spec, theta, network.weights(2, 3))
    with pytest.raises(
        SpecError, match=r"a: has batch axes \(2,\), but match takes one checkpoint"
    ):
        match(spec, network.weights(2), theta)
    with pytest.raises(SpecError, match=r"candidates: leading axes \(\), but one axis"):
        nearest(spec, theta, theta)
    with pytest.raises(
        SpecError, match=r"a: has batch axes \(2,\), but nearest takes one checkpoint"
    ):
        nearest(spec, network.weights(2), network.weights(2))
    with pytest.raises(ValueError, match="max_sweeps is 0, but at least one sweep"):
        WeightMatching(max_sweeps=0)
    complex_weights = {name: t.to(torch.complex64) for name, t in theta.items()}
    with pytest.raises(ValueError, match=r"0\.weight: complex weights in 'a' cannot be matched"):
        match(spec, complex_weights, complex_weights)


def test_a_family_inside_a_family_is_refused():
    spec = PermutationSpec.parse("a = 2, j = 2 per a, k = 2 per j\nw: (a j k)")
    with pytest.raises(
        SpecError, match="group 'k' is per 'j', which is itself per 'a'; matching knows one level"
    ):
        match(spec, {"w": torch.zeros(8)}, {"w": torch.zeros(8)})


@each_network
def test_matching_many_recovers_a_planted_permutation_of_every_row(network):
    spec, reference = network.spec, network.weights(seed=3)
    rows = PermutationBatch.random(spec, 4, generator(1))(
        {k: t.expand(4, *t.shape) for k, t in reference.items()}
    )
    aligned = match_many(spec, reference, rows)(rows)
    assert all(torch.equal(t, reference[k].expand_as(t)) for k, t in aligned.items())


def test_a_row_is_matched_the_same_whoever_stands_beside_it():
    network = BY_NAME["residual"]
    reference, rows = network.weights(seed=1), network.weights(5, seed=2)
    together = match_many(network.spec, reference, rows)
    for row in range(5):
        alone = match_many(network.spec, reference, {k: t[row : row + 1] for k, t in rows.items()})
        assert alone.permutation.element(0) == together.permutation.element(row)


def test_matching_many_gains_about_what_matching_one_gains():
    network = BY_NAME["mlp"]
    reference, rows = network.weights(seed=1), network.weights(40, seed=2)
    together = match_many(network.spec, reference, rows)

    def gain(permutation, row):
        moved, names = permutation(row), list(row)
        return sum(float((reference[k] * (moved[k] - row[k])).sum()) for k in names)

    each = params.unstack(rows)
    many = [gain(together.permutation.element(r), row) for r, row in enumerate(each)]
    one = [gain(match(network.spec, reference, row).permutation, row) for row in each]
    assert min(many) >= 0
    assert sum(many) > 0.97 * sum(one)


def test_matching_many_names_what_does_not_fit():
    network = BY_NAME["mlp"]
    with pytest.raises(SpecError, match="one axis with at least one row"):
        match_many(network.spec, network.weights(), network.weights())
    with pytest.raises(SpecError, match="reference: has batch axes"):
        match_many(network.spec, network.weights(2), network.weights(2))


def test_an_anchored_start_that_loses_is_undone_in_its_rows():
    network = BY_NAME["mlp"]
    reference, rows = network.weights(seed=1), network.weights(6, seed=2)
    rows["2.weight"] = 10 * reference["2.weight"].expand(6, -1, -1)
    aligned = match_many(network.spec, reference, rows)(rows)
    before, after = params.unstack(rows), params.unstack(aligned)
    assert all(
        inner(reference, new) >= inner(reference, old)
        for old, new in zip(before, after, strict=True)
    )
    assert any(
        torch.equal(new["2.weight"], old["2.weight"])
        for old, new in zip(before, after, strict=True)
    )


def siren_orbit(rows, seed, noise=0.0):
    """A SIREN, rows of it moved by random signed permutations, noise in them, and what moved
    them.
    """
    network = BY_NAME["siren"]
    reference, rng = network.weights(seed=seed), generator(seed + 1)
    near = {k: t + noise * torch.randn(rows, *t.shape, generator=rng) for k, t in reference.items()}
    return (
        network,
        reference,
        near,
        SignedBatch.random(network.spec, rows, ["h1", "h2"], generator=rng),
    )


@pytest.mark.parametrize("noise", [0.0, 0.02])
def test_matching_many_recovers_planted_signs_and_permutations(noise):
    network, reference, near, orbit = siren_orbit(20, seed=4, noise=noise)
    moved = orbit(near)
    aligned = match_many(network.spec, reference, moved, odd=["h1", "h2"])(moved)
    assert all(torch.equal(aligned[k], near[k]) for k in near)
    unsigned = match_many(network.spec, reference, moved)(moved)
    assert not torch.allclose(unsigned["layers.1.weight"], near["layers.1.weight"])


def test_signed_elements_leave_the_function_of_a_siren():
    network, module = BY_NAME["siren"], BY_NAME["siren"].make()
    reference, rows = (
        network.weights(seed=1),
        {k: 0.1 * t for k, t in network.weights(4, seed=2).items()},
    )
    elements = match_many(network.spec, reference, rows, odd=["h1", "h2"]).element
    assert all((signs < 0).any() for signs in elements.signs.values())
    for old, new in zip(params.unstack(rows), params.unstack(elements(rows)), strict=True):
        x = network.inputs()
        torch.testing.assert_close(
            params.call(module, new, x), params.call(module, old, x), atol=1e-4, rtol=1e-4
        )


def test_signed_matching_of_one_group_is_what_brute_force_finds():
    spec = PermutationSpec.parse("h = 3\nin: h 4\nbias: h\nout: 2 h")
    reference, rows = (
        gaussian(spec, 0),
        params.stack([gaussian(spec, seed) for seed in range(1, 13)]),
    )
    found = match_many(spec, reference, rows, odd=["h"])(rows)
    every = [
        (list(p), torch.tensor(s))
        for p in itertools.permutations(range(3))
        for s in itertools.product([-1.0, 1.0], repeat=3)
    ]
    for row, best in zip(params.unstack(rows), params.unstack(found), strict=True):
        tried = [
            {
                "in": s[:, None] * row["in"][p],
                "bias": s * row["bias"][p],
                "out": s * row["out"][:, p],
            }
            for p, s in every
        ]
        assert inner(reference, best) == pytest.approx(max(inner(reference, one) for one in tried))


def test_no_negated_unit_and_no_exchange_of_two_improves_a_signed_match():
    network, odd = BY_NAME["siren"], ["h1", "h2"]
    reference, rows = network.weights(seed=1), network.weights(8, seed=2)
    found = match_many(network.spec, reference, rows, odd=odd)(rows)
    best = [inner(reference, row) for row in params.unstack(found)]
    assert all(
        value > inner(reference, row) for value, row in zip(best, params.unstack(rows), strict=True)
    )
    still = PermutationBatch.stack([Permutation.identity(network.spec)] * 8)
    for name in odd:
        size = network.spec.groups[name]
        for i, j in itertools.product(range(size), repeat=2):
            index, signs = torch.arange(size), torch.ones(8, size)
            index[[i, j]], signs[:, i] = index[[j, i]], -1.0
            step = SignedBatch(
                PermutationBatch(network.spec, {**still.indices, name: index.repeat(8, 1)}),
                {name: signs},
            )
            assert all(
                inner(reference, row) <= value + 1e-4
                for value, row in zip(best, params.unstack(step(found)), strict=True)
            )


def test_signs_of_no_group_leave_the_match_as_it_is():
    network = BY_NAME["siren"]
    reference, rows = network.weights(seed=1), network.weights(5, seed=2)
    plain, signed = (
        match_many(network.spec, reference, rows),
        match_many(network.spec, reference, rows, odd=[]).element,
    )
    assert all(plain.permutation.element(r) == signed.permutations.element(r) for r in range(5))
    assert signed.signs == {}


def test_signs_are_matched_only_in_simple_groups():
    for name, wrong, message in (
        ("siren", "h7", "odd group 'h7': signs need a group that is no family"),
        ("attention", "dk1", "odd group 'dk1': signs need"),
        ("attention", "head1", "group 'head1' has families or acts twice on one tensor"),
        ("tied", "h1", "group 'h1' has families or acts twice"),
    ):
        network = BY_NAME[name]
        with pytest.raises(SpecError, match=message):
            match_many(network.spec, network.weights(), network.weights(2), odd=[wrong])
