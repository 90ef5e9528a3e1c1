"""Linear streams: what is averaged is their product, whatever matrix stands between the factors."""

import pytest
import torch
from torch import nn

from wsl import params
from wsl.connectivity import average_products
from wsl.matching import align_linear
from wsl.merging import average
from wsl.symmetry import LinearMaps, mixing, symmetry_spec


class Bottleneck(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.down = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 4, 1)
        self.up, self.head = nn.Conv2d(4, 9, 3, padding=1), nn.Linear(9, 2)

    def forward(self, x):
        return self.head(self.up(self.down(self.first(x).relu())).relu().mean((2, 3)))


class LowRank(nn.Module):
    def __init__(self):
        super().__init__()
        self.full, self.head = nn.Linear(5, 7), nn.Linear(7, 3)
        self.inner, self.outer = nn.Linear(5, 2, bias=False), nn.Linear(2, 7, bias=False)

    def forward(self, x):
        return self.head((self.full(x) + self.outer(self.inner(x))).relu())


class Stream(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.head = nn.Linear(9, 6), nn.Linear(6, 8)
        self.inner, self.outer = nn.Linear(6, 7), nn.Linear(7, 6)

    def forward(self, x):
        x = self.first(x)
        return self.head(x + self.outer(self.inner(x).relu()))


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(12, 3, 16, batch_first=True, norm_first=True)

    def forward(self, x):
        return self.layer(x)


NETWORKS = {
    "convolutions": (Bottleneck, (3, 6, 6)),
    "low rank": (LowRank, (5,)),
    "stream": (Stream, (9,)),
    "attention": (Attention, (5, 12)),
}
each_network = pytest.mark.parametrize("name", NETWORKS)


def case(name):
    """A network with its specification, inputs, and two sets of weights."""
    make, shape = NETWORKS[name]
    torch.manual_seed(0)
    model, x = make().double().eval(), torch.randn(3, *shape, dtype=torch.float64)
    spec = symmetry_spec(model, x)
    assert any(unit.kind == "linear" for unit in mixing(spec))
    return model, spec, x, [params.from_module(make().double()) for _ in range(2)]


def random(spec, seed=1):
    return LinearMaps.random(spec, torch.Generator().manual_seed(seed))


def largest(a, b):
    return max(float((a[name] - b[name]).abs().max()) for name in a)


@each_network
def test_members_that_differ_by_matrices_give_the_first_of_them(name):
    _, spec, _, (a, _) = case(name)
    b = random(spec)(a)
    assert largest(a, b) > 0.1
    assert largest(average_products(spec, average([a, b]), [a, b]), a) < 1e-8
    assert largest(align_linear(spec, a, b)(b), a) < 1e-5
    assert largest(average([a, b]), a) > 0.1


@each_network
def test_matrices_on_a_member_do_not_change_the_merge(name):
    model, spec, x, (a, b) = case(name)
    moved = random(spec)(b)
    plain, other = (average_products(spec, average([a, m]), [a, m]) for m in (b, moved))
    assert largest(plain, other) < 1e-8
    values = [params.call(model, theta, x) for theta in (plain, other)]
    torch.testing.assert_close(*values)
    apart = [params.call(model, average([a, m]), x) for m in (b, moved)]
    assert (apart[0] - apart[1]).abs().max() > 1e-3


def test_the_product_is_the_best_of_its_rank_of_the_mean_of_products():
    _, spec, _, given = case("low rank")
    shares = (0.3, 0.7)
    merged = {name: shares[0] * given[0][name] + shares[1] * given[1][name] for name in given[0]}
    found = average_products(spec, merged, given, weights=shares)

    def product(theta):
        return theta["outer.weight"] @ theta["inner.weight"]

    mean = sum(share * product(theta) for share, theta in zip(shares, given, strict=True))
    u, s, v = torch.linalg.svd(mean)
    torch.testing.assert_close(product(found), u[:, :2] * s[:2] @ v[:2])
    assert (product(merged) - mean).norm() > 1.2 * (product(found) - mean).norm()
    assert torch.equal(found["full.weight"], merged["full.weight"])


def test_factors_that_vanish_or_are_not_of_full_rank_are_no_obstacle():
    _, spec, _, (a, b) = case("low rank")
    for member in (a, b):
        member["inner.weight"][1] = 0
    found = average_products(spec, average([a, b]), [a, b])
    assert all(t.isfinite().all() for t in found.values())
    nothing = a | {"outer.weight": torch.zeros_like(a["outer.weight"])}
    found = average_products(spec, nothing, [nothing, nothing])
    assert not (found["outer.weight"] @ found["inner.weight"]).any()


def test_without_linear_maps_nothing_changes_and_wrong_weights_are_refused():
    _, spec, _, (a, b) = case("stream")
    plain, merged = spec.without_units(), average([a, b])
    assert all(torch.equal(average_products(plain, merged, [a, b])[n], merged[n]) for n in merged)
    assert align_linear(plain, a, b).values == ()
    with pytest.raises(ValueError, match="average_products: got 0 members"):
        average_products(spec, merged, [])
    with pytest.raises(ValueError, match=r"b: has batch axes \(2,\), but align_linear takes one"):
        align_linear(spec, a, {name: t.expand(2, *t.shape) for name, t in b.items()})
