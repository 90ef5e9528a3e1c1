"""``wsl check`` on files as users have them: one screen, one JSON, and no file is too strange."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from paths import ROOT
from torch import nn

import wsl
from wsl import params
from wsl.cli import main
from wsl.symmetry import Permutation
from wsl.zoo import Zoo

NETS = """
from torch import nn
def net(out=4):
    return nn.Sequential(nn.Linear(12, 40), nn.ReLU(), nn.Linear(40, 30), nn.ReLU(),
                         nn.Linear(30, out))
def normed():
    return nn.Sequential(nn.Linear(12, 40), nn.BatchNorm1d(40), nn.ReLU(), nn.Linear(40, 4))
def score(network):
    return {"loss": float(network[0].weight.square().mean()), "accuracy": 0.5}
"""
MODEL = ["--model", "checked_nets:net", "--input-shape", "2,12"]


def network(seed, out=4):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Linear(12, 40), nn.ReLU(), nn.Linear(40, 30), nn.ReLU(), nn.Linear(30, out)
    )


def weights(seed, out=4):
    return params.from_module(network(seed, out))


def tuned(theta, scale=0.02, seed=9):
    rng = torch.Generator().manual_seed(seed)
    return {n: t + scale * torch.randn(t.shape, generator=rng) for n, t in theta.items()}


@pytest.fixture(scope="module")
def spec():
    return wsl.permutation_spec(network(0), torch.zeros(2, 12))


@pytest.fixture
def folder(tmp_path, monkeypatch, spec):
    monkeypatch.chdir(tmp_path)
    Path("checked_nets.py").write_text(NETS)
    base = weights(0)
    one, two = tuned(base, seed=1), tuned(base, seed=2)
    hidden = Permutation.random(spec, torch.Generator().manual_seed(3))
    files = {
        "base": base,
        "tuned": one,
        "other": weights(1),
        "hidden": hidden(one),
        "exact": hidden(base),
        "second": two,
        "merged": {n: 0.3 * one[n] + 0.7 * two[n] for n in base},
        "half": {n: t.half() for n, t in base.items()},
        "head": {**tuned(base), **{n: t for n, t in weights(5, 7).items() if n[0] == "4"}},
        "alien": params.from_module(nn.Linear(3, 5)),
        "lowrank": {**base, "2.weight": base["2.weight"] + torch.ones(30, 1) @ torch.ones(1, 40)},
    }
    for name, theta in files.items():
        torch.save(theta, f"{name}.pt")
    return tmp_path


def screen(capsys, *words, code=0):
    """What is printed, and the JSON."""
    assert main(["check", *words, "--json", "out.json"]) == code, capsys.readouterr().err
    return capsys.readouterr().out, json.loads(Path("out.json").read_text())


@pytest.mark.parametrize(
    ("b", "verdict", "told"),
    [
        ("base", "same", "origin        the same weights"),
        ("half", "same", "5 cast|6 cast"),
        ("tuned", "common origin", "consistent with a common origin: 70 of 70 units in the same"),
        ("other", "none", "no sign of a common origin"),
        ("exact", "reordered", "consistent with a common origin, units in another order: 100%"),
        ("lowrank", "equal entries", "low rank: 1 matrices differ by rank 1"),
    ],
)
def test_the_screen_says_what_the_weights_are_consistent_with(folder, capsys, b, verdict, told):
    out, found = screen(capsys, "base.pt", f"{b}.pt", *MODEL)
    assert found["pairs"][0]["verdict"] == verdict
    assert any(part in out for part in told.split("|")), out
    assert "copied" not in out
    assert "not seen: distillation" in out
    assert len(out.splitlines()) < 24


def test_a_reordered_fine_tune_is_found_against_a_background_of_files_or_a_zoo(
    folder, capsys, spec
):
    out, found = screen(capsys, "base.pt", "hidden.pt", *MODEL)
    assert found["pairs"][0]["verdict"] == "none"
    assert "judge this by --background" in out
    strangers = [network(seed) for seed in range(20, 39)]
    Zoo.from_models("zoo.h5", strangers, spec=spec, metadata={"accuracy": [0.5] * 19})
    out, found = screen(capsys, "base.pt", "hidden.pt", *MODEL, "--background", "zoo.h5")
    assert found["pairs"][0]["verdict"] == "alike"
    assert found["pairs"][0]["background"]["p"] == 0.05
    assert "p = 0.05 against 19 unrelated pairs" in out
    _, found = screen(capsys, "base.pt", "hidden.pt", *MODEL, "--background", "other.pt")
    assert found["pairs"][0]["background"]["p"] == 0.5


def test_alignment_and_what_merging_needs(folder, capsys):
    out, found = screen(capsys, "base.pt", "tuned.pt", *MODEL)
    assert "already aligned" in out
    assert found["needs"] == ["no alignment: wsl merge --no-match"]
    out, found = screen(capsys, "base.pt", "exact.pt", *MODEL)
    assert "not aligned: 9" in out or "not aligned: 100%" in out
    assert found["pairs"][0]["alignment"]["cosine_after"] == pytest.approx(1)
    assert found["needs"] == ["alignment first: wsl merge aligns to the first file"]
    out, found = screen(capsys, "base.pt", "other.pt", *MODEL, "--no-match")
    assert found["pairs"][0]["alignment"] is None
    assert "stand still: output (2 axes)" in out


def test_batch_norm_statistics_are_named(folder, capsys):
    for name in "xy":
        torch.save(
            nn.Sequential(
                nn.Linear(12, 40), nn.BatchNorm1d(40), nn.ReLU(), nn.Linear(40, 4)
            ).state_dict(),
            f"{name}.pt",
        )
    out, _ = screen(
        capsys, "x.pt", "y.pt", "--model", "checked_nets:normed", "--input-shape", "2,12"
    )
    assert "batch-norm statistics measured anew" in out


def test_the_barrier_to_expect_is_that_of_the_data(folder, capsys):
    rng = np.random.default_rng(0)
    np.savez("data.npz", inputs=rng.normal(size=(30, 12)).astype("f4"), labels=np.arange(30) % 4)
    words = ["base.pt", "exact.pt", *MODEL]
    out, found = screen(capsys, *words, "--data", "data.npz")
    scores = found["expected"]
    assert scores["half way, aligned"]["loss"] == pytest.approx(scores["a"]["loss"], abs=1e-5)
    ends = (scores["a"]["loss"] + scores["b"]["loss"]) / 2
    assert found["barriers"]["half way"] == pytest.approx(scores["half way"]["loss"] - ends)
    assert found["barriers"]["half way, aligned"] == pytest.approx(0, abs=1e-5)
    assert "expect        a: loss" in out
    _, found = screen(capsys, *words, "--evaluate", "checked_nets:score")
    assert found["expected"]["a"]["accuracy"] == 0.5


def test_different_architectures_are_told_apart_and_are_no_error(folder, capsys):
    out, found = screen(capsys, "base.pt", "alien.pt", *MODEL)
    assert "architecture  different" in out
    assert "only in the first: 0.weight" in out
    assert "one architecture: alien.pt cannot take part" in out
    assert found["misfits"].keys() == {"alien.pt"}
    assert not found["pairs"][0]["same_architecture"]


def test_a_new_head_does_not_hide_a_common_origin(folder, capsys):
    out, found = screen(capsys, "base.pt", "head.pt", *MODEL)
    assert "4.weight: 4 x 30 and 7 x 30" in out
    assert found["pairs"][0]["verdict"] == "common origin"
    assert found["pairs"][0]["common_origin"]["fixed"] == 70


def test_without_a_network_tensors_are_compared(folder, capsys):
    out, found = screen(capsys, "base.pt", "tuned.pt")
    assert "6 changed" in out
    assert "merging needs a specification" in out
    assert found["symmetry"] is None
    out, _ = screen(capsys, "base.pt", "base.pt")
    assert "the same weights" in out


def test_more_files_give_families_a_tree_and_the_recipe_of_a_merge(folder, capsys):
    files = ["tuned.pt", "other.pt", "second.pt", "merged.pt"]
    out, found = screen(capsys, *files, *MODEL)
    assert [family["members"] for family in found["families"]] == [[0, 2, 3], [1]]
    assert sorted(found["families"][0]["parents"], key=str) != [None] * 3
    assert "D is consistent with a merge, 0.30 A + 0.70 C" in out
    called = {each["of"]: each for each in found["recipes"] if each["called"]}
    assert list(called) == [3]
    assert called[3]["weights"] == pytest.approx([0.3, 0, 0.7], abs=1e-4)
    assert "A, B          no sign" in out
    assert "direction by kurtosis alone" in out


def test_a_merge_whose_parents_were_reordered_is_found_after_alignment(folder, capsys, spec):
    hidden = Permutation.random(spec, torch.Generator().manual_seed(7))
    torch.save(hidden(torch.load("second.pt")), "second.pt")
    out, _ = screen(capsys, "tuned.pt", "second.pt", "merged.pt", *MODEL)
    assert "C is consistent with a merge after alignment, 0.30 A + 0.70 B" in out


def test_one_of_three_that_does_not_fit_leaves_the_others(folder, capsys):
    out, found = screen(capsys, "base.pt", "alien.pt", "tuned.pt", *MODEL)
    assert "A, B          different: 8 tensors only in one" in out
    assert "A, C          consistent with a common origin" in out
    assert [family["members"] for family in found["families"]] == [[0, 2]]


def test_the_same_check_gives_the_same_bytes(folder, capsys):
    first, _ = screen(capsys, "base.pt", "other.pt", *MODEL)
    content = Path("out.json").read_bytes()
    assert screen(capsys, "base.pt", "other.pt", *MODEL)[0] == first
    assert Path("out.json").read_bytes() == content


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["base.pt", "gone.pt"], "gone.pt"),
        (["alien.pt", "base.pt", *MODEL], "alien.pt does not fit"),
        (["base.pt", "tuned.pt", "--model", "checked_nets:nothing"], "checked_nets:nothing"),
        (["base.pt", "nan.pt", *MODEL], "nan.pt: 0.bias holds NaN"),
        (["base.pt", "tuned.pt", "--no-match", "--background", "other.pt"], "leave out --no-match"),
        (["base.pt", "tuned.pt", *MODEL, "--background", "alien.pt"], "--background alien.pt"),
        (
            ["base.pt", "alien.pt", *MODEL, "--evaluate", "checked_nets:score"],
            "two files of one network",
        ),
        (["base.pt", "tuned.pt", *MODEL, "--matcher", "wieght"], "wieght"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(folder, capsys, words, message):
    theta = weights(0)
    theta["0.bias"][0] = float("nan")
    torch.save(theta, "nan.pt")
    assert main(["check", *words]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err.splitlines()[-1]
    assert err.splitlines()[-1].startswith("wsl check: ")


def test_every_flag_that_the_page_names_exists(capsys):
    page = (ROOT / "docs" / "origin.md").read_text().partition("## Measured")[0]
    assert main(["check", "--help"]) == 0
    known = set(re.findall(r"--[a-z][a-z-]+", capsys.readouterr().out))
    assert set(re.findall(r"(?<=[\s`])--[a-z][a-z-]+", page)) <= known
