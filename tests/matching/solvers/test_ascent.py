"""Fast ways of an ascent give what the plain ones give; starts with nothing known are found too."""

import pytest
import torch
from networks import BY_NAME, NETWORKS
from torch import nn
from torch.nn import functional as F

import wsl
from wsl.matching import match
from wsl.matching.blocks import plan
from wsl.matching.solvers import ascent, cut, step
from wsl.symmetry import Permutation, PermutationSpec

each_network = pytest.mark.parametrize("network", NETWORKS, ids=lambda n: n.name)
CHAIN = PermutationSpec.parse(
    "a = 40, b = 40, c = 40\n0: a 9\n1: b a\n2: c b\n3: 3 c\nbias: b\nwide: a (b 2)"
)


def gaussian(spec, seed):
    rng = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=rng) for name, shape in spec.shapes.items()}


def test_scores_that_were_changed_by_moved_units_are_those_computed_anew(monkeypatch):
    plain, changed, compared = ascent.Ascent._scores, cut.CutWeights.change, []

    def checked(self, block, terms, rows):
        terms, kept = list(terms), dict(self.kept)
        found = plain(self, block, terms, rows)
        self.kept, after = {}, self.kept
        for name, matrix in plain(self, block, terms, rows).items():
            torch.testing.assert_close(found[name], matrix, rtol=1e-4, atol=1e-4)
        self.kept = after
        compared.append(any(key in kept for key in ((block.group, t) for t in terms)))
        return found

    calls = []

    def counted(self, *arguments):
        calls.append(1)
        return changed(self, *arguments)

    monkeypatch.setattr(ascent.Ascent, "_scores", checked)
    monkeypatch.setattr(cut.CutWeights, "change", counted)
    for seed in range(3):
        match(CHAIN, gaussian(CHAIN, seed), gaussian(CHAIN, 10 + seed))
    assert len(calls) >= 10
    assert any(compared)


@each_network
def test_the_element_is_that_of_computing_every_score_anew(network, monkeypatch):
    a, b = network.weights(seed=1), network.weights(seed=2)
    fast = match(network.spec, a, b)
    monkeypatch.setattr(ascent.Ascent, "_worth", lambda *_: False)
    slow = match(network.spec, a, b)
    assert fast.permutation == slow.permutation
    assert fast.objective == slow.objective


def test_moved_units_are_told_only_where_few_move_in_one_row():
    def told(index, rows=slice(None)):
        found = step.MovedUnits.of(
            plan(CHAIN, tuple(CHAIN.axes)).blocks["a"],
            step.BlockStep(rows, torch.tensor(index), {}, None, torch.zeros(1)),
        )
        return None if found is None else found.moved.tolist()

    few = [[1, 0, *range(2, 40)]]
    assert told(few) == [0, 1]
    assert told([list(range(40))]) == []
    assert told([list(reversed(range(40)))]) is None
    assert told(few * 2) is None
    assert told(few, rows=torch.tensor([3])) is None, "one row of many is not the only one"


def test_sums_of_large_rows_are_those_of_small_ones(monkeypatch):
    rng = torch.Generator().manual_seed(0)
    a, b = torch.randn(70, 3, generator=rng), torch.randn(4, 70, 3, generator=rng)
    plain, one = cut.products(a, b), cut.products(a, b[:1])
    monkeypatch.setattr(cut, "_CACHED", 16)
    torch.testing.assert_close(cut.products(a, b), plain, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(cut.products(a, b[:1]), one, rtol=1e-12, atol=0)
    torch.testing.assert_close(one, (a.double() * b[0].double()).sum()[None], rtol=1e-12, atol=0)


def test_large_rows_are_gathered_as_small_ones(monkeypatch):
    network = BY_NAME["attention"]
    a, rows = network.weights(seed=1), network.weights(3, seed=2)
    plain = match(network.spec, a, rows)
    monkeypatch.setattr(step, "_LARGE", 1)
    large = match(network.spec, a, rows)
    for name, index in plain.permutation.indices.items():
        assert torch.equal(index, large.permutation.indices[name])


class Excited(nn.Module):
    """Depthwise and grouped convolutions with channel attention: no group is tied to the input
    alone, since channels are pairs (group, channel inside).
    """

    def __init__(self, groups=4, inside=2):
        super().__init__()
        n = groups * inside
        self.p, self.dw = nn.Conv2d(3, n, 1), nn.Conv2d(n, n, 3, padding=1, groups=n)
        self.g = nn.Conv2d(n, n, 3, padding=1, groups=groups)
        self.s1, self.s2, self.out = nn.Linear(n, 4), nn.Linear(4, n), nn.Linear(n, 5)

    def forward(self, x):
        x = F.hardswish(self.dw(self.p(x)))
        gate = torch.sigmoid(self.s2(F.relu(self.s1(x.mean((2, 3))))))
        x = x * gate[:, :, None, None]
        return self.out((x + self.g(x)).amax((2, 3)))


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm, self.head = nn.LSTM(5, 24, num_layers=2, batch_first=True), nn.Linear(24, 3)

    def forward(self, x):
        return self.head(self.lstm(x)[0][:, -1])


class Grown(nn.Module):
    """A dense block and a depthwise one."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 12, 3, padding=1)
        self.a, self.b = nn.Conv2d(12, 8, 3, padding=1), nn.Conv2d(20, 8, 3, padding=1)
        self.deep = nn.Conv2d(28, 28, 3, padding=1, groups=28)
        self.point, self.head = nn.Conv2d(28, 16, 1), nn.Linear(16, 4)

    def forward(self, x):
        x = F.relu(self.stem(x))
        x = torch.cat([x, F.relu(self.a(x))], 1)
        x = torch.cat([x, F.relu(self.b(x))], 1)
        return self.head(F.relu(self.point(F.relu(self.deep(x)))).mean((2, 3)))


def recovered(make, example, tries):
    """How many of ``tries`` planted permutations of fresh initialisations are found exactly."""
    spec, found = wsl.permutation_spec(make(), example), 0
    for seed in range(tries):
        torch.manual_seed(seed)
        a = wsl.params.from_module(make())
        planted = Permutation.random(spec, torch.Generator().manual_seed(seed))
        back = match(spec, a, planted(a)).permutation(planted(a))
        found += all(torch.equal(back[name], a[name]) for name in a)
    return found


@pytest.mark.parametrize(
    ("make", "shape", "tries"),
    [
        (Excited, (2, 3, 8, 8), 14),
        (lambda: Excited(5, 3), (2, 3, 8, 8), 6),
        (Recurrent, (2, 4, 5), 6),
        (Grown, (2, 3, 8, 8), 6),
    ],
    ids=["excited", "excited, 5 x 3", "lstm", "dense and depthwise"],
)
def test_planted_permutations_of_awkward_networks_are_always_found(make, shape, tries):
    assert recovered(make, torch.randn(shape), tries) == tries


def test_a_group_that_is_tied_to_nothing_known_is_solved_by_sorted_values():
    """A product of two groups and nothing else: the identity is a local optimum of many."""
    spec = PermutationSpec.parse("r = 6, c = 5\ntable: r c 3")
    for seed in range(20):
        a = gaussian(spec, seed)
        planted = Permutation.random(spec, torch.Generator().manual_seed(seed))
        assert match(spec, a, planted(a)).permutation == ~planted


@pytest.mark.slow
@pytest.mark.parametrize(("blocks", "size"), [(1, 50), (3, 50), (9, 64)])
def test_a_hundred_of_a_hundred_residual_networks_are_found(blocks, size):
    lines = [f"u{i}: h{i} s\nd{i}: s h{i}" for i in range(blocks)]
    sizes = ", ".join([f"s = {size}", *(f"h{i} = {size}" for i in range(blocks))])
    spec = PermutationSpec.parse("\n".join([sizes, "stem: s 10", *lines, "head: 10 s"]))
    for seed in range(100):
        a = gaussian(spec, seed)
        planted = Permutation.random(spec, torch.Generator().manual_seed(seed))
        assert match(spec, a, planted(a)).permutation == ~planted


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "shape"),
    [(Excited, (2, 3, 8, 8)), (Recurrent, (2, 4, 5)), (Grown, (2, 3, 8, 8))],
    ids=["excited", "lstm", "dense and depthwise"],
)
def test_a_hundred_of_a_hundred_awkward_networks_are_found(make, shape):
    assert recovered(make, torch.randn(shape), 100) == 100
