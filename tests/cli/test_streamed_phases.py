"""Rotary phases out of core on the command line: found, written, applied to the family, undone."""

import dataclasses
import json
import os
import signal
import subprocess
import sys

import pytest
import safetensors.torch
import torch
from attention_networks import LLAMA, Transformer, inputs, weights

from wsl import permutation_spec
from wsl.cli import main
from wsl.matching import large
from wsl.symmetry import (
    LinearMaps,
    Permutation,
    Rescaling,
    SymmetryElement,
    symmetry_spec,
    with_rotations,
)

WORDS = ["match", "a.safetensors", "b.safetensors", "-o", "out.safetensors", "--spec", "spec.txt"]
STREAM = [*WORDS, "--stream"]


def read(file):
    return safetensors.torch.load_file(file)


def largest(a, b):
    return max(float((a[name].double() - b[name].double()).abs().max()) for name in a)


@pytest.fixture(scope="module")
def network():
    shape = dataclasses.replace(LLAMA, depth=1)
    torch.manual_seed(0)
    model, x = Transformer(shape).eval(), inputs(shape)
    proven = with_rotations(symmetry_spec(model, x), model, x)
    turning = tuple(unit for unit in proven.units if unit.kind == "rotation")
    return dataclasses.replace(permutation_spec(model, x), units=turning), model


@pytest.fixture
def pair(network, tmp_path, monkeypatch):
    """Two files and the specification; the weights of a, and what was planted in b."""
    monkeypatch.chdir(tmp_path)
    spec, model = network
    rng = torch.Generator().manual_seed(1)
    maps = LinearMaps(spec, tuple(v / v.abs() for v in LinearMaps.random(spec, rng).values))
    g = SymmetryElement(Permutation.random(spec, rng), Rescaling.identity(spec), maps)
    a = {name: tensor.float() for name, tensor in weights(model).items()}
    for name, theta in (("a", a), ("b", g(a))):
        theta = {key: tensor.contiguous() for key, tensor in theta.items()}
        safetensors.torch.save_file(theta, f"{name}.safetensors")
    (tmp_path / "spec.txt").write_text(str(spec))
    return a, g


def test_planted_phases_are_found_written_and_recorded(pair, tmp_path):
    a, g = pair
    assert main(STREAM) == 0
    assert largest(a, read("out.safetensors")) < 1e-5
    found = SymmetryElement.load("out.element.safetensors")
    assert found.permutation == ~g.permutation
    assert Permutation.load("out.permutation.json").indices.keys() == g.permutation.indices.keys()
    for value in (found @ g).maps.values:
        torch.testing.assert_close(value, torch.ones_like(value), atol=1e-5, rtol=0)
    told = json.loads((tmp_path / "out.result.json").read_text())
    assert told["distance_before"] > 1
    assert told["distance_after"] < 1e-3
    assert main([*WORDS[:4], "near.safetensors", *WORDS[5:], "--no-stream"]) == 0
    assert largest(read("near.safetensors"), read("out.safetensors")) < 1e-5


def test_the_element_is_applied_to_the_family_and_undone(pair):
    _, g = pair
    assert main(STREAM) == 0
    apply = ["match", "--apply", "out.element.safetensors"]
    assert main([*apply, "b.safetensors", "-o", "again.safetensors"]) == 0
    assert largest(read("out.safetensors"), read("again.safetensors")) == 0
    assert main([*apply, "again.safetensors", "-o", "back.safetensors", "--undo"]) == 0
    assert largest(read("b.safetensors"), read("back.safetensors")) < 1e-5
    found, b = SymmetryElement.load("out.element.safetensors"), read("b.safetensors")
    name = g.spec.units[0].places[0].tensor
    rng = torch.Generator().manual_seed(0)
    down, up = (torch.randn(s, generator=rng) for s in ((3, b[name].shape[1]), (len(b[name]), 3)))
    stem = f"base_model.model.{name.removesuffix('.weight')}"
    tensors = {f"exp_avg.{key}": tensor for key, tensor in b.items()}
    tensors |= {f"{stem}.lora_A.weight": down, f"{stem}.lora_B.weight": up}
    safetensors.torch.save_file(tensors, "state.safetensors")
    assert main([*apply, "state.safetensors", "-o", "moved.safetensors"]) == 0
    moved, expected = read("moved.safetensors"), found(b)
    assert largest({key: moved[f"exp_avg.{key}"] for key in b}, expected) < 1e-6
    product = moved[f"{stem}.lora_B.weight"] @ moved[f"{stem}.lora_A.weight"]
    torch.testing.assert_close(product, found({**b, name: up @ down})[name])


def test_what_does_not_turn_with_the_weights_is_refused(pair, capsys):
    _, g = pair
    assert main(STREAM) == 0
    name = min(place.tensor for place in g.spec.units[0].places)
    state = {f"exp_avg_sq.{key}": t.square() for key, t in read("b.safetensors").items()}
    safetensors.torch.save_file(dict(sorted(state.items())), "state.safetensors")
    words = [
        "match",
        "--apply",
        "out.element.safetensors",
        "state.safetensors",
        "-o",
        "x.safetensors",
    ]
    assert main(words) == 2
    assert f"squares of gradients do not turn with the weights of {name}" in capsys.readouterr().err
    stretched = LinearMaps(g.spec, tuple(2 * value for value in g.maps.values))
    SymmetryElement(g.permutation, g.rescaling, stretched).save("wide.element.safetensors")
    assert main(["match", "--apply", "wide.element.safetensors", "b.safetensors", *words[4:]]) == 2
    assert "the element stretches weights" in capsys.readouterr().err
    assert main([*STREAM, "--matcher", "circuits: {gauge: general}"]) == 2
    assert "circuits with the orthogonal gauge" in capsys.readouterr().err


def test_a_killed_run_with_phases_is_taken_up_again_with_equal_bytes(pair, tmp_path, monkeypatch):
    assert main([*STREAM[:4], "whole.safetensors", *STREAM[5:]]) == 0
    code = (
        "import os, signal, sys\n"
        "from wsl.cli import main\nfrom wsl.matching import large\n"
        "def dying(*_, **__):\n    os.kill(os.getpid(), signal.SIGKILL)\n"
        "large.write_moved = dying\n"
        "main(sys.argv[1:])\n"
    )
    run = subprocess.run([sys.executable, "-c", code, *STREAM], check=False, env=os.environ)
    assert run.returncode == -signal.SIGKILL
    assert not (tmp_path / "out.safetensors").exists()

    def fails(*_, **__):
        raise AssertionError("the element is known")

    monkeypatch.setattr(large, "match_sources", fails)
    assert main(STREAM) == 0
    assert all(
        (tmp_path / f"out{end}").read_bytes() == (tmp_path / f"whole{end}").read_bytes()
        for end in (".safetensors", ".element.safetensors", ".permutation.json")
    )
