"""`wsl generate` and `wsl init-compare` on a zoo of the user's own networks and data."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import wsl
from wsl import params
from wsl.cli import main
from wsl.cli.served import good_members
from wsl.generative import TrainingMembers
from wsl.zoo import read_checkpoint

CODE = """
from torch import nn

def network(width=6):
    layers = [nn.Linear(4, width), nn.ReLU(), nn.Linear(width, 2)]
    return nn.Sequential(*layers)
"""
OWN = ["zoo=own.h5", "model=own_networks:network", "data=own.npz"]
QUICK = ["fit.code_steps=2", "fit.steps=2", "trial.steps=2", "trial.lrs=[0.01]", "samples=2"]


def network():
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Twenty networks that no recipe describes, and sixty examples that they were never told."""
    monkeypatch.chdir(tmp_path)
    Path("own_networks.py").write_text(CODE)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((60, 4)).astype("f4")
    np.savez("own.npz", x=x, y=(x[:, 0] > 0).astype("i8"))
    torch.manual_seed(0)
    models = [network() for _ in range(20)]
    wsl.Zoo.from_models("own.h5", models, spec=wsl.permutation_spec(models[0], torch.randn(2, 4)))
    return tmp_path


def test_networks_are_generated_for_a_zoo_and_data_of_ones_own(own, capsys):
    assert main(["generate", "models=weight_diffusion", *OWN, *QUICK, "output=run"]) == 0
    done = json.loads(Path("run/result.json").read_text())
    assert 0 <= done["scores"]["accuracy_as_drawn"] <= 1
    assert set(done["inputs"]) == {"zoo", "data"}
    theta, about = read_checkpoint("run/sample-00.safetensors")
    params.call(network(), theta, torch.zeros(1, 4))
    assert "architecture" not in about
    capsys.readouterr()
    assert main(["generate", "--from", "run", "--condition", "0.9", "-n", "1", "-o", "more"]) == 0
    read_checkpoint("more/sample-00.safetensors")


def test_a_recipe_of_more_components_than_members_takes_fewer_and_says_so(own, capsys):
    words = ["models=flow_matching", "generator.units=false", *OWN, *QUICK, "output=run"]
    assert main(["generate", *words]) == 0
    assert "generator.latent: 12 in place of 400, of 16 networks" in capsys.readouterr().err
    assert main(["generate", *words, "generator.latent=14", "output=other"]) == 0
    assert "in place of" not in capsys.readouterr().err


def test_arms_mix_several_members_of_a_small_zoo():
    weights = {"w": torch.arange(20.0)[:, None]}
    members = TrainingMembers(weights, torch.arange(20.0)[:, None])
    assert len(good_members(members, 0.95)["w"]) == 16
    assert len(good_members(members, 0.1)["w"]) == 18
    few = TrainingMembers(members.rows(torch.arange(3)), torch.arange(3.0)[:, None])
    assert len(good_members(few, 0.95)["w"]) == 3


def test_starts_are_compared_on_a_zoo_and_data_of_ones_own(own):
    quick = ["starts=[default_init,mean]", "steps=2", "lrs=[0.01]", "seeds=1", "points=1"]
    assert main(["init-compare", *OWN, *quick, "output=starts"]) == 0
    assert list(Path("starts").iterdir())


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (OWN[:2], "choose a recipe: datasets=NAME"),
        ([OWN[0], OWN[2]], "does not say how its networks are built; add model="),
        ([*OWN[:2], "data=missing.npz"], "missing.npz: no such file or folder"),
        ([*OWN, "kwargs={width: 5}"], "model=own_networks:network is not the network of"),
    ],
)
def test_what_is_missing_is_said_in_one_line(own, capsys, words, told):
    assert main(["generate", "models=weight_diffusion", *words, *QUICK]) == 2
    line = capsys.readouterr().err
    assert told in line
    assert line.count("\n") == 1
    assert not Path("runs").exists()
