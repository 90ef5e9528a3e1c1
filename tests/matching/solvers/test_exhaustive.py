"""Every element is tried: the truth for small groups, and a pair that no permutation connects."""

import math

import pytest
import torch
from networks import BY_NAME, NETWORKS

from wsl import params
from wsl.matching import ExhaustiveMatching, WeightMatching, match
from wsl.matching.solvers.exhaustive import every_element
from wsl.symmetry import PermutationSpec, SpecError

FAMILY = PermutationSpec.parse(
    "head = 2, d = 3 per head, e = 2\nqkv: (2 head d) 4\no: e (head d)\nout: 2 e"
)
NARROW = PermutationSpec.parse(
    "h = 2, k = 2\n0.weight: h 2\n2.weight: k h\n2.bias: k\n4.weight: 1 k\n4.bias: 1"
)
POINTS = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
LABELS = torch.tensor([True, False, False, False])


def random(spec, seed):
    rng = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=rng) for name, shape in spec.shapes.items()}


def test_every_element_comes_once_families_included():
    seen = set()
    for batch, count in every_element(FAMILY):
        for row in range(count):
            element = batch.element(row)
            seen.add(tuple(tuple(index.flatten().tolist()) for index in element.indices.values()))
    assert len(seen) == round(10**FAMILY.log10_order) == 2 * 6 * 6 * 2


def test_weight_matching_is_never_above_the_truth_and_often_reaches_it():
    reached = 0
    for seed in range(10):
        a, b = random(FAMILY, seed), random(FAMILY, 100 + seed)
        best = match(FAMILY, a, b, ExhaustiveMatching())
        found = match(FAMILY, a, b, WeightMatching())
        assert found.objective <= best.objective + 1e-5
        assert best.objective == pytest.approx(
            sum(float((a[n].double() * t.double()).sum()) for n, t in best(b).items())
        )
        reached += found.objective > best.objective - 1e-5
    assert reached >= 5


def test_a_group_that_is_too_large_is_refused_with_its_size():
    network = BY_NAME["mlp"]
    a = network.weights(seed=1)
    assert network.spec.log10_order > math.log10(100_000)
    with pytest.raises(SpecError, match=r"the group has 10\^6.6 elements, and at most 100000 are"):
        match(network.spec, a, a, ExhaustiveMatching())
    one = next(n for n in NETWORKS if n.name == "mlp_without_bias")
    assert match(one.spec, one.weights(), one.weights(), ExhaustiveMatching()).objective > 0


def narrow(theta, x):
    hidden = (x @ theta["0.weight"].T).relu()
    hidden = (hidden @ theta["2.weight"].T + theta["2.bias"]).relu()
    return (hidden @ theta["4.weight"].T + theta["4.bias"])[:, 0]


def test_two_perfect_networks_of_two_units_are_connected_by_no_permutation():
    """Of the kind of Ainsworth et al. (2023), appendix A.6: 2-2 ReLU, four permutations.

    Both say whether both coordinates are positive. a counts what is negative, b what is positive;
    half way between the first layers (1, 1) and (-1, -1) look the same, or everything does.
    """
    eye, zero = torch.eye(2), torch.zeros(1, 2)
    both = torch.tensor([[1.0, 1.0], [0.0, 0.0]])
    a = {"0.weight": -eye, "2.weight": both, "2.bias": torch.zeros(2)}
    a |= {"4.weight": zero - torch.tensor([[1.0, 0.0]]), "4.bias": torch.tensor([0.5])}
    b = {"0.weight": eye, "2.weight": both, "2.bias": torch.tensor([-1.0, 0.0])}
    b |= {"4.weight": torch.tensor([[1.0, 0.0]]), "4.bias": torch.tensor([-0.5])}

    def wrong(theta):
        return ((narrow(theta, POINTS) > 0) != LABELS).double().mean()

    assert wrong(a) == wrong(b) == 0
    assert round(10**NARROW.log10_order) == 4
    found = match(NARROW, a, b, ExhaustiveMatching(loss=wrong))
    assert found.objective == -0.25
    middle = {name: (tensor + found(b)[name]) / 2 for name, tensor in a.items()}
    assert wrong(middle) == 0.25


def test_a_loss_makes_the_midpoint_the_objective():
    a, b = random(NARROW, 1), random(NARROW, 2)
    target = narrow(random(NARROW, 3), POINTS)

    def loss(theta):
        return (narrow(theta, POINTS) - target).square().mean()

    matcher = ExhaustiveMatching(loss=loss)
    assert matcher.needs == {"loss"}
    losses = []
    for batch, count in every_element(NARROW):
        for row in range(count):
            moved = batch.element(row)(b)
            losses.append(float(loss({n: (t + moved[n]) / 2 for n, t in a.items()})))
    assert match(NARROW, a, b, matcher).objective == pytest.approx(-min(losses))
    rows = params.stack([b, a])
    assert match(NARROW, a, rows, matcher).objective[0] == pytest.approx(-min(losses))
