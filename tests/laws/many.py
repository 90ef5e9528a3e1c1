"""Laws of every method that aligns many models: what it declares, and what its results promise.

`MANY_LAWS` are functions of one instance, run on networks of `NETWORKS`: a perceptron, shared
streams, and heads with families.
"""

import torch
from networks import BY_NAME

from laws.matchers import NEEDS
from wsl import params
from wsl.matching import JointMatch, ManyMatcher, aligned_tensors, match_all
from wsl.symmetry import Permutation

NETWORKS = [BY_NAME[name] for name in ("mlp", "residual", "attention")]


def independent(network, count=3):
    return [network.weights(seed=seed) for seed in range(count)]


def scattered(network, seed, noise=0.3, count=4):
    """One network with noise, under random permutations; and those."""
    rng, theta = torch.Generator().manual_seed(seed), network.weights(seed=seed)
    names = aligned_tensors(theta)
    moves = [Permutation.random(network.spec, rng) for _ in range(count)]

    def noisy():
        return {
            n: t + noise * torch.randn(t.shape, generator=rng) if n in names else t
            for n, t in theta.items()
        }

    return [g(noisy()) for g in moves], moves


def value(models):
    """The sum of inner products over all pairs, pair by pair."""
    vectors = [
        params.ravel({name: model[name].double() for name in aligned_tensors(model)})
        for model in models
    ]
    pairs = ((i, j) for j in range(len(vectors)) for i in range(j))
    return sum(float(vectors[i] @ vectors[j]) for i, j in pairs)


def it_declares_what_it_needs(method: ManyMatcher) -> None:
    assert method.joint
    assert method.needs
    assert method.needs <= NEEDS


def it_undoes_planted_permutations(method: ManyMatcher) -> None:
    """Noise of 0.3 weight deviations: the units that belong together are found to be so."""
    for network in [*NETWORKS, BY_NAME["gru"]]:
        models, moves = scattered(network, seed=1)
        found = match_all(network.spec, models, method)
        for i in range(len(models)):
            assert found.between(0, i) == moves[0] @ ~moves[i], network.name


def its_objective_is_that_of_the_models_it_moves(method: ManyMatcher) -> None:
    for network in NETWORKS:
        models = independent(network)
        found = match_all(network.spec, models, method)
        assert isinstance(found, JointMatch)
        moved = found(models)
        torch.testing.assert_close(value(moved), found.objective, rtol=1e-6, atol=1e-4)
        torch.testing.assert_close(value(found.beside(models, 2)), value(moved))
        assert all(torch.equal(t, models[2][n]) for n, t in found.beside(models, 2)[2].items())
        assert found.objective >= value(models) - 1e-3
        assert all(seconds >= 0 for seconds in found.seconds.values())


def its_elements_compose_to_the_identity_round_any_cycle(method: ManyMatcher) -> None:
    for network in NETWORKS:
        found = match_all(network.spec, independent(network), method)
        assert len(found) == 3
        for i, j, k in ((0, 1, 2), (2, 1, 0), (2, 2, 1)):
            around = found.between(i, j) @ found.between(j, k) @ found.between(k, i)
            assert around == Permutation.identity(network.spec)


def its_trace_never_falls(method: ManyMatcher) -> None:
    for network in NETWORKS:
        trace = match_all(network.spec, independent(network), method).trace
        if trace is not None:
            assert len(trace)
            assert (trace.diff() >= -1e-6 * trace.abs().max()).all()


def models_moved_beforehand_are_brought_together_alike(method: ManyMatcher) -> None:
    """h_i theta_i for theta_i: g_ij becomes h_i g_ij h_j^-1."""
    for network in NETWORKS[:2]:
        rng, models = torch.Generator().manual_seed(7), independent(network, 3)
        moves = [Permutation.random(network.spec, rng) for _ in models]
        found = match_all(network.spec, models, method)
        again = match_all(network.spec, [h(m) for h, m in zip(moves, models, strict=True)], method)
        assert abs(again.objective - found.objective) <= 1e-5 * abs(found.objective)
        for i, j in ((0, 1), (1, 2)):
            assert again.between(i, j) == moves[i] @ found.between(i, j) @ ~moves[j], network.name


def the_same_models_give_the_same_result_and_stay_as_they_are(method: ManyMatcher) -> None:
    network = NETWORKS[1]
    models = independent(network)
    before = [{n: t.clone() for n, t in model.items()} for model in models]
    one = match_all(network.spec, models, method)
    other = match_all(network.spec, params.stack(models), method)
    assert one.permutations == other.permutations
    assert one.objective == other.objective
    for model, old in zip(models, before, strict=True):
        assert all(torch.equal(model[n], t) for n, t in old.items())


MANY_LAWS = [
    it_declares_what_it_needs,
    it_undoes_planted_permutations,
    its_objective_is_that_of_the_models_it_moves,
    its_elements_compose_to_the_identity_round_any_cycle,
    its_trace_never_falls,
    models_moved_beforehand_are_brought_together_alike,
    the_same_models_give_the_same_result_and_stay_as_they_are,
]
