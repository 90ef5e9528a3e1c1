"""`wsl match` out of core: the result of matching in memory, shard by shard, after a kill too;
elements applied to other files of the family, and undone.
"""

import json
import os
import signal
import subprocess
import sys

import pytest
import safetensors.torch
import torch
from networks import BY_NAME

from wsl.cli import main, streamed
from wsl.matching import large
from wsl.symmetry import Permutation

NETWORK = BY_NAME["attention"]
SHARDS = [f"model-0000{i}-of-00003.safetensors" for i in (1, 2, 3)]
INDEX = "model.safetensors.index.json"
WORDS = ["match", "A", "B", "-o", "out", "--spec", "spec.txt", "--stream"]


def halves(theta):
    return {n: t.bfloat16() if t.is_floating_point() else t for n, t in theta.items()}


def write_folder(folder, theta):
    folder.mkdir()
    names = list(theta)
    inside = {name: SHARDS[i * 3 // len(names)] for i, name in enumerate(names)}
    for shard in SHARDS:
        tensors = {n: theta[n] for n in names if inside[n] == shard}
        safetensors.torch.save_file(tensors, folder / shard, {"format": "pt"})
    total = sum(t.nbytes for t in theta.values())
    index = {"metadata": {"total_size": total}, "weight_map": inside}
    (folder / INDEX).write_text(json.dumps(index))
    (folder / "tokenizer.json").write_text("{}")


def read_folder(folder):
    return {n: t for f in folder.glob("*.safetensors") for n, t in read(f).items()}


def read(file):
    return safetensors.torch.load_file(file)


def content(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.fixture
def pair(tmp_path, monkeypatch):
    """Two sharded checkpoints in bfloat16, and the file of their specification."""
    monkeypatch.chdir(tmp_path)
    a, noise = NETWORK.weights(seed=1), NETWORK.weights(seed=2)
    planted = Permutation.random(NETWORK.spec, torch.Generator().manual_seed(3))
    near = {n: t + 0.1 * noise[n] if t.is_floating_point() else t for n, t in a.items()}
    write_folder(tmp_path / "A", halves(a))
    write_folder(tmp_path / "B", halves(planted(near)))
    (tmp_path / "spec.txt").write_text(str(NETWORK.spec))
    return tmp_path


def test_the_result_is_that_of_matching_in_memory(pair, capsys):
    assert main(WORDS) == 0
    assert main([*WORDS[:4], "near", *WORDS[5:-1], "--no-stream"]) == 0
    streamed_out, whole = pair / "out", pair / "near"
    one, other = (
        Permutation.load(folder / "wsl.permutation.json") for folder in (streamed_out, whole)
    )
    assert one == other
    expected = read(whole / "model.safetensors")
    found = read_folder(streamed_out)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in found.items())
    assert found.keys() == expected.keys()
    told, same = (json.loads((f / "wsl.result.json").read_text()) for f in (streamed_out, whole))
    assert told["hash"] == same["hash"]
    assert {k: v for k, v in told.items() if isinstance(v, float)} == pytest.approx(
        {k: v for k, v in same.items() if isinstance(v, float)}, rel=1e-5
    )
    assert "in 2 sweeps" in capsys.readouterr().out


def test_shards_types_and_what_lies_beside_are_those_of_b(pair):
    assert main(WORDS) == 0
    b, out = pair / "B", pair / "out"
    assert {f.name for f in out.iterdir()} == {
        *(f.name for f in b.iterdir()),
        "wsl.permutation.json",
        "wsl.result.json",
    }
    for shard in SHARDS:
        ours, theirs = large.open_files(out / shard), large.open_files(b / shard)
        assert [(n, t.dtype, t.shape) for n, t in ours.tensors.items()] == [
            (n, t.dtype, t.shape) for n, t in theirs.tensors.items()
        ]
        with safetensors.safe_open(out / shard, framework="pt") as file:
            assert file.metadata() == {"format": "pt"}
    assert json.loads((out / INDEX).read_text()) == json.loads((b / INDEX).read_text())


def test_one_file_is_written_where_one_is_asked_for(pair):
    assert main([*WORDS[:4], "out.safetensors", *WORDS[5:]]) == 0
    assert main(WORDS) == 0
    one = read(pair / "out.safetensors")
    assert all(torch.equal(tensor, one[name]) for name, tensor in read_folder(pair / "out").items())
    assert not list(pair.glob(".*"))


def test_a_killed_run_is_taken_up_again_with_equal_bytes(pair, monkeypatch):
    assert main([*WORDS[:4], "whole", *WORDS[5:]]) == 0
    code = (
        "import os, signal, sys\n"
        "from wsl.cli import main\nfrom wsl.matching import large\n"
        "done = large.Journal.finished\n"
        "def dying(self, file, digest):\n"
        "    done(self, file, digest)\n"
        "    len(self.done) == 2 and os.kill(os.getpid(), signal.SIGKILL)\n"
        "large.Journal.finished = dying\n"
        "main(sys.argv[1:])\n"
    )
    run = subprocess.run([sys.executable, "-c", code, *WORDS], check=False, env=os.environ)
    assert run.returncode == -signal.SIGKILL
    assert sorted(f.name for f in (pair / "out").glob("*.safetensors")) == SHARDS[:2]
    assert not (pair / "out" / INDEX).exists()
    before = (pair / "out" / SHARDS[0]).stat().st_mtime_ns

    def fails(*_, **__):
        raise AssertionError("the element is known")

    monkeypatch.setattr(large, "match_sources", fails)
    assert main(WORDS) == 0
    assert (pair / "out" / SHARDS[0]).stat().st_mtime_ns == before
    assert content(pair / "out") == content(pair / "whole")


def test_what_was_written_for_other_inputs_is_not_taken_for_done(pair, monkeypatch):
    def stops(*_):
        raise OSError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(streamed, "write_json", stops)
        assert main(WORDS) == 2
    assert (pair / "out" / ".wsl.journal.json").exists()
    shard = pair / "B" / SHARDS[0]
    safetensors.torch.save_file({n: t * 2 for n, t in read(shard).items()}, shard)
    assert main(WORDS) == 0
    assert main([*WORDS[:4], "anew", *WORDS[5:]]) == 0
    assert content(pair / "out") == content(pair / "anew")


def test_an_element_is_applied_to_the_family_and_undone(pair, capsys):
    assert main(WORDS) == 0
    element = "out/wsl.permutation.json"
    assert main(["match", "--apply", element, "B", "-o", "again"]) == 0
    assert {f: c for f, c in content(pair / "out").items() if "wsl" not in f} == {
        f: c for f, c in content(pair / "again").items() if "wsl" not in f
    }
    assert main(["match", "--apply", element, "again", "-o", "back", "--undo"]) == 0
    there = read_folder(pair / "B")
    assert all(torch.equal(t, there[n]) for n, t in read_folder(pair / "back").items())
    assert "tensors moved back by" in capsys.readouterr().out


def test_moments_and_adapters_move_like_their_weights(pair):
    assert main(WORDS) == 0
    spec = NETWORK.spec
    element = Permutation.load(pair / "out" / "wsl.permutation.json")
    name = next(n for n, axes in spec.axes.items() if len(axes) == 2 and n.endswith("weight"))
    out, into = spec.shapes[name]
    theta = NETWORK.weights(seed=7)
    rng = torch.Generator().manual_seed(0)
    stem = name.removesuffix(".weight")
    down, up = torch.randn(3, into, generator=rng), torch.randn(out, 3, generator=rng)
    tensors = {
        **{f"exp_avg.{n}": t for n, t in theta.items()},
        **{f"module.{n}.exp_avg_sq": t.square() for n, t in theta.items() if t.dim()},
        f"base_model.model.{stem}.lora_A.weight": down,
        f"base_model.model.{stem}.lora_B.default.weight": up,
        "step": torch.tensor(3),
    }
    safetensors.torch.save_file(tensors, pair / "state.safetensors")
    words = ["match", "--apply", "out/wsl.permutation.json", "state.safetensors"]
    assert main([*words, "-o", "moved.safetensors"]) == 0
    moved, expected = read(pair / "moved.safetensors"), element(theta)
    for n, t in expected.items():
        assert torch.equal(moved[f"exp_avg.{n}"], t)
        assert not t.dim() or torch.equal(moved[f"module.{n}.exp_avg_sq"], t.square())
    product = (
        moved[f"base_model.model.{stem}.lora_B.default.weight"]
        @ (moved[f"base_model.model.{stem}.lora_A.weight"])
    )
    torch.testing.assert_close(product, element({**theta, name: up @ down})[name])
    assert moved["step"] == 3


def test_what_cannot_be_done_is_said_in_a_line(pair, capsys):
    def refused(*words):
        assert main(list(words)) == 2
        return capsys.readouterr().err

    assert "--stream keeps no checkpoint in memory, so --evaluate cannot be had with it" in refused(
        *WORDS, "--evaluate", "module:callable"
    )
    assert "-o B: is an input" in refused(*WORDS[:4], "B", *WORDS[5:])
    torch.save(read_folder(pair / "B"), "b.pt")
    assert "b.pt: is no safetensors file" in refused("match", "A", "b.pt", *WORDS[3:])
    assert "only weight matching without odd groups is done" in refused(
        *WORDS, "--matcher", "weight: {odd: [h1]}"
    )
    assert main(WORDS) == 0
    safetensors.torch.save_file({"strange": torch.ones(3)}, pair / "strange.safetensors")
    element = "out/wsl.permutation.json"
    assert (
        "strange: (3,): belongs to no tensor of the element's network; --drop strange leaves it out"
    ) in refused("match", "--apply", element, "strange.safetensors", "-o", "x.safetensors")


def test_large_inputs_are_streamed_unasked(pair, monkeypatch, capsys):
    monkeypatch.setattr(streamed, "LARGE", 1)
    assert main(WORDS[:-1]) == 0
    assert (pair / "out" / INDEX).exists()
    assert main([*WORDS[:4], "near", *WORDS[5:-1], "--no-stream"]) == 0
    assert (pair / "near" / "model.safetensors").exists()
