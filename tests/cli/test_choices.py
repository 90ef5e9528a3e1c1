"""`--matcher` and `--method`: the default stays what it was, and a description is recorded."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from wsl.cli import main
from wsl.matching import MANY, MATCHERS, ActivationMatching, WeightMatching, match
from wsl.merging import METHODS
from wsl.symmetry import PermutationSpec
from wsl.zoo import read_checkpoint, write_checkpoint

SPEC = PermutationSpec.parse("h = 6\n0.weight: h 3\n0.bias: h\n2.weight: 2 h\n2.bias: 2")


@pytest.fixture
def pair(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = torch.Generator().manual_seed(0)
    thetas = [
        {name: torch.randn(shape, generator=rng) for name, shape in SPEC.shapes.items()}
        for _ in range(2)
    ]
    for name, theta in zip("ab", thetas, strict=True):
        write_checkpoint(Path(f"{name}.safetensors"), theta, {"spec": str(SPEC)})
    return thetas


def written(name):
    return json.loads(Path(f"{name}.result.json").read_text())


def test_the_chosen_matcher_aligns_and_is_recorded(pair):
    files = ["a.safetensors", "b.safetensors"]
    assert main(["match", *files, "-o", "plain.safetensors"]) == 0
    words = ["--matcher", "weight: {max_sweeps: 1, seed: 3}"]
    assert main(["match", *files, *words, "-o", "chosen.safetensors"]) == 0
    plain, chosen = written("plain"), written("chosen")
    assert plain["config"] == {"seed": 0}
    assert chosen["config"] == {"seed": 0, "matcher": {"weight": {"max_sweeps": 1, "seed": 3}}}
    assert plain["hash"] != chosen["hash"]
    assert chosen["sweeps"] == 1
    found = match(SPEC, *pair, WeightMatching(max_sweeps=1, seed=3))
    aligned, _ = read_checkpoint("chosen.safetensors")
    assert all(torch.equal(aligned[name], t) for name, t in found(pair[1]).items())


NETS = """
from torch import nn
def mlp():
    return nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 2))
"""


def test_activation_matching_takes_the_network_and_unlabelled_inputs(pair, capsys):
    Path("activation_nets.py").write_text(NETS)
    x = torch.randn(50, 3, generator=torch.Generator().manual_seed(1))
    np.savez("inputs.npz", inputs=x.numpy())
    files = ["a.safetensors", "b.safetensors"]
    network = ["--model", "activation_nets:mlp", "--input-shape", "2,3"]
    words = ["--matcher", "activation: {samples: 40}"]
    given = ["--inputs-data", "inputs.npz"]
    assert main(["match", *files, *words, *network, *given, "-o", "out.safetensors"]) == 0
    model = torch.nn.Sequential(torch.nn.Linear(3, 6), torch.nn.ReLU(), torch.nn.Linear(6, 2))
    found = match(SPEC, *pair, ActivationMatching(x, model, samples=40))
    aligned, _ = read_checkpoint("out.safetensors")
    assert all(torch.equal(aligned[name], t) for name, t in found(pair[1]).items())
    config = written("out")["config"]
    assert config["matcher"] == {"activation": {"samples": 40}}
    assert config["matcher_inputs"] == "inputs.npz"
    assert main(["merge", *files, *words, *network, *given, "-o", "merged.safetensors"]) == 0
    merged, _ = read_checkpoint("merged.safetensors")
    torch.testing.assert_close(merged["0.bias"], (pair[0]["0.bias"] + aligned["0.bias"]) / 2)
    capsys.readouterr()
    assert main(["match", *files, *words, *network, "-o", "none.safetensors"]) == 2
    assert "--inputs-data" in capsys.readouterr().err
    assert main(["match", *files, *words, *given, "-o", "none.safetensors"]) == 2
    assert "add --model module:callable" in capsys.readouterr().err
    assert not Path("none.safetensors").exists()


def test_the_chosen_method_merges_and_is_recorded(pair):
    files = ["a.safetensors", "b.safetensors"]
    Path("m.yaml").write_text("_target_: wsl.merging.Average\nweights: [1, 3]\n")
    assert main(["merge", *files, "--method", "m.yaml", "-o", "chosen.safetensors"]) == 0
    assert main(["merge", *files, "-t", "0.75", "-o", "plain.safetensors"]) == 0
    chosen, plain = (read_checkpoint(f"{n}.safetensors")[0] for n in ("chosen", "plain"))
    torch.testing.assert_close(chosen, plain)
    assert written("chosen")["config"]["method"] == {
        "_target_": "wsl.merging.Average",
        "weights": [1, 3],
    }
    assert list(written("plain")["config"]) == ["weight", "no_match", "reset_batch_norm", "seed"]


def test_all_checkpoints_are_aligned_to_each_other_on_request(pair):
    files = ["a.safetensors", "b.safetensors", "b.safetensors"]
    for name in MANY:
        assert main(["merge", *files, "--match-all", name, "-o", f"{name}.safetensors"]) == 0
        assert written(name)["config"]["match_all"] == name
    plain, joint = (read_checkpoint(f"{n}.safetensors")[0] for n in ("to_reference", "merge_many"))
    assert plain.keys() == joint.keys()
    more = "merge_many: {seed: 3, max_rounds: 2}"
    assert main(["merge", *files[:2], "--match-all", more, "-o", "two.safetensors"]) == 0
    assert written("two")["config"]["match_all"] == {"merge_many": {"seed": 3, "max_rounds": 2}}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["match", "--matcher", "wieght"], "matcher 'wieght' does not exist.*weight"),
        (["match", "--matcher", "weight: {swaps: 1}"], "matcher weight: .*swaps"),
        (["connect", "--matcher", "{_target_: os.system}"], "--trust-config"),
        (["merge", "--method", "mean"], "method 'mean' does not exist"),
        (["merge", "--method", "average", "-t", "0.3"], "--weight is of the plain average"),
        (["merge", "--matcher", "weight", "--no-match"], "leave out one"),
        (["merge", "--match-all", "merge_many", "--no-match"], "leave out one"),
        (["merge", "--match-all", "merge_many", "--matcher", "weight"], "leave out one"),
        (["merge", "--match-all", "merge_mani"], "match-all 'merge_mani' does not exist.*merge_m"),
    ],
)
def test_what_cannot_be_chosen_is_said_in_one_line(pair, capsys, words, message):
    verb, *flags = words
    output = "out" if verb == "connect" else "out.safetensors"
    assert main([verb, "a.safetensors", "b.safetensors", *flags, "-o", output]) == 2
    said = capsys.readouterr().err.strip()
    assert re.search(message, said)
    assert "\n" not in said
    assert not Path(output).exists()


@pytest.mark.parametrize(("verb", "table"), [("match", MATCHERS), ("merge", METHODS)])
def test_the_help_lists_the_table(verb, table, capsys):
    assert main([verb, "--help"]) == 0
    said = capsys.readouterr().out
    assert all(name in said for name in table)
