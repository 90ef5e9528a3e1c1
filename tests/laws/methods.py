"""Laws of every merge method: what it declares, and how it treats equal, moved and reordered input.

`METHOD_LAWS` are functions of one instance that merges any number of members. A method that needs a
base or statistics gets them: one network, and a positive number for every weight of each member.
"""

import pytest
import torch

from wsl import params
from wsl.merging import MergeMethod
from wsl.symmetry import Permutation, PermutationSpec

SPEC = PermutationSpec.parse("h = 5\n0.weight: h 3\n0.bias: h\n2.weight: 2 h\n2.bias: 2\nsteps:")
NEEDS = {"base", "statistics"}


def weights(seed: int) -> params.Params:
    rng = torch.Generator().manual_seed(seed)
    theta = {name: torch.randn(shape, generator=rng) for name, shape in SPEC.shapes.items()}
    return theta | {"steps": torch.tensor(7)}


def merged(method: MergeMethod, members: list[params.Params], g=dict) -> params.Params:
    """The method's answer, its base and statistics moved by ``g`` as the members have been."""
    base = g(weights(99)) if "base" in method.needs else None
    statistics = None
    if "statistics" in method.needs:
        every = [weights(50 + k) for k in range(len(members))]
        statistics = [g({n: t.abs() + 0.1 for n, t in one.items()}) for one in every]
    return method.solve(members, base=base, statistics=statistics)


def same(a: params.Params, b: params.Params) -> None:
    assert list(a) == list(b)
    for name, tensor in a.items():
        assert tensor.dtype == b[name].dtype
        torch.testing.assert_close(tensor, b[name], rtol=1e-5, atol=1e-6)


def it_declares_what_it_needs(method: MergeMethod) -> None:
    assert type(method).needs <= NEEDS


def it_gives_weights_like_the_members_and_leaves_those(method: MergeMethod) -> None:
    members = [weights(seed) for seed in range(3)]
    found = merged(method, members)
    assert {n: (t.shape, t.dtype) for n, t in found.items()} == {
        n: (t.shape, t.dtype) for n, t in members[0].items()
    }
    assert found["steps"] == 7
    for seed, member in enumerate(members):
        assert all(torch.equal(member[n], t) for n, t in weights(seed).items())


def it_commutes_with_the_group(method: MergeMethod) -> None:
    g = Permutation.random(SPEC, torch.Generator().manual_seed(1))
    members = [weights(seed) for seed in range(3)]
    same(merged(method, [g(member) for member in members], g), g(merged(method, members)))


def equal_members_give_the_member(method: MergeMethod) -> None:
    if "base" in method.needs:
        return  # a sum of task vectors is more than each of them
    same(merged(method, [weights(1)] * 3), weights(1))


def the_order_of_the_members_does_not_matter(method: MergeMethod) -> None:
    if "statistics" in method.needs:
        return  # they are given by position here
    members = [weights(seed) for seed in range(3)]
    same(merged(method, members[::-1]), merged(method, members))


def members_that_differ_are_refused(method: MergeMethod) -> None:
    wrong = weights(1) | {"0.bias": torch.zeros(4)}
    with pytest.raises(ValueError, match=r"0\.bias"):
        merged(method, [weights(0), wrong])


METHOD_LAWS = [
    it_declares_what_it_needs,
    it_gives_weights_like_the_members_and_leaves_those,
    it_commutes_with_the_group,
    equal_members_give_the_member,
    the_order_of_the_members_does_not_matter,
    members_that_differ_are_refused,
]
