"""Laws of every merge method: what it declares, and how it treats equal, moved and reordered input.

`METHOD_LAWS` are functions of one instance. A method gets as many members as it takes, and what it
needs: a base, and statistics, a positive number for every weight of each member (and of the base).
"""

import pytest
import torch

from wsl import params
from wsl.merging import METHODS, MergeMethod
from wsl.symmetry import Permutation, PermutationSpec

SPEC = PermutationSpec.parse(
    "h = 5\n0.weight: h 3\n0.bias: h\nbn.running_mean: h\nbn.running_var: h\n"
    "2.weight: 2 h\n2.bias: 2\nsteps:"
)
NEEDS = {"base", "statistics", "base statistics", "validation", "training"}


def weights(seed: int) -> params.Params:
    rng = torch.Generator().manual_seed(seed)
    theta = {name: torch.randn(shape, generator=rng) for name, shape in SPEC.shapes.items()}
    return theta | {"steps": torch.tensor(7), "bn.running_var": theta["bn.running_var"].abs() + 0.1}


def number(method: MergeMethod) -> int:
    return getattr(method, "takes", 3)


def several(method: MergeMethod) -> list[params.Params]:
    return [weights(seed) for seed in range(number(method))]


def merged(method: MergeMethod, members: list[params.Params], g=dict) -> params.Params:
    """The method's answer, its base and statistics moved by ``g`` as the members have been."""
    base = g(weights(99)) if "base" in method.needs else None
    statistics = None
    if "statistics" in method.needs:
        count = len(members) + ("base statistics" in method.needs)
        every = [weights(50 + k) for k in range(count)]
        statistics = [measured(method, g(one)) for one in every]
    return method.solve(members, base=base, statistics=statistics)


def measured(method: MergeMethod, theta: params.Params) -> params.Params:
    """Statistics that move with the units: of entries, or products of the rows of each weight."""
    if getattr(method, "measures", "fisher") == "fisher":
        return {n: t.abs() + 0.1 for n, t in theta.items()}
    return {n: t.mT @ t for n, t in theta.items() if t.dim() == 2}


def same(a: params.Params, b: params.Params) -> None:
    assert list(a) == list(b)
    for name, tensor in a.items():
        assert tensor.dtype == b[name].dtype
        torch.testing.assert_close(tensor, b[name], rtol=1e-5, atol=2e-6)


def it_declares_what_it_needs(method: MergeMethod) -> None:
    assert type(method).needs <= NEEDS
    assert getattr(method, "takes", 1) >= 1


def it_gives_weights_like_the_members_and_leaves_those(method: MergeMethod) -> None:
    members = several(method)
    found = merged(method, members)
    assert {n: (t.shape, t.dtype) for n, t in found.items()} == {
        n: (t.shape, t.dtype) for n, t in members[0].items()
    }
    assert found["steps"] == 7
    for seed, member in enumerate(members):
        assert all(torch.equal(member[n], t) for n, t in weights(seed).items())


def running_statistics_are_no_task_vectors(method: MergeMethod) -> None:
    """A base of variance 1 and members of 0.1 give -0.8 if they are taken as tasks."""
    members = [m | {"bn.running_var": torch.full((5,), 0.1)} for m in several(method)]
    found = merged(method, members, lambda w: dict(w) | {"bn.running_var": torch.ones(5)})
    torch.testing.assert_close(found["bn.running_var"], torch.full((5,), 0.1))


def half_precision_comes_back_as_it_was(method: MergeMethod) -> None:
    def half(theta):
        return {n: t.bfloat16() if t.is_floating_point() else t for n, t in theta.items()}

    found = merged(method, [half(member) for member in several(method)], half)
    assert {t.dtype for n, t in found.items() if n != "steps"} == {torch.bfloat16}
    assert all(t.isfinite().all() for t in found.values())


def it_commutes_with_the_group(method: MergeMethod) -> None:
    """A random method does so on average only; its own tests say how."""
    if getattr(method, "random", False):
        return
    g = Permutation.random(SPEC, torch.Generator().manual_seed(1))
    members = several(method)
    same(merged(method, [g(member) for member in members], g), g(merged(method, members)))


def the_same_call_gives_the_same_bits(method: MergeMethod) -> None:
    first, second = (merged(method, several(method)) for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def the_order_of_the_tensors_does_not_matter(method: MergeMethod) -> None:
    def turned(theta):
        return dict(reversed(theta.items()))

    found = merged(method, [turned(member) for member in several(method)], turned)
    same(dict(reversed(found.items())), merged(method, several(method)))


def equal_members_give_the_member(method: MergeMethod) -> None:
    if "base" in method.needs:
        return  # a sum of task vectors is more than each of them
    same(merged(method, [weights(1)] * number(method)), weights(1))


def the_order_of_the_members_does_not_matter(method: MergeMethod) -> None:
    if "statistics" in method.needs or getattr(method, "ordered", False):
        return  # they are given by position here
    members = several(method)
    same(merged(method, members[::-1]), merged(method, members))


def members_that_differ_are_refused(method: MergeMethod) -> None:
    members = several(method)
    wrong = weights(1) | {"0.bias": torch.zeros(4)}
    with pytest.raises(ValueError, match=r"0\.bias"):
        merged(method, [*members[:-1], wrong])


def tensors_come_one_by_one_where_it_says_so(method: MergeMethod) -> None:
    """What a merge out of core relies on."""
    if getattr(method, "whole", False):
        return
    every = merged(method, several(method))
    for name, tensor in every.items():

        def one(theta, name=name):
            return {name: theta[name]}

        alone = merged(method, [one(member) for member in several(method)], one)
        torch.testing.assert_close(alone[name], tensor)


METHOD_LAWS = [
    it_declares_what_it_needs,
    it_gives_weights_like_the_members_and_leaves_those,
    running_statistics_are_no_task_vectors,
    half_precision_comes_back_as_it_was,
    it_commutes_with_the_group,
    the_same_call_gives_the_same_bits,
    the_order_of_the_tensors_does_not_matter,
    equal_members_give_the_member,
    the_order_of_the_members_does_not_matter,
    members_that_differ_are_refused,
    tensors_come_one_by_one_where_it_says_so,
]


def length(theta, batch=None):
    return sum(t.float().square().sum() for t in theta.values() if t.is_floating_point())


GIVEN = {
    "greedy_soup": {"evaluate": lambda theta: -float(length(theta))},
    "bcwi": {"evaluate": lambda theta: -float(length(theta))},
    "atlas": {"loss": length, "batches": [None]},
}
"""What has no default: a score and a loss that no permutation changes."""
ROWS = {name: kind(**GIVEN.get(name, {})) for name, kind in METHODS.items()}
ROWS |= {
    "nuslerp by rows": METHODS["nuslerp"](weights=(1, 3), unit="row"),
    "nuslerp by columns": METHODS["nuslerp"](unit="column"),
    "model stock by rows": METHODS["model_stock"](unit="row"),
    "ties by tensors": METHODS["ties"](unit="tensor", consensus="sum"),
    "dare with election": METHODS["dare"](election=True, consensus="mean"),
    "breadcrumbs with election": METHODS["breadcrumbs"](election=True, gamma=0.2, density=0.5),
    "sce of half": METHODS["sce"](select=0.5),
    "tsvm of one vector": METHODS["tsvm"](rank=lambda *_: 1),
    "iso_cts of few": METHODS["iso_cts"](common=0.2),
    "fisher as given": METHODS["fisher"](balance=False),
    "regmean, all products": METHODS["regmean"](alpha=1.0),
}
"""Every method of the table, and some with other settings."""
