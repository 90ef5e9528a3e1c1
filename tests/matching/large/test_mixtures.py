"""Shuffled experts are put back where the weights lie, one tensor for each expert in the files."""

import dataclasses
import functools

import pytest
import safetensors.torch
import torch
from attention_networks import MIXTRAL, Transformer, inputs, weights

from wsl import params, permutation_spec
from wsl.cli import main
from wsl.matching import (
    CircuitMatching,
    ExpertView,
    WeightMatching,
    match,
    match_sources,
    order_by_grams,
)
from wsl.matching.blocks import plan
from wsl.matching.large import JoinedTensor, StreamedWeights, apart, distances, with_experts
from wsl.symmetry import (
    LinearMaps,
    Permutation,
    PermutationSpec,
    Rescaling,
    SpecError,
    SymmetryElement,
    symmetry_spec,
    with_rotations,
)

WORDS = ["match", "a.safetensors", "b.safetensors", "-o", "out.safetensors", "--spec", "spec.txt"]


@functools.cache
def network():
    """A mixture of experts with rotary positions; the view of it in which experts may move."""
    torch.manual_seed(0)
    model, x = Transformer(MIXTRAL).eval(), inputs(MIXTRAL)
    proven = with_rotations(symmetry_spec(model, x), model, x)
    turning = tuple(unit for unit in proven.units if unit.kind == "rotation")
    return ExpertView.of(dataclasses.replace(permutation_spec(model, x), units=turning)), model, x


def planted(spec, seed=1, *, phases=True):
    rng = torch.Generator().manual_seed(seed)
    maps = LinearMaps.random(spec, rng)
    turning = LinearMaps(spec, tuple(value / value.abs() for value in maps.values))
    permutation = Permutation.random(spec, rng)
    maps = turning if phases else LinearMaps.identity(spec)
    return SymmetryElement(permutation, Rescaling.identity(spec), maps)


def moved(g, theta):
    """The weights of the network, moved by an element of the view."""
    view, _, _ = network()
    return view.split(g(view.join(theta, centre=False)))


def noisy(theta, amount, seed=3):
    rng = torch.Generator().manual_seed(seed)
    return {
        name: tensor + amount * tensor.std() * torch.randn(tensor.shape, generator=rng).double()
        for name, tensor in theta.items()
    }


def outputs(theta):
    _, model, x = network()
    return params.call(model.double(), {name: t.double() for name, t in theta.items()}, x)


def largest(a, b):
    return max(float((a[name].double() - b[name].double()).abs().max()) for name in a)


@pytest.fixture
def in_two_steps(monkeypatch):
    monkeypatch.setattr(apart, "MOST_PAIRED", 0)


def test_experts_of_a_file_are_one_tensor_of_which_only_what_is_asked_for_is_read():
    view, model, _ = network()
    a = weights(model)
    joined, whole = with_experts(a, view.spec), view.join(a, centre=False)
    assert joined.keys() == whole.keys()
    for name, tensor in joined.items():
        assert tuple(tensor.shape) == tuple(whole[name].shape)
        assert torch.equal(tensor[...], whole[name])
        assert torch.equal(tensor[1:3], whole[name][1:3])
    rows = joined["blocks.0.mlp.experts.up.weight"]
    assert isinstance(rows, JoinedTensor)
    unread = dataclasses.replace(rows, parts=(rows.parts[0], rows.parts[1], None, None))
    assert torch.equal(unread[5:15], rows[5:15])


@pytest.mark.parametrize("phases", [False, True])
@pytest.mark.usefixtures("in_two_steps")
def test_planted_experts_units_and_phases_are_undone_in_two_steps(phases):
    view, model, _ = network()
    a, g = weights(model), planted(view.spec, phases=phases)
    b = moved(g, a)
    matcher = CircuitMatching() if phases else WeightMatching()
    found = match_sources(
        view.spec, with_experts(a, view.spec), with_experts(b, view.spec), matcher=matcher
    )
    assert found.permutation == ~g.permutation
    assert found.converged
    assert largest(a, moved(found.element, b)) < 1e-9
    inner = sum(float((a[name] * tensor).sum()) for name, tensor in a.items())
    assert found.objective == pytest.approx(inner)
    torch.testing.assert_close(outputs(b), outputs(a))


@pytest.mark.usefixtures("in_two_steps")
def test_noise_of_half_a_deviation_leaves_the_experts_and_most_units_where_they_belong():
    view, model, _ = network()
    a, g = weights(model), planted(view.spec, phases=False)
    b = moved(g, noisy(a, 0.5))
    joined = [with_experts(theta, view.spec) for theta in (a, b)]
    found = match_sources(view.spec, *joined, matcher=WeightMatching())
    back, still = found.permutation @ g.permutation, Permutation.identity(view.spec)
    experts = [name for name in back.indices if name.startswith("expert")]
    assert len(experts) == 1
    assert all(torch.equal(back.indices[name], still.indices[name]) for name in experts)
    share = torch.cat(
        [(back.indices[n] == still.indices[n]).float().flatten() for n in back.indices]
    ).mean()
    assert float(share) > 0.9
    here = match(view.spec, *(view.join(theta, centre=False) for theta in (a, b)))
    assert found.objective >= here.objective * (1 - 1e-3)
    expected = sum(float((a[n] - t).square().sum()) for n, t in moved(found.permutation, b).items())
    assert distances(*joined, found.permutation)[1] == pytest.approx(expected**0.5)


@pytest.mark.usefixtures("in_two_steps")
def test_unrelated_mixtures_are_never_worse_off():
    view, model, _ = network()
    a, b = (with_experts(weights(model, seed), view.spec) for seed in (1, 2))
    for matcher in (WeightMatching(), WeightMatching(anchored=False), CircuitMatching()):
        found = match_sources(view.spec, a, b, matcher=matcher)
        still = sum(float((a[name][...] * b[name][...]).sum()) for name in a)
        assert found.objective > still
        inner = sum(
            float((a[name][...] * tensor).sum())
            for name, tensor in found({n: t[...] for n, t in b.items()}).items()
        )
        assert found.objective == pytest.approx(inner)


@pytest.fixture
def pair(tmp_path, monkeypatch):
    """Two files in which every expert has tensors of its own; the weights, and what is planted."""
    monkeypatch.chdir(tmp_path)
    view, model, _ = network()
    g = planted(view.spec)
    a = {name: tensor.float() for name, tensor in weights(model).items()}
    b = {name: tensor.float().contiguous() for name, tensor in moved(g, weights(model)).items()}
    for name, theta in (("a", a), ("b", b)):
        safetensors.torch.save_file(theta, f"{name}.safetensors")
    (tmp_path / "spec.txt").write_text(str(view.spec))
    return a, b, g


@pytest.mark.parametrize("in_steps", [False, True])
def test_the_command_writes_experts_back_in_order_each_in_its_own_tensor(
    pair, in_steps, monkeypatch
):
    a, b, g = pair
    if in_steps:
        monkeypatch.setattr(apart, "MOST_PAIRED", 0)
    assert main([*WORDS, "--stream"]) == 0
    out = safetensors.torch.load_file("out.safetensors")
    assert out.keys() == a.keys()
    assert largest(a, out) < 1e-5
    assert SymmetryElement.load("out.element.safetensors").permutation == ~g.permutation
    torch.testing.assert_close(outputs(out), outputs(b), atol=1e-4, rtol=1e-4)


def test_experts_are_matched_out_of_core_without_being_told_to_and_never_in_memory(pair, capsys):
    a, _, _ = pair
    assert main(WORDS) == 0
    assert largest(a, safetensors.torch.load_file("out.safetensors")) < 1e-5
    assert main([*WORDS, "--no-stream"]) == 2
    assert "spec.txt: names the experts of a layer as one tensor" in capsys.readouterr().err


def test_experts_that_are_unlike_or_cannot_be_joined_are_refused():
    spec = PermutationSpec.parse("e = 2, h = 3 per e\nexperts.up: (e h) 4")
    with pytest.raises(SpecError, match=r"experts\.1\.up: is \(3, 5\) .* must be alike"):
        with_experts({"experts.0.up": torch.zeros(3, 4), "experts.1.up": torch.zeros(3, 5)}, spec)
    with pytest.raises(SpecError, match=r"experts\.up: 3 experts of \(3, 4\) cannot be joined"):
        with_experts({f"experts.{i}.up": torch.zeros(3, 4) for i in range(3)}, spec)
    apart_from_it = {"experts.0.down": torch.zeros(3), "experts.2.down": torch.zeros(3)}
    assert with_experts(apart_from_it, spec) == apart_from_it


def test_the_element_is_applied_to_moments_and_adapters_of_experts_and_undone(pair):
    _, b, _ = pair
    assert main([*WORDS, "--stream"]) == 0
    apply = ["match", "--apply", "out.element.safetensors"]
    assert main([*apply, "b.safetensors", "-o", "again.safetensors"]) == 0
    read = safetensors.torch.load_file
    assert largest(read("out.safetensors"), read("again.safetensors")) == 0
    assert main([*apply, "again.safetensors", "-o", "back.safetensors", "--undo"]) == 0
    assert largest(b, read("back.safetensors")) < 1e-5
    rng = torch.Generator().manual_seed(0)
    stems = [name.removesuffix(".weight") for name in b if ".experts." in name]
    state = {f"exp_avg.{name}": tensor for name, tensor in b.items()}
    for stem in stems:
        out, into = b[f"{stem}.weight"].shape
        state[f"{stem}.lora_A.weight"] = torch.randn(3, into, generator=rng)
        state[f"{stem}.lora_B.weight"] = torch.randn(out, 3, generator=rng)
    safetensors.torch.save_file(state, "state.safetensors")
    assert main([*apply, "state.safetensors", "-o", "moved.safetensors"]) == 0
    found, theirs = read("moved.safetensors"), dict(b)
    assert largest(read("out.safetensors"), {n: found[f"exp_avg.{n}"] for n in b}) == 0
    for stem in stems:
        theirs[f"{stem}.weight"] = state[f"{stem}.lora_B.weight"] @ state[f"{stem}.lora_A.weight"]
    expected = moved(SymmetryElement.load("out.element.safetensors"), theirs)
    for stem in stems:
        product = found[f"{stem}.lora_B.weight"] @ found[f"{stem}.lora_A.weight"]
        torch.testing.assert_close(product, expected[f"{stem}.weight"])


def test_experts_of_which_one_is_missing_are_refused_by_name(pair, capsys):
    _, b, _ = pair
    assert main([*WORDS, "--stream"]) == 0
    some = {name: tensor for name, tensor in b.items() if ".experts.1." not in name}
    safetensors.torch.save_file(some, "some.safetensors")
    words = ["match", "--apply", "out.element.safetensors", "some.safetensors", "-o"]
    assert main([*words, "x.safetensors"]) == 2
    told = capsys.readouterr().err
    assert "experts.0." in told
    assert "belongs to no tensor of the element's network" in told


@pytest.mark.usefixtures("in_two_steps")
@pytest.mark.parametrize("columns", [40, 150], ids=["all columns", "probes"])
def test_one_step_finds_the_order_that_whole_grams_find_and_gains_what_it_says(columns):
    spec = PermutationSpec.parse(
        f"e = 6, h = 20 per e\nexperts.up: (e h) {columns}\nexperts.down: {columns} (e h)"
    )
    rng = torch.Generator().manual_seed(0)
    a = {name: torch.randn(tuple(spec.shapes[name]), generator=rng) for name in spec.axes}
    g = Permutation.random(spec, rng)
    b = g({name: t + torch.randn(t.shape, generator=rng) for name, t in a.items()})
    cut = plan(spec, tuple(spec.axes))
    weights = StreamedWeights(cut, a, b)
    before = float(weights.value())
    step = weights.apart["e"](list(cut.blocks["e"].terms))
    up, down = ((t["experts.up"].view(6, 20, -1), t["experts.down"].T) for t in (a, b))
    grams = order_by_grams(*((x, y.reshape(6, 20, -1).mT) for x, y in (up, down)))
    assert torch.equal(step.group[0], grams.order)
    assert torch.equal(step.group[0], (~g).indices["e"])
    weights.take(cut.blocks["e"], step)
    assert float(weights.value()) == pytest.approx(before + float(step.gain), rel=1e-5)
    found = {"e": step.group[0], "h": step.families["h"][0]}
    assert found["h"].eq((~g).indices["h"]).float().mean() > 0.99
