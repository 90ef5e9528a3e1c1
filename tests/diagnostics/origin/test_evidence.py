"""One verdict for each way in which weights are related, and none for those that are not."""

import pytest
import torch

from wsl.diagnostics import agreement, origin_evidence
from wsl.symmetry import Permutation, PermutationSpec

SPEC = PermutationSpec.parse("h1 = 64, h2 = 48\na: h1 30\nb: h2 h1\nb.bias: h2\nc: 10 h2")


def drawn(seed, scale=1.0):
    rng = torch.Generator().manual_seed(seed)
    return {n: scale * torch.randn(s, generator=rng) for n, s in SPEC.shapes.items()}


def moved(theta, seed):
    return Permutation.random(SPEC, torch.Generator().manual_seed(seed))(theta)


def disturbed(theta, scale, seed=9):
    return {n: t + scale * torch.randn_like(t) for n, t in theta.items()}


def adapted(theta):
    """A low-rank change of one matrix."""
    return {**theta, "b": theta["b"] + torch.randn(48, 2) @ torch.randn(2, 64)}


def pruned(theta, share=0.5):
    return {n: torch.where(t.abs() >= t.abs().quantile(share), t, 0.0) for n, t in theta.items()}


def merged(theta):
    return {
        n: 0.5 * t + 0.5 * other
        for (n, t), other in zip(theta.items(), drawn(5).values(), strict=True)
    }


RELATED = {
    "the same": (lambda a: dict(a), "same"),
    "cast": (lambda a: {n: t.half() for n, t in a.items()}, "same"),
    "adapted": (adapted, "equal entries"),
    "pruned": (pruned, "equal entries"),
    "fine-tuned": (lambda a: disturbed(a, 0.3), "common origin"),
    "merged": (merged, "common origin"),
    "reordered": (lambda a: moved(a, 3), "reordered"),
    "reordered and pruned": (lambda a: moved(pruned(a), 3), "reordered"),
}


@pytest.mark.parametrize("name", RELATED)
def test_what_is_related_is_found_and_said_in_its_own_word(name):
    make, verdict = RELATED[name]
    torch.manual_seed(0)
    a = drawn(0)
    found = origin_evidence(SPEC, a, make(a))
    assert found.verdict == verdict
    assert found.related


def test_a_reordered_fine_tune_needs_background_to_be_judged():
    torch.manual_seed(0)
    a = drawn(0)
    b = moved(disturbed(a, 0.3), 3)
    alone = origin_evidence(SPEC, a, b)
    assert (alone.verdict, alone.related, alone.background_p) == ("none", False, 1)
    assert alone.agreement.share == 1
    few = [agreement(SPEC, a, drawn(seed)).share for seed in (20, 21, 22)]
    assert origin_evidence(SPEC, a, b, background=few).background_p == 1 / 4
    background = (7 * few)[:19]
    beside = origin_evidence(SPEC, a, b, background=background)
    assert (beside.verdict, beside.background_p) == ("alike", 0.05)
    assert origin_evidence(SPEC, a, drawn(1), background=background).verdict == "none"


def test_unrelated_networks_are_not_related_and_not_aligned():
    found = origin_evidence(SPEC, drawn(0), drawn(1))
    assert (found.verdict, found.related) == ("none", False)
    assert found.state.after > found.state.before + 0.01
    assert not found.state.aligned
    assert found.state.moved > 0.5


def test_aligned_networks_are_called_so():
    a = drawn(0)
    torch.manual_seed(0)
    state = origin_evidence(SPEC, a, disturbed(a, 0.1)).state
    assert (state.aligned, state.moved) == (True, 0)
    assert state.before == state.after


def test_equal_codes_do_not_make_strangers_relatives():
    spec = PermutationSpec.parse("d = 30\nposition: 9 d\nw: d 50\nv: 20 d")
    rng = torch.Generator().manual_seed(0)
    code = torch.randn(9, 30, generator=rng)
    a, b = (
        {"position": code, "w": torch.randn(30, 50, generator=rng), "v": torch.randn(20, 30)}
        for _ in range(2)
    )
    found = origin_evidence(spec, a, b)
    assert found.tensors.of_kind("equal") == ("position",)
    assert found.verdict == "none"


def test_ternary_weights_are_not_equal_by_chance():
    rng = torch.Generator().manual_seed(0)
    a, b = (
        {n: torch.randint(-1, 2, s, generator=rng).float() for n, s in SPEC.shapes.items()}
        for _ in range(2)
    )
    assert origin_evidence(SPEC, a, b).verdict == "none"


def test_without_alignment_nothing_is_said_of_it():
    a = drawn(0)
    found = origin_evidence(SPEC, a, moved(a, 3), align=False)
    assert (found.agreement, found.state, found.equal_after) == (None, None, 0)
    assert found.verdict == "none"
