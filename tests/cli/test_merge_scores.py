"""What `wsl merge` says of a merged network: mended on which data, beside what, and what next."""

import argparse
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from wsl.cli import main
from wsl.cli.merge import _advice
from wsl.cli.results import file_hash

CODE = """
from torch import nn

def network():
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))
"""
WORDS = ["a.pt", "b.pt", "--model", "scored_nets:network", "--input-shape", "2,4"]


@pytest.fixture
def pair(tmp_path, monkeypatch):
    """Two networks that tell the sign of a number, and data that they were and were not told."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    Path("scored_nets.py").write_text(CODE)
    x = torch.randn(300, 4, generator=torch.Generator().manual_seed(0))
    y = (x[:, 0] > 0).long()
    np.savez("train.npz", x=x[:200].numpy(), y=y[:200].numpy())
    np.savez("test.npz", x=x[200:].numpy(), y=y[200:].numpy())
    for seed, name in enumerate("ab"):
        torch.manual_seed(seed)
        hidden = [nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2)]
        net = nn.Sequential(*hidden)
        optimizer = torch.optim.Adam(net.parameters(), 0.05)
        for _ in range(60):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(x[:200]), y[:200]).backward()
            optimizer.step()
        torch.save(net.state_dict(), f"{name}.pt")


def merged(*words, data="test.npz"):
    output = ["-o", "m.safetensors"]
    assert main(["merge", *WORDS, "--data", data, *words, *output]) == 0
    return json.loads(Path("m.result.json").read_text())


def test_repair_on_the_data_that_score_is_said_and_other_inputs_are_not(pair, capsys):
    merged("--least-squares")
    assert capsys.readouterr().err.count("the 100 inputs of --data (no labels)") == 1
    merged("--least-squares", "--inputs-data", "train.npz")
    merged()
    assert "inputs of --data" not in capsys.readouterr().err
    whole = dict(np.load("train.npz"))
    test = dict(np.load("test.npz"))
    np.savez("both.npz", x_train=whole["x"], y_train=whole["y"], x_test=test["x"], y_test=test["y"])
    merged("--least-squares", data="both.npz")
    assert "inputs of --data" not in capsys.readouterr().err


def test_the_plain_average_gets_the_same_repair(pair, capsys):
    done = merged("--least-squares", "--inputs-data", "train.npz")
    alone = merged("--least-squares", "--inputs-data", "train.npz", "--no-match")
    assert done["scores"]["naive_repaired"] == alone["scores"]["merged"]
    assert done["accuracy_naive_repaired"] == alone["accuracy"]
    assert "not aligned but repaired" in capsys.readouterr().out
    assert "naive_repaired" not in merged()["scores"]


def test_a_result_depends_on_the_data(pair):
    done = merged("--inputs-data", "train.npz")
    for name, file in {"data": "test.npz", "inputs_data": "train.npz"}.items():
        assert done["inputs"][name] == {"file": file, "sha256": file_hash(file)}
    other = merged("--inputs-data", "train.npz", data="train.npz")
    assert other["hash"] != done["hash"]


def test_a_network_that_is_lost_with_its_batch_norm_is_told_what_may_help():
    def asked(**given):
        flags = dict.fromkeys(("reset_batch_norm", "inputs_data", "repair", "least_squares"))
        return argparse.Namespace(**{**flags, **given})

    with_norm, without = {"1.running_mean": torch.zeros(2)}, {"0.weight": torch.zeros(2)}
    assert "averaged statistics: give --inputs-data" in _advice(asked(), with_norm)
    assert _advice(asked(), without) == "; try --least-squares with --inputs-data"
    assert _advice(asked(inputs_data="x"), with_norm) == _advice(asked(), without)
    assert _advice(asked(least_squares=True), with_norm) == ""
