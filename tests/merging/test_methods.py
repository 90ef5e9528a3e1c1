"""Every merge method of the table keeps its family's laws; `merge` aligns, merges and repairs."""

import json

import pytest
import torch
from laws.methods import METHOD_LAWS, ROWS, SPEC, weights
from networks import BY_NAME

from wsl.connectivity import (
    least_squares,
    repair,
    repair_closed_form,
    repair_on_noise,
    reset_batch_norm,
)
from wsl.matching import WeightMatching, match
from wsl.merging import Average, Mend, align, average, merge
from wsl.symmetry import Permutation


@pytest.mark.parametrize("law", METHOD_LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize("name", ROWS)
def test_every_method_keeps_the_laws(name, law):
    law(ROWS[name])


def test_the_laws_catch_a_method_that_returns_one_member():
    class First(Average):
        def solve(self, members, **_):
            return dict(members[0])

    failed = []
    for law in METHOD_LAWS:
        try:
            law(First())
        except (AssertionError, pytest.fail.Exception):
            failed.append(law.__name__)
    assert failed == ["the_order_of_the_members_does_not_matter", "members_that_differ_are_refused"]


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[n], b[n]) for n in a)


def test_without_a_specification_members_are_taken_as_they_are():
    members = [weights(seed) for seed in range(3)]
    merged = merge(members, Average([1, 2, 3]))
    assert equal(merged.params, average(members, [1, 2, 3]))
    assert merged.report["matcher"] is None
    assert merged.report["objective"] == []
    assert merged.report["members"] == 3
    assert equal(merge(members).params, average(members))


def test_the_report_says_how_and_is_json():
    a, b = weights(0), weights(1)
    merged = merge([a, b], spec=SPEC, matcher=WeightMatching(seed=3))
    found = match(SPEC, a, b, WeightMatching(seed=3))
    assert equal(merged.params, average([a, found(b)]))
    report = json.loads(json.dumps(merged.report))
    assert report["objective"] == [found.objective]
    assert report["converged"] == [True]
    assert report["method"] == "Average(weights=None)"
    assert "seed=3" in report["matcher"]
    assert report["repaired"] is False


def test_with_a_base_members_are_aligned_to_it():
    base = weights(0)
    members = [
        Permutation.random(SPEC, torch.Generator().manual_seed(k))(base) for k in range(1, 4)
    ]
    merged = merge(members, base=base, spec=SPEC)
    torch.testing.assert_close(merged.params, base)
    assert len(merged.report["objective"]) == 3


def test_batch_norm_is_repaired_by_the_network_or_by_a_function():
    network = BY_NAME["residual"]
    model, members = network.make(), [network.weights(seed=k) for k in range(2)]
    batches = [network.inputs(seed=k) for k in range(2)]
    plain = merge(members, spec=network.spec).params
    merged = merge(members, spec=network.spec, repair=model, data=batches)
    assert equal(merged.params, reset_batch_norm(model, plain, batches))
    assert merged.report["repaired"]
    doubled = merge(members, spec=network.spec, repair=lambda t: {n: 2 * x for n, x in t.items()})
    assert all(torch.equal(doubled.params[name], 2 * tensor) for name, tensor in plain.items())


def test_what_a_method_needs_must_be_given():
    class FromBase(Average):
        needs = frozenset({"base"})

    class WithStatistics(Average):
        needs = frozenset({"statistics"})

    members = [weights(0), weights(1)]
    for message, call in (
        ("FromBase needs a base", lambda: merge(members, FromBase())),
        ("WithStatistics needs statistics", lambda: merge(members, WithStatistics())),
        ("a matcher without a spec", lambda: merge(members, matcher=WeightMatching())),
        ("measured on data; give some", lambda: merge(members, repair=torch.nn.ReLU())),
        ("data serves to repair", lambda: merge(members, data=[])),
        ("0.bias: shapes", lambda: merge([members[0], members[1] | {"0.bias": torch.ones(4)}])),
        ("only the second", lambda: merge(members, base={**members[0], "new": torch.ones(1)})),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_mending_takes_its_steps_with_the_aligned_members():
    network = BY_NAME["residual"]
    model = network.make()
    a, b = network.weights(seed=1), network.weights(seed=2)
    batches = [network.inputs(8, seed=seed) for seed in range(2)]
    found = merge([a, b], spec=network.spec, repair=Mend(model), data=batches).params
    aligned = align(network.spec, [a, b])
    expected = repair(model, average(aligned), aligned, batches=batches).params
    expected = least_squares(model, expected, aligned, batches=batches).params
    assert equal(found, expected)
    plain = merge([a, b], spec=network.spec, repair=Mend(model, ["reset"]), data=batches).params
    assert equal(plain, merge([a, b], spec=network.spec, repair=model, data=batches).params)
    with pytest.raises(ValueError, match=r"step 'repiar' does not exist \(did you mean 'repair'"):
        Mend(model, ["repiar"])
    with pytest.raises(ValueError, match="are measured on data; give some"):
        merge([a, b], repair=Mend(model))


def test_a_merge_is_mended_without_data():
    network = BY_NAME["residual"]
    model, members = network.make().eval(), [network.weights(seed=i) for i in range(2)]
    example = network.inputs(2)
    for step, mend in (
        ("repair_on_noise", repair_on_noise),
        ("repair_closed_form", repair_closed_form),
    ):
        found = merge(members, repair=Mend(model, [step], example)).params
        expected = mend(model, average(members), members, example=example).params
        assert equal(found, expected)
        assert equal(found, merge(members, repair=Mend(model, [step]), data=[example]).params)
    weighted = Mend(model, ["repair_on_noise"], example).apply(members[0], members, weights=[1, 0])
    assert all(torch.allclose(weighted[n], members[0][n], atol=1e-4) for n in weighted)
    with pytest.raises(ValueError, match="measured on data; give some"):
        merge(members, repair=Mend(model, ["repair_on_noise", "repair"], example))
    with pytest.raises(ValueError, match="give an example, whose shape"):
        Mend(model, ["repair_on_noise"]).apply(members[0], members)
