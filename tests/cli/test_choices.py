"""`--matcher` and `--method`: the default stays what it was, and a description is recorded."""

import gzip
import json
import re
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from wsl import params
from wsl.cli import main
from wsl.cli.targets import joined
from wsl.matching import (
    MANY,
    MATCHERS,
    ActivationMatching,
    SinkhornMatching,
    STEMatching,
    WeightMatching,
    match,
)
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
def score(network):
    return {"loss": 0.0}
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
    score = ["--evaluate", "activation_nets:score"]
    words_of_connect = ["connect", *files, *network, *score, "--reset-batch-norm", "-o", "none"]
    assert main(words_of_connect) == 2
    assert (
        "inputs are needed, to run the networks on; give --inputs-data" in capsys.readouterr().err
    )
    assert main(["match", *files, *words, *given, "-o", "none.safetensors"]) == 2
    assert "add --model module:callable" in capsys.readouterr().err
    assert not Path("none.safetensors").exists()


NETWORK = ["--model", "activation_nets:mlp", "--input-shape", "2,3"]
FILES = ["a.safetensors", "b.safetensors"]


@pytest.fixture
def labelled(pair):
    """A network by address, and labelled data to train on and to score on."""
    Path("activation_nets.py").write_text(NETS)
    rng = torch.Generator().manual_seed(1)
    x, y = torch.randn(150, 3, generator=rng), torch.randint(0, 2, (150,), generator=rng)
    np.savez("train.npz", inputs=x[:100].numpy(), labels=y[:100].numpy())
    np.savez("test.npz", inputs=x[100:].numpy(), labels=y[100:].numpy())
    model = torch.nn.Sequential(torch.nn.Linear(3, 6), torch.nn.ReLU(), torch.nn.Linear(6, 2))

    def loss(theta, batch):
        return torch.nn.functional.cross_entropy(params.call(model, theta, batch[0]), batch[1])

    return loss, list(zip(x[:100].split(64), y[:100].split(64), strict=True))


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("ste: {epochs: 3, learning_rate: 0.3}", STEMatching),
        ("sinkhorn: {steps: 6, rounded_every: 2}", SinkhornMatching),
    ],
)
def test_matchers_that_know_a_loss_train_on_labelled_data(pair, labelled, text, made):
    words = ["--matcher", text, *NETWORK, "--match-data", "train.npz", "--data", "test.npz"]
    assert main(["match", *FILES, *words, "-o", "out.safetensors"]) == 0
    (arguments,) = yaml.safe_load(text).values()
    loss, batches = labelled
    found = match(SPEC, *pair, made(loss=loss, batches=batches, **arguments))
    aligned, _ = read_checkpoint("out.safetensors")
    assert all(torch.equal(aligned[name], t) for name, t in found(pair[1]).items())
    told = written("out")
    assert told["objective"] == pytest.approx(found.objective)
    assert told["objective"] < 0
    assert told["config"]["matcher_data"] == "train.npz"
    assert set(told["scores"]) == {"a", "b", "aligned"}


def test_a_loss_without_data_or_on_the_scored_data_is_refused(labelled, capsys):
    def refused(*words):
        assert main(["match", *FILES, *words, "-o", "out.safetensors"]) == 2
        assert not Path("out.safetensors").exists()
        return capsys.readouterr().err

    ste = ["--matcher", "ste"]
    assert "STEMatching trains on labelled data; give --match-data PATH" in refused(*ste, *NETWORK)
    same = [*ste, *NETWORK, "--data", "test.npz"]
    message = "STEMatching would train on --data test.npz, on which the result is scored"
    assert message in refused(*same)
    assert message in refused(*same, "--match-data", "./test.npz").replace("./", "")
    assert "but WeightMatching knows none" in refused(*NETWORK, "--match-data", "train.npz")
    np.savez("bare.npz", inputs=np.zeros((4, 3), "float32"))
    assert "no labels, which a loss needs" in refused(*ste, *NETWORK, "--match-data", "bare.npz")
    assert "add --model module:callable" in refused(*ste, "--match-data", "train.npz")
    assert (
        main(["match", *FILES, "--matcher", "sinkhorn: {steps: 2}", "-o", "out.safetensors"]) == 0
    )


def test_a_folder_with_a_training_part_may_also_score(labelled):
    for part, count in (("train", 20), ("t10k", 10)):
        pixels = np.random.default_rng(count).integers(0, 256, (count, 1, 3), dtype=np.uint8)
        head = struct.pack(">4i", 0x803, count, 1, 3)
        Path(f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(head + pixels.tobytes()))
        labels = struct.pack(">2i", 0x801, count) + bytes([0, 1] * (count // 2))
        Path(f"{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(labels))
    Path("flat_nets.py").write_text(
        "from torch import nn\nclass Flat(nn.Sequential):\n"
        "    def forward(self, x):\n        return super().forward(x.flatten(1))\n"
        "def mlp():\n    return Flat(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 2))\n"
    )
    words = [
        "--model",
        "flat_nets:mlp",
        "--input-shape",
        "2,1,1,3",
        "--matcher",
        "ste: {epochs: 1}",
    ]
    assert main(["match", *FILES, *words, "--data", ".", "-o", "out.safetensors"]) == 0
    assert set(written("out")["scores"]) == {"a", "b", "aligned"}


def test_matchers_inside_a_joint_method_get_inputs_and_losses(pair, labelled):
    inside = "to_reference: {matcher: {activation: {samples: 40}}}"
    words = [*NETWORK, "--match-all", inside, "--inputs-data", "train.npz"]
    assert main(["merge", *FILES, *words, "-o", "joint.safetensors"]) == 0
    alone = [*NETWORK, "--matcher", "activation: {samples: 40}", "--inputs-data", "train.npz"]
    assert main(["merge", *FILES, *alone, "-o", "single.safetensors"]) == 0
    joint, single = (read_checkpoint(f"{n}.safetensors")[0] for n in ("joint", "single"))
    assert all(torch.equal(joint[name], tensor) for name, tensor in single.items())
    assert written("joint")["config"]["matcher_inputs"] == "train.npz"
    trained = [*NETWORK, "--match-data", "train.npz"]
    for flag, text, name in (
        ("--match-all", "to_reference: {matcher: {ste: {epochs: 2}}}", "joint"),
        ("--matcher", "ste: {epochs: 2}", "single"),
    ):
        assert main(["merge", *FILES, *trained, flag, text, "-o", f"{name}.safetensors"]) == 0
    joint, single = (read_checkpoint(f"{n}.safetensors")[0] for n in ("joint", "single"))
    assert all(torch.equal(joint[name], tensor) for name, tensor in single.items())


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
        (["merge", "--match-all", "to_reference: {matcher: {wieght: {}}}"], "matcher 'wieght'"),
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


@pytest.mark.parametrize(
    "words",
    [
        ["--matcher", "weight", "max_sweeps=1", "seed=3"],
        ["--matcher", "weight max_sweeps=1 seed=3"],
        ["--matcher", "weight: {max_sweeps: 1, seed: 3}"],
    ],
)
def test_arguments_may_be_written_as_words(pair, words):
    files = ["a.safetensors", "b.safetensors"]
    assert main(["match", *words, *files, "-o", "chosen.safetensors"]) == 0
    assert written("chosen")["sweeps"] == 1


def test_words_after_a_description_are_its_fields_unless_they_are_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("run=1.pt").touch()
    words = ["a", "--method", "average", "weights=[2, -1]", "run=1.pt", "k=2", "-o", "x=1"]
    assert joined(words) == ["a", "--method", "average weights=[2, -1]", *words[4:]]


@pytest.mark.parametrize("name", ["merged.pt", "merged.bin", "merged.ckpt"])
def test_a_result_that_cannot_be_written_is_refused_before_the_work(pair, capsys, name):
    for verb in ("match", "merge"):
        assert main([verb, "a.safetensors", "b.safetensors", "-o", name]) == 2
        told = capsys.readouterr().err
        assert told == (
            f"wsl {verb}: -o {name}: checkpoints are written as .safetensors; change the suffix\n"
        )
    assert not list(Path().glob("*merged*"))


def test_a_folder_may_have_dots_in_its_name(pair):
    for verb in ("match", "merge"):
        assert main([verb, "a.safetensors", "b.safetensors", "-o", f"{verb}-v1.2"]) == 0
        assert (Path(f"{verb}-v1.2") / "model.safetensors").is_file()
        assert (Path(f"{verb}-v1.2") / "wsl.result.json").is_file()
