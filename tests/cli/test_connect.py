"""`wsl connect` with what it can add: repaired lines, a plane, and a page of diagnostics."""

import csv
import json

import numpy as np
import pytest
import torch
from torch import nn

from wsl.cli import main
from wsl.connectivity import calibrated

CODE = """
from torch import nn
def net():
    return nn.Sequential(nn.Linear(4, 9), nn.ReLU(), nn.Linear(9, 8), nn.ReLU(), nn.Linear(8, 3))
"""


@pytest.fixture
def inside(tmp_path, monkeypatch):
    """Three networks of one architecture, its code, and data."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "connect_nets.py").write_text(CODE)
    torch.manual_seed(0)
    for name in "abc":
        layers = [nn.Linear(4, 9), nn.ReLU(), nn.Linear(9, 8), nn.ReLU(), nn.Linear(8, 3)]
        torch.save(nn.Sequential(*layers).state_dict(), f"{name}.pt")
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((60, 4)).astype(np.float32)
    np.savez("data.npz", inputs=inputs, labels=rng.integers(0, 3, 60))
    return tmp_path


WORDS = ["connect", "a.pt", "b.pt", "-o", "out", "--points", "3", "--data", "data.npz"]
NETWORK = ["--model", "connect_nets:net", "--input-shape", "2,4"]


def test_a_line_can_be_repaired_and_told_on_one_page(inside, capsys):
    added = ["--repair", "--least-squares", "--plane", "c.pt", "--report", "pages/out.html"]
    assert main([*WORDS, *NETWORK, *added]) == 0
    told = json.loads((inside / "out" / "result.json").read_text())
    assert list(told["paths"]) == ["naive", "matched", "repair", "least squares", "both"]
    assert told["inputs"]["c"]["file"] == "c.pt"
    ends = [told["paths"][name]["end_losses"] for name in ("matched", "repair", "least squares")]
    assert ends[1] == pytest.approx(ends[0], abs=1e-4)
    assert ends[2] == pytest.approx(ends[0], abs=1e-2)
    with (inside / "out" / "plane.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 121
    page = (inside / "pages" / "out.html").read_text()
    assert page.count("<svg") == 7
    assert "<script" not in page
    names = {path.name for path in (inside / "pages").glob("*.csv")}
    kinds = ("path", "distances", "spectra", "alignment", "inputs", "taylor", "plane")
    assert names == {f"out_{kind}.csv" for kind in kinds}
    assert "both " in capsys.readouterr().out


def test_without_labels_or_network_the_page_has_what_can_be_told(inside):
    (inside / "connect_score.py").write_text("def score(network):\n    return {'loss': 1.0}\n")
    words = [*WORDS[:-2], "--evaluate", "connect_score:score", "--report", "out.html"]
    assert main([*words, *NETWORK]) == 0
    assert (inside / "out.html").read_text().count("<svg") == 4


def test_losses_are_calibrated_on_request(inside, capsys):
    assert main([*WORDS, *NETWORK]) == 0
    plain = json.loads((inside / "out" / "result.json").read_text())
    assert "calibrated" not in plain["config"]
    assert main([*WORDS, *NETWORK, "--calibrated"]) == 0
    told = json.loads((inside / "out" / "result.json").read_text())
    assert told["config"]["calibrated"] is True
    with np.load("data.npz") as data:
        x, y = torch.from_numpy(data["inputs"]), torch.from_numpy(data["labels"])
    layers = [nn.Linear(4, 9), nn.ReLU(), nn.Linear(9, 8), nn.ReLU(), nn.Linear(8, 3)]
    model = nn.Sequential(*layers)
    for k, name in enumerate("ab"):
        model.load_state_dict(torch.load(f"{name}.pt"))
        found = calibrated(model(x), y)
        assert told["paths"]["naive"]["end_losses"][k] == pytest.approx(found.loss)
        assert found.loss < plain["paths"]["naive"]["end_losses"][k]
    for name in ("naive", "matched"):
        assert told["paths"][name]["end_accuracies"] == plain["paths"][name]["end_accuracies"]
    capsys.readouterr()
    assert main([*WORDS, *NETWORK, "--calibrated", "--loss", "mse"]) == 2
    assert "--calibrated is of classes; --loss mse has none" in capsys.readouterr().err
    words = [*WORDS[:-2], "--evaluate", "connect_score:score", "--calibrated"]
    assert main([*words, *NETWORK]) == 2
    assert "--calibrated fits a temperature to outputs" in capsys.readouterr().err


def test_a_result_is_for_what_was_asked(inside):
    for added in ([], ["--repair"]):
        assert main([*WORDS, *NETWORK, *added]) == 0
        told = json.loads((inside / "out" / "result.json").read_text())
        assert ("repair" in told["paths"]) == bool(added)
    assert "samples" in told["config"]
