"""`wsl merge` of adapters: exact sums, cuts, methods in spaces, networks beside null arms."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from wsl.cli import main
from wsl.merging import TIES
from wsl.merging.adapters import (
    Adapter,
    KnOTS,
    LowRank,
    combine,
    is_adapter,
    mean_adapter,
    merge_adapters,
    random_like,
)

CODE = """
from torch import nn
def net():
    return nn.Sequential(nn.Linear(4, 9), nn.ReLU(), nn.Linear(9, 3))
"""
SHAPES = {"0.weight": (9, 4), "2.weight": (3, 9)}
NETWORK = ["--model", "adapter_nets:net", "--input-shape", "2,4", "--data", "data.npz"]


def adapter(seed, rank=2):
    rng = torch.Generator().manual_seed(seed)
    changes = {
        name: LowRank(
            torch.randn(m, rank, generator=rng), torch.randn(rank, n, generator=rng), 0.5, (m, n)
        )
        for name, (m, n) in SHAPES.items()
    }
    return Adapter(changes)


@pytest.fixture
def inside(tmp_path, monkeypatch):
    """Two PEFT folders, one file of another style, their base, its code and data."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "adapter_nets.py").write_text(CODE)
    adapter(1).save(tmp_path / "one")
    adapter(2, rank=3).save(tmp_path / "two")
    third = {
        f"lora_unet_{name.removesuffix('.weight')}.{part}.weight": t
        for name, c in adapter(3).changes.items()
        for part, t in (("lora_down", c.a), ("lora_up", c.b * c.scale))
    }
    save_file({n: t.contiguous() for n, t in third.items()}, "third.safetensors")
    torch.manual_seed(0)
    save_file(
        nn.Sequential(nn.Linear(4, 9), nn.ReLU(), nn.Linear(9, 3)).state_dict(), "base.safetensors"
    )
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((60, 4)).astype(np.float32)
    np.savez("data.npz", inputs=inputs, labels=rng.integers(0, 3, 60))
    return tmp_path


def dense(found):
    return {name: change.dense() for name, change in found.changes.items()}


def test_a_weighted_sum_is_exact_and_has_a_result_file(inside, capsys):
    words = ["merge", "one", "two", "third.safetensors", "--weights", "0.6", "-0.4", "2"]
    assert main([*words, "-o", "out"]) == 0
    golden = combine([adapter(1), adapter(2, rank=3), adapter(3)], [0.6, -0.4, 2])
    torch.testing.assert_close(dense(Adapter.load("out")), dense(golden))
    told = json.loads((inside / "out" / "wsl.result.json").read_text())
    assert told["config"]["weights"] == [0.6, -0.4, 2]
    assert len(told["cosines"]) == 3
    assert set(told["inputs"]) == {"a", "b", "c"}
    said = capsys.readouterr().out
    assert "third.safetensors: LoRA, 2 weights, rank 2" in said
    assert "merged: 2 weights, rank at most 7" in said


def test_one_adapter_alone_is_itself(inside):
    assert main(["merge", "one", "-o", "out"]) == 0
    torch.testing.assert_close(dense(Adapter.load("out")), dense(adapter(1)))


def test_a_cut_says_what_is_lost(inside, capsys):
    assert main(["merge", "one", "two", "-o", "out", "--rank", "2"]) == 0
    whole = combine([adapter(1), adapter(2, rank=3)])
    cut = Adapter.load("out")
    lost = sum(float((dense(whole)[n] - t).square().sum()) for n, t in dense(cut).items()) ** 0.5
    told = json.loads((inside / "out" / "wsl.result.json").read_text())
    assert told["lost"] == pytest.approx(lost, rel=1e-4)
    assert all(change.rank == 2 for change in cut.changes.values())
    assert f"rank 2: loses {told['lost']:.6g}" in capsys.readouterr().out


def test_a_method_runs_in_a_space(inside):
    words = ["--method", "ties: {density: 0.5}", "--space", "knots"]
    assert main(["merge", "one", "two", "-o", "out", *words]) == 0
    golden = merge_adapters([adapter(1), adapter(2, rank=3)], TIES(density=0.5), space=KnOTS())
    torch.testing.assert_close(dense(Adapter.load("out")), dense(golden), rtol=1e-4, atol=1e-5)


def test_a_network_is_written_and_scored_beside_null_arms(inside, capsys):
    words = ["merge", "one", "two", "-o", "net.safetensors", "--apply-to", "base.safetensors"]
    assert main([*words, *NETWORK]) == 0
    base, found = load_file("base.safetensors"), load_file("net.safetensors")
    change = dense(combine([adapter(1), adapter(2, rank=3)]))
    golden = {n: t + change[n] if n in change else t for n, t in base.items()}
    torch.testing.assert_close(found, golden)
    told = json.loads((inside / "net.result.json").read_text())
    arms = {"merged", "one", "two", "null: mean", "null: random", "null: zero"}
    assert set(told["scores"]) == arms
    assert told["cast_error"] < 1e-6
    said = capsys.readouterr().out
    assert "relative error of the cast" in said
    assert all(f"\n{name}" in said for name in arms)
    assert main([*words, *NETWORK]) == 0  # and again with the same random adapter
    assert json.loads((inside / "net.result.json").read_text()) == told


def test_without_data_a_network_is_written_and_not_scored(inside):
    words = ["merge", "one", "-o", "net.safetensors", "--apply-to", "base.safetensors"]
    assert main(words) == 0
    assert "scores" not in json.loads((inside / "net.result.json").read_text())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["one", "base.safetensors"], "one is an adapter and base.safetensors is none"),
        (["base.safetensors", "one"], "one is an adapter and base.safetensors is none"),
        (["one", "two", "--weights", "1"], "--weights: 1 for 2 adapters; one each is needed"),
        (["one", "--rank", "0"], "--rank is 0; at least 1 is needed"),
        (["one", "two", "--space", "core"], "--space is where a --method runs"),
        (["one", "two", "--method", "fisher"], "--method fisher: needs statistics"),
        (["one", "two", "--method", "ties", "--space", "cor"], "did you mean 'core'"),
        (["one", "--data", "data.npz"], "give its network by --apply-to BASE"),
        (["one", "--weights", "2", "--method", "ties"], "--weights are of the exact sum"),
    ],
)
def test_what_does_not_go_together_is_said_on_one_line(inside, capsys, words, message):
    assert main(["merge", *words, "-o", "out"]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not (inside / "out").exists()


def test_an_adapter_is_no_checkpoint_file(inside, capsys):
    assert main(["merge", "one", "two", "-o", "out.safetensors"]) == 2
    assert "adapters are written as a PEFT folder" in capsys.readouterr().err
    assert main(["merge", "one", "-o", "x", "--apply-to", "third.safetensors"]) == 2
    assert "the base has no such weight" in capsys.readouterr().err


def test_adapters_are_told_from_networks(inside):
    assert is_adapter("one")
    assert is_adapter("third.safetensors")
    assert not is_adapter("base.safetensors")
    assert not is_adapter("adapter_nets.py")
    assert not is_adapter(inside)
    mixed = {"0.lora_A.weight": torch.ones(1, 2), "0.base_layer.weight": torch.ones(2, 2)}
    save_file(mixed, "mixed.safetensors")
    assert not is_adapter("mixed.safetensors")
    (inside / "broken.safetensors").write_bytes(b"no")
    assert not is_adapter("broken.safetensors")


def test_null_arms_have_the_size_of_what_they_stand_beside():
    one, rng = adapter(1), torch.Generator().manual_seed(0)
    drawn = random_like(one, rng)
    for name, change in one.changes.items():
        assert drawn.changes[name].norm() == pytest.approx(change.norm())
        assert drawn.changes[name].rank == change.rank
    assert abs(drawn.inner(one)) < 0.9 * one.norm() ** 2
    mean = mean_adapter([one, adapter(2)])
    golden = {n: (t + dense(adapter(2))[n]) / 2 for n, t in dense(one).items()}
    torch.testing.assert_close(dense(mean), golden)
