"""Elements act in one way: one or many of them, once or again, wherever they came from."""

import copy
import pickle

import pytest
import torch

from wsl.symmetry import (
    Permutation,
    PermutationBatch,
    PermutationSpec,
    Rescaling,
    SignedBatch,
    SpecError,
    flip_signs,
)

SPECS = [
    "c1 = 4, c2 = 6, h = 5\nconv1: c1 1 3 3\nconv2: c2 c1 3 3\nfc1: h (c2 9)\nfc2: 10 h\nt:",
    "a = 2, b = 3\ncat: 7 a+b+2+a\nnorm: (a 4)+(b 4)\nsquare: (a b) (2 b)",
    "d = 6, head = 3, dk = 4 per head, dv = 2 per head\n"
    "qk: (2 head dk) d\nv: (head dv)+d d\nout: d (head dv)",
]
UNITS = "scale h: w1[0] b1[0] / w2[1]\nsign h: w1[0] b1[0] w2[1]"
SCALED = PermutationSpec.parse(f"h = 5\nw1: h 3\nb1: h\nw2: 2 h\n{UNITS}")


@pytest.fixture(params=SPECS)
def spec(request):
    return PermutationSpec.parse(request.param)


def weights(spec, *batch, seed=0):
    rng = torch.Generator().manual_seed(seed)
    return {n: torch.randn((*batch, *s), generator=rng) for n, s in spec.shapes.items()}


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def by_definition(g, tensor, axes):
    """The action, entry by entry: every entry is looked up where its factors come from."""
    per = {group.name: group.per for group in g.spec.declared}
    for dim, axis in enumerate(axes):
        index, start = [], 0
        for segment in axis:
            sizes = [g.spec.segment_size((atom,)) for atom in segment]
            grid = torch.cartesian_prod(*(torch.arange(n) for n in sizes)).view(-1, len(sizes))
            for position in grid.tolist():
                source = 0
                for k, atom in enumerate(segment):
                    i = position[k]
                    if isinstance(atom, str):
                        table = g.indices[atom]
                        if per[atom]:
                            table = table[position[segment.index(per[atom])]]
                        i = int(table[i])
                    source = source * sizes[k] + i
                index.append(start + source)
            start += len(grid)
        tensor = tensor.index_select(dim, torch.tensor(index))
    return tensor


def test_the_action_is_that_of_the_definition(spec):
    g, theta = Permutation.random(spec, torch.Generator().manual_seed(1)), weights(spec)
    moved = g(theta)
    for name, axes in spec.annotations:
        assert torch.equal(moved[name], by_definition(g, theta[name], axes))


def test_many_elements_act_as_each_alone(spec):
    batch = PermutationBatch.random(spec, 3, torch.Generator().manual_seed(1))
    theta = weights(spec, 3)
    moved = batch(theta)
    for row in range(3):
        alone = batch.element(row)({name: tensor[row] for name, tensor in theta.items()})
        assert equal({name: tensor[row] for name, tensor in moved.items()}, alone)


def test_index_maps_are_computed_once_and_give_the_same_again(spec):
    g, theta = Permutation.random(spec, torch.Generator().manual_seed(1)), weights(spec)
    axis = next(axis for _, axes in spec.annotations for axis in axes if len(axis) == 1)
    assert g.axis_index(axis) is g.axis_index(axis)
    assert equal(g(theta), g(theta))
    assert equal(g(theta), Permutation(spec, dict(g.indices))(theta))


def through_pickle(g):
    return pickle.loads(pickle.dumps(g))  # noqa: S301 - written one line before


@pytest.mark.parametrize("again", [copy.deepcopy, through_pickle])
def test_an_element_that_has_acted_copies_without_what_it_keeps(spec, again):
    rng = torch.Generator().manual_seed(1)
    odd = [group.name for group in spec.declared if group.per is None]
    fresh = Permutation.random(spec, rng)
    size = len(pickle.dumps(fresh))
    for g, batch in [
        (fresh, ()),
        (PermutationBatch.random(spec, 2, rng), (2,)),
        (SignedBatch.random(spec, 2, odd, generator=rng), (2,)),
    ]:
        theta = weights(spec, *batch)
        moved = g(theta)
        assert equal(again(g)(theta), moved)
    assert len(pickle.dumps(fresh)) < size + 300


def elements():
    rng = torch.Generator().manual_seed(1)
    return [
        Permutation.random(SCALED, rng),
        PermutationBatch.random(SCALED, 2, rng),
        Rescaling.random(SCALED, rng),
        SignedBatch.random(SCALED, 2, ["h"], generator=rng),
    ]


def test_what_was_first_used_in_inference_serves_gradients():
    theta = weights(SCALED, 2)
    for g in [*elements(), *torch.inference_mode()(elements)()]:
        with torch.inference_mode():
            expected = g(theta)
        leaves = {name: tensor.clone().requires_grad_() for name, tensor in theta.items()}
        moved = g(leaves)
        assert equal(moved, expected)
        sum(tensor.square().sum() for tensor in moved.values()).backward()
        assert all(leaf.grad is not None for leaf in leaves.values())


def test_a_rescaling_serves_every_dtype():
    r, theta = Rescaling.random(SCALED, torch.Generator().manual_seed(1)), weights(SCALED)
    single, double = r(theta), r({name: tensor.double() for name, tensor in theta.items()})
    assert all(single[name].dtype == torch.float32 for name in theta)
    for name, tensor in double.items():
        assert tensor.dtype == torch.float64
        torch.testing.assert_close(tensor, single[name].double(), rtol=1e-6, atol=1e-6)


def test_flips_multiply_every_axis_of_their_group():
    spec = PermutationSpec.parse("h = 3\nw: h (2 h)\nb: h")
    signs = torch.tensor([[1.0, -1.0, 1.0], [-1.0, -1.0, 1.0]])
    theta = weights(spec, 2)
    moved = flip_signs(spec, theta, {"h": signs})
    assert torch.equal(moved["b"], theta["b"] * signs)
    assert torch.equal(moved["w"], theta["w"] * signs[:, :, None] * signs.repeat(1, 2)[:, None])
    assert equal(flip_signs(spec, moved, {"h": signs}), theta)


def test_flips_of_a_family_are_refused():
    spec = PermutationSpec.parse("a = 2, j = 2 per a\nw: (a j)")
    with pytest.raises(SpecError, match="odd group 'j': signs need a group that is no family"):
        flip_signs(spec, weights(spec, 2), {"j": torch.ones(2, 2)})
