"""`wsl init-compare`: starts side by side, by a recipe and by flags, and what it refuses."""

import csv
import json

import numpy as np
import pytest
import torch
from torch import nn

from wsl.cli import main
from wsl.generative import Budget, Curve, compare_starts
from wsl.params import from_module, stack
from wsl.populations import digits

CODE = """
from torch import nn
def net(width=6):
    return nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, 3))
"""
QUICK = ["--seeds=2", "--steps=4", "--points=3", "--lrs=1e-2,1e-1", "--batch-size=8"]


@pytest.fixture
def inside(tmp_path, monkeypatch):
    """A folder with the user's code, data with three classes, and a larger trained network."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "start_nets.py").write_text(CODE)
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 120)
    inputs = rng.standard_normal((120, 4)) + 2 * np.eye(4)[labels]
    np.savez("data.npz", inputs=inputs.astype(np.float32), labels=labels)
    wide = nn.Sequential(nn.Linear(4, 12), nn.ReLU(), nn.Linear(12, 3))
    torch.save(wide.state_dict(), "wide.pt")
    return tmp_path


def compare(*words):
    return main(["init-compare", "--model", "start_nets:net", "--data", "data.npz", *QUICK, *words])


def rows(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_a_users_network_is_started_in_several_ways_at_equal_budget(inside, capsys):
    starts = "default,lsuv,weight_selection,{ridge_head: {start: lsuv}}"
    larger = ["--larger", "start_nets:net", "--larger-kwargs", '{"width": 12}']
    words = ["--starts", starts, *larger, "--larger-weights", "wide.pt", "-o", "out"]
    assert compare(*words) == 0
    table = {row["start"]: row for row in rows(inside / "out" / "starts.csv")}
    assert list(table) == ["default", "lsuv", "weight_selection", "ridge_head(start=lsuv)"]
    assert float(table["ridge_head(start=lsuv)"]["as_drawn"]) > 0.6
    measured = rows(inside / "out" / "curves.csv")
    assert len(measured) == 4 * 2 * 3
    assert {row["step"] for row in measured} == {"0", "1", "4"}
    page = (inside / "out" / "index.html").read_text()
    assert page.count("<svg") == 4
    done = json.loads((inside / "out" / "result.json").read_text())
    assert done["left_out"] == {}
    assert "larger" in done["inputs"]
    told = capsys.readouterr().out
    assert compare(*words) == 0  # finished: said again, not trained again
    assert capsys.readouterr().out == told


def test_a_start_that_lacks_something_is_left_out_and_named(inside, capsys):
    assert compare("--starts", "default,soup", "-o", "out") == 0
    assert "start left out: soup: SoupStart needs aligned" in capsys.readouterr().err
    done = json.loads((inside / "out" / "result.json").read_text())
    assert list(done["starts"]) == ["default"]
    assert compare("--starts", "soup", "-o", "other") == 2
    assert "no start can be drawn" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--starts", "kaimng"], "start 'kaimng' does not exist (did you mean 'kaiming'?)"),
        (["--starts", "default", "--seeds=0"], "seeds is 0, but it must be at least 1"),
        (["--starts", "default", "--larger", "start_nets:net"], "given by --larger-weights FILE"),
        (["--starts", "default", "--kwargs", '{"width": "a"}'], "start_nets:net"),
        (["--starts", "{lsuv: {size: 3}}"], "unexpected keyword argument 'size'"),
        (["--starts", "{"], "--starts '{': cannot be read"),
        (["--starts", "{ridge_head: {ridge: abc}}"], "ridge_head: ridge must be a number or null"),
        (["--starts", "{ridge_head: {start: {best_of_k: {k: 1.5}}}}"], "k must be a whole number"),
        (["--starts", "default", "--lrs=a"], "--lrs 'a': numbers are needed"),
        (["--starts", "default", "--lrs=-1"], "lrs holds -1, but learning rates above 0"),
        (["--starts", "default", "--lrs=nan"], "lrs holds nan, but learning rates above 0"),
    ],
)
def test_what_cannot_be_compared_is_refused(inside, capsys, words, said):
    assert compare(*words, "-o", "out") == 2
    assert said in capsys.readouterr().err
    assert not (inside / "out").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"labels": np.full(120, 2)}, "all labels are 2; at least two classes are needed"),
        ({"labels": np.arange(120) % 3 + 1}, "labels run to 3, but the network gives outputs"),
        ({"inputs": np.ones((120, 5), np.float32)}, "inputs of shape (5,) cannot be read"),
        ({"inputs": np.ones((3, 4)), "labels": np.arange(3)}, "3 examples are too few"),
    ],
)
def test_data_that_do_not_suit_the_network_are_refused(inside, capsys, change, said):
    with np.load("data.npz") as whole:
        np.savez("data.npz", **{**whole, **change})
    assert compare("--starts", "default", "-o", "out") == 2
    told = capsys.readouterr().err
    assert said in told
    assert "data.npz" in told
    assert not (inside / "out").exists()


def test_a_population_is_compared_by_its_recipe(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    network = {"widths": [64, 8, 10], "_target_": "wsl.zoo.architectures.mlp"}
    recipe = {
        "population": {
            "_target_": "wsl.zoo.ClassifierPopulation",
            "architecture": network,
            "task": {"_target_": "wsl.zoo.digits"},
            "optimizer": {"_target_": "wsl.zoo.AdamW"},
            "members": 8,
            "steps": 40,
            "snapshots": [40],
            "batch_size": 16,
            "lr": [1e-2, 1e-2],
            "weight_decay": [1e-3, 1e-3],
            "seed": 0,
            "chunk": 8,
        }
    }
    folder = tmp_path / "own" / "datasets"
    folder.mkdir(parents=True)
    (folder / "tiny.yaml").write_text("# @package _global_\n" + json.dumps(recipe))
    words = ["datasets=tiny", "--config-dir", "own", "seeds=2", "steps=4", "points=3"]
    words += ["lrs=[0.001]", "quantile=0.5", "starts=[default_init,soup,polarity,mean,retrieval]"]
    assert main(["init-compare", *words, "output=out"]) == 0
    table = {row["start"]: row for row in rows(tmp_path / "out" / "starts.csv")}
    assert list(table) == ["default_init", "soup", "polarity", "mean", "retrieval"]
    assert float(table["retrieval"]["as_drawn"]) > float(table["default_init"]["as_drawn"]) + 0.2
    assert main(["init-compare", "datasets=tiny", "--config-dir", "own", "step=3"]) == 2
    assert "unknown key 'step' (did you mean 'steps'?)" in capsys.readouterr().err


# curves


def test_the_area_and_the_steps_of_a_curve_are_those_of_a_toy():
    curve = Curve((0, 2, 6), torch.tensor([[0.0, 0.5, 1.0], [0.2, 0.2, 0.2]]), 0.1, {})
    assert curve.aulc.tolist() == pytest.approx([(0.5 + 3.0) / 6, 0.2])
    assert curve.steps_to(0.5).tolist() == [2.0, float("inf")]
    assert curve.steps_to(0.1).tolist() == [2.0, 0.0]


def test_measurements_begin_before_the_first_step_and_end_after_the_last():
    assert Budget(steps=100, points=5).measured == (0, 6, 25, 56, 100)
    assert Budget(steps=2, points=9).measured == (0, 1, 2)


def test_a_network_has_the_same_curve_beside_others_and_the_rate_is_chosen_on_validation():
    def net(seed):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))

    data, budget = digits(), Budget(steps=6, points=3, lrs=(1e-4, 1e-2), batch_size=16)
    both = stack([from_module(net(0)), from_module(net(1))])
    alone = {name: tensor[:1] for name, tensor in both.items()}
    found = compare_starts(net(0), {"both": both, "alone": alone}, data, budget=budget)
    torch.testing.assert_close(found["both"].accuracy[0], found["alone"].accuracy[0])
    assert found["both"].lr == max(found["both"].areas, key=found["both"].areas.get) == 1e-2


def test_weights_are_predicted_from_the_architecture_by_a_family_of_others(inside, capsys):
    mlps = [{"_target_": "wsl.zoo.architectures.mlp", "widths": [4, w, 3]} for w in (4, 8)]
    start = json.dumps({"predicted": {"family": mlps, "steps": 60}})
    assert compare("--starts", f"default,{start}", "-o", "out") == 0
    table = {row["start"]: row for row in rows(inside / "out" / "starts.csv")}
    assert list(table) == ["default", "predicted(family=[2], steps=60)"]
    drawn = [float(row["as_drawn"]) for row in table.values()]
    assert drawn[1] > 0.7 > 0.55 > drawn[0]
