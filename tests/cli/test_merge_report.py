"""`wsl merge --report`: one page with what is known of a merge, and no more than is known."""

import csv
import json

import numpy as np
import pytest
import torch
from torch import nn

from wsl.cli import main

CODE = """
from torch import nn
def net():
    return nn.Sequential(nn.Linear(4, 9), nn.ReLU(), nn.Linear(9, 3))
"""
NETWORK = ["--model", "report_nets:net", "--input-shape", "2,4"]
TIES = ["--method", "ties: {density: 0.5}", "--base", "base.pt"]


@pytest.fixture
def inside(tmp_path, monkeypatch):
    """A base, three fine-tunes of it, their code, and data."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "report_nets.py").write_text(CODE)
    torch.manual_seed(0)
    base = nn.Sequential(nn.Linear(4, 9), nn.ReLU(), nn.Linear(9, 3)).state_dict()
    torch.save(base, "base.pt")
    for name in "abc":
        torch.save({n: t + 0.1 * torch.randn(t.shape) for n, t in base.items()}, f"{name}.pt")
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((60, 4)).astype(np.float32)
    np.savez("data.npz", inputs=inputs, labels=rng.integers(0, 3, 60))
    return tmp_path


def rows(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_a_page_tells_scores_paths_interference_gradients_and_how(inside, capsys):
    words = ["merge", "a.pt", "b.pt", "c.pt", "-o", "out.safetensors", *NETWORK, *TIES]
    assert main([*words, "--data", "data.npz", "--report", "pages/m.html"]) == 0
    page = (inside / "pages" / "m.html").read_text()
    kinds = ("scores", "path", "interference", "layers", "gradients")
    assert page.count("<svg") == len(kinds)
    assert {p.name for p in (inside / "pages").glob("*.csv")} == {f"m_{k}.csv" for k in kinds}
    assert "<script" not in page
    told = json.loads((inside / "out.result.json").read_text())
    for name in ("a", "b", "c"):
        assert told["inputs"][name]["sha256"] in page
    assert "ties: {density: 0.5}" in page or "density" in page
    scores = {
        (r["network"], r["metric"]): float(r["value"]) for r in rows(inside / "pages/m_scores.csv")
    }
    assert scores["merged", "loss"] == pytest.approx(told["loss"])
    assert {who for who, _ in scores} == {"a", "b", "c", "naive", "merged"}
    pairs = rows(inside / "pages" / "m_interference.csv")
    assert [(r["one"], r["other"]) for r in pairs] == [("a", "b"), ("a", "c"), ("b", "c")]
    paths = rows(inside / "pages" / "m_path.csv")
    first = next(r for r in paths if r["path"] == "to a" and float(r["t"]) == 0)
    assert float(first["loss"]) == pytest.approx(told["loss"], rel=1e-5)
    assert "pages/m.html: the card, scores, path" in capsys.readouterr().out


def test_without_data_and_base_the_page_is_the_card(inside):
    words = ["merge", "a.pt", "b.pt", "-o", "out.safetensors", *NETWORK]
    assert main([*words, "--report", "m.html"]) == 0
    page = (inside / "m.html").read_text()
    assert page.count("<svg") == 0
    assert "sha256" in page
    assert not [*inside.glob("m_*.csv")]


def test_a_score_without_a_loss_has_no_path(inside):
    (inside / "report_score.py").write_text("def score(network):\n    return {'right': 1.0}\n")
    words = ["merge", "a.pt", "b.pt", "-o", "out.safetensors", *NETWORK, *TIES]
    assert main([*words, "--evaluate", "report_score:score", "--report", "m.html"]) == 0
    assert {p.name for p in inside.glob("m_*.csv")} == {
        "m_scores.csv",
        "m_interference.csv",
        "m_layers.csv",
    }


def test_a_page_needs_the_networks_in_memory_and_a_place(inside, capsys):
    words = ["merge", "a.pt", "b.pt", "-o", "out.safetensors", *NETWORK]
    assert main([*words, "--no-match", "--stream", "--report", "m.html"]) == 2
    assert "--report needs the networks in memory" in capsys.readouterr().err
    assert main([*words, "--report", "a.pt/m.html"]) == 2
    assert "is a file" in capsys.readouterr().err
