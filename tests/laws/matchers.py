"""Laws of every matcher: what it declares, and what its results promise.

`MATCHER_LAWS` are functions of one instance, with settings that suit `SPEC`: a perceptron with one
hidden layer. An instance that needs inputs or a loss is made with those of such a network.
"""

import dataclasses

import torch

from wsl import params
from wsl.matching import MATCHERS, Match, Matcher, match
from wsl.symmetry import Permutation, PermutationBatch, PermutationSpec

SPEC = PermutationSpec.parse("h = 5\n0.weight: h 3\n0.bias: h\n2.weight: 2 h\n2.bias: 2")
NEEDS = {"weights", "inputs", "loss"}


def model() -> torch.nn.Module:
    """The module of `network`, whose own weights do not matter."""
    return torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.ReLU(), torch.nn.Linear(5, 2))


def instances() -> dict[str, Matcher]:
    """Every matcher of the table by its name."""
    return {name: made(kind) for name, kind in MATCHERS.items()}


def weights(seed: int) -> params.Params:
    rng = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=rng) for name, shape in SPEC.shapes.items()}


def network(theta: params.Params, x: torch.Tensor) -> torch.Tensor:
    hidden = (x @ theta["0.weight"].T + theta["0.bias"]).relu()
    return hidden @ theta["2.weight"].T + theta["2.bias"]


def loss(theta: params.Params, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    return (network(theta, batch[0]) - batch[1]).square().mean()


def batches() -> list[tuple[torch.Tensor, torch.Tensor]]:
    """What ``weights(0)`` says of some inputs, on which its loss is 0."""
    x = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
    return [(x, network(weights(0), x))]


def made(kind: type) -> Matcher:
    """An instance with default settings, and with what it cannot be without for `SPEC`."""
    inputs = 3 * torch.randn(400, 3, generator=torch.Generator().manual_seed(9))
    given = {"loss": loss, "batches": batches(), "inputs": inputs, "model": model()}
    # Inputs and model have defaults only so that they may be given later; a loss may do without.
    needed = {f.name for f in dataclasses.fields(kind) if f.default is dataclasses.MISSING}
    needed |= {"inputs", "model"} & {f.name for f in dataclasses.fields(kind)}
    return kind(**{name: value for name, value in given.items() if name in needed})


def planted(seed: int) -> tuple[params.Params, params.Params]:
    theta = weights(seed)
    return theta, Permutation.random(SPEC, torch.Generator().manual_seed(seed))(theta)


def inner(a: params.Params, b: params.Params) -> float:
    return sum(float((a[name].double() * b[name].double()).sum()) for name in a)


def it_declares_what_it_needs_and_searches(matcher: Matcher) -> None:
    kind = type(matcher)
    assert kind.needs
    assert kind.needs <= NEEDS
    assert matcher.searches <= kind.searches
    assert matcher.searches
    assert isinstance(kind.many, bool)


def its_element_leaves_the_function(matcher: Matcher) -> None:
    a, b = weights(1), weights(2)
    x = torch.randn(7, 3, generator=torch.Generator().manual_seed(3))
    moved = match(SPEC, a, b, matcher)(b)
    assert list(moved) == list(b)
    torch.testing.assert_close(network(moved, x), network(b, x), rtol=1e-4, atol=1e-4)


def it_undoes_a_planted_permutation(matcher: Matcher) -> None:
    for seed in range(3):
        a, b = planted(seed)
        found = match(SPEC, a, b, matcher)
        for name, tensor in found(b).items():
            torch.testing.assert_close(tensor, a[name], rtol=1e-4, atol=1e-4)


def its_result_carries_its_evidence(matcher: Matcher) -> None:
    found = match(SPEC, weights(1), weights(2), matcher)
    assert isinstance(found, Match)
    assert isinstance(found.permutation, Permutation)
    assert isinstance(found.objective, float)
    assert isinstance(found.converged, bool)
    assert found.sweeps >= 0
    assert found.element is not None
    assert all(seconds >= 0 for seconds in found.seconds.values())


def its_trace_never_falls_and_ends_at_the_objective(matcher: Matcher) -> None:
    found = match(SPEC, weights(1), weights(2), matcher)
    if found.trace is None or not len(found.trace):
        return
    assert (found.trace.diff() >= -1e-5 * abs(found.objective)).all()
    torch.testing.assert_close(float(found.trace[-1]), float(found.objective), rtol=1e-5, atol=1e-6)


def a_permutation_is_never_worse_than_none(matcher: Matcher) -> None:
    """The inner product for those that match weights; others have objectives of their own."""
    if matcher.needs != {"weights"} or matcher.searches != {"permutation"}:
        return
    for seed in range(3):
        a, b = weights(seed), weights(10 + seed)
        assert inner(a, match(SPEC, a, b, matcher)(b)) >= inner(a, b) - 1e-5


def the_same_inputs_give_the_same_result_and_stay_as_they_are(matcher: Matcher) -> None:
    a, b = weights(1), weights(2)
    before = {name: tensor.clone() for name, tensor in b.items()}
    one, other = match(SPEC, a, b, matcher), match(SPEC, a, b, matcher)
    assert one.permutation == other.permutation
    assert one.objective == other.objective
    assert all(torch.equal(b[name], before[name]) for name in b)


def a_row_of_a_stack_is_matched_as_if_alone(matcher: Matcher) -> None:
    a, rows = weights(0), [weights(seed) for seed in range(1, 4)]
    together = match(SPEC, a, params.stack(rows), matcher)
    assert isinstance(together.permutation, PermutationBatch)
    assert len(together.permutation) == 3
    moved = params.unstack(together(params.stack(rows)))
    for r, row in enumerate(rows):
        alone = match(SPEC, a, row, matcher)
        assert together.permutation.element(r) == alone.permutation
        torch.testing.assert_close(float(together.objective[r]), alone.objective, rtol=1e-5, atol=0)
        assert together.sweeps[r] == alone.sweeps
        assert together.converged[r] == alone.converged
        for name, tensor in alone(row).items():
            torch.testing.assert_close(moved[r][name], tensor)


MATCHER_LAWS = [
    it_declares_what_it_needs_and_searches,
    its_element_leaves_the_function,
    it_undoes_a_planted_permutation,
    its_result_carries_its_evidence,
    its_trace_never_falls_and_ends_at_the_objective,
    a_permutation_is_never_worse_than_none,
    the_same_inputs_give_the_same_result_and_stay_as_they_are,
    a_row_of_a_stack_is_matched_as_if_alone,
]
