"""`wsl train` on a zoo that no recipe describes: ``zoo=FILE target=COLUMN``."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

import wsl
from wsl.cli import main


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """Twenty networks with a score and a label."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    models = [nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)) for _ in range(20)]
    known = {"score": [i / 20 for i in range(20)], "digit": [i % 3 for i in range(20)]}
    spec = wsl.permutation_spec(models[0], torch.randn(2, 3))
    wsl.Zoo.from_models("mine.h5", models, spec=spec, metadata=known)
    return ["train", "models=unf", "zoo=mine.h5", "settings.epochs=1"]


@pytest.mark.parametrize(("target", "metric"), [("score", "kendall_tau"), ("digit", "accuracy")])
def test_a_column_is_predicted(mine, target, metric):
    assert main([*mine, f"target={target}"]) == 0
    done = json.loads(Path("runs/train/mine-unf-0/result.json").read_text())
    assert metric in done["test"]
    assert main(["evaluate", "runs/train/mine-unf-0", "--zoo", "mine.h5"]) == 0


def test_what_is_wrong_is_said(mine, capsys):
    for words, told in {
        (*mine, "target=skore"): "did you mean 'score'?",
        ("train", "models=unf", "target=score"): "or zoo=FILE target=COLUMN",
        ("train", "models=unf", "datasets=digits_mlp", "target=score"): "zoo=FILE",
    }.items():
        assert main(list(words)) == 2
        assert told in capsys.readouterr().err


def test_evaluating_asks_for_the_zoo(mine, capsys):
    assert main([*mine, "target=score"]) == 0
    assert main(["evaluate", "runs/train/mine-unf-0"]) == 2
    assert "--zoo FILE" in capsys.readouterr().err


def test_a_class_of_the_current_folder_is_found(mine, tmp_path, capsys):
    (tmp_path / "own_matcher.py").write_text(
        "from wsl.matching import WeightMatching\n\n\nclass Own(WeightMatching):\n    pass\n"
    )
    (tmp_path / "own_net.py").write_text(
        "from torch import nn\n\n\ndef net():\n"
        "    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))\n"
    )
    assert main(["zoo", "export", "mine.h5", "-o", "out", "--rows", "0", "1"]) == 0
    files = sorted(map(str, Path("out").glob("*.safetensors")))
    words = ["match", *files, "-o", "a.safetensors", "--matcher", "{_target_: own_matcher.Own}"]
    network = ["--model", "own_net:net", "--input-shape", "1,3"]
    assert main([*words, *network]) == 2
    assert "--trust-config" in capsys.readouterr().err
    assert main([*words, *network, "--trust-config"]) == 0


@pytest.mark.parametrize("target", ["score", "digit"])
def test_a_trained_functional_says_what_it_predicts_of_a_file(mine, target, capsys):
    assert main([*mine, f"target={target}", "output=run"]) == 0
    assert main(["zoo", "export", "mine.h5", "-o", "out", "--where", "split == 'test'"]) == 0
    files = sorted(map(str, Path("out").glob("*.safetensors")))
    theta, _ = wsl.Zoo("mine.h5")[0]
    torch.save({f"module.{n}": t.double() for n, t in theta.items()}, "first.pt")
    words = ["evaluate", "run", *files, "first.pt", "--zoo", "mine.h5"]
    capsys.readouterr()
    assert main([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    predicted = [line.split(",")[2] for line in Path("run/predictions.csv").read_text().split()[1:]]
    assert [told["predictions"][f] for f in files] == pytest.approx(list(map(float, predicted)))
    assert told["column"] == target
    assert main(words) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith(f"first.pt: {target} ")
    torch.save(nn.Linear(3, 4).state_dict(), "other.pt")
    assert main(["evaluate", "run", "other.pt", "--zoo", "mine.h5"]) == 2
    assert "other.pt is of another architecture than mine.h5" in capsys.readouterr().err


def test_few_networks_are_said_to_be_few(mine, capsys):
    assert main([*mine, "target=score", "output=run"]) == 0
    note = "note: 16 networks to learn from, 2 to choose the epoch by, 2 to test on: too few"
    assert note in capsys.readouterr().err


def test_the_mean_of_the_training_networks_stands_beside_the_scores(mine, capsys):
    assert main([*mine, "target=score", "output=run"]) == 0
    zoo = wsl.Zoo("mine.h5")
    train, test = (zoo.split(part).table["score"] for part in ("train", "test"))
    floor = abs(test - train.mean()).mean()
    assert f"mean of all: mean_absolute_error {floor:.4f}" in capsys.readouterr().out
    assert main([*mine, "target=digit", "output=label"]) == 0
    assert "mean of all" not in capsys.readouterr().out


def test_a_handful_of_networks_chooses_the_epoch_by_r2(mine):
    assert main([*mine, "target=score", "output=run"]) == 0
    done = json.loads(Path("run/result.json").read_text())
    assert done["config"]["objective"]["monitor"] == "r2"
    assert set(done["val"]) == {"r2"}
    with pytest.raises(ValueError, match="monitor: 'mae', but kendall_tau or r2 is needed"):
        wsl.training.ScoreRegression("score", monitor="mae")


def test_a_functional_that_is_worse_than_the_mean_says_so_of_a_file(mine, capsys):
    assert main([*mine, "target=score", "output=run"]) == 0
    assert main(["zoo", "export", "mine.h5", "-o", "out", "--rows", "0"]) == 0
    file, done = str(next(Path("out").glob("*.safetensors"))), Path("run/result.json")
    for r2, said in {-4.6: True, 0.5: False}.items():
        told = json.loads(done.read_text())
        done.write_text(json.dumps({**told, "test": {**told["test"], "r2": r2}}))
        capsys.readouterr()
        assert main(["evaluate", "run", file, "--zoo", "mine.h5"]) == 0
        assert (f"has r2 {r2:.2f}: the mean" in capsys.readouterr().err) is said


def test_a_functional_that_reads_columns_says_nothing_of_a_file(mine, capsys):
    assert main([*mine, "target=score", "columns=[digit]", "output=run"]) == 0
    assert main(["evaluate", "run", "x.pt", "--zoo", "mine.h5"]) == 2
    assert "reads columns beside weights, so it says nothing of a file" in capsys.readouterr().err
