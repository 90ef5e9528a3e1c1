"""The README's three snippets run as they stand, on small data."""

import re
from pathlib import Path

import pytest
import torch

import wsl
from wsl import params

README = (Path(__file__).parent.parent / "README.md").read_text()
SNIPPETS = dict(re.findall(r"<!-- snippet: (\w+) -->\n```python\n(.*?)```", README, re.DOTALL))


@pytest.fixture(scope="module")
def models():
    torch.manual_seed(0)
    return [
        torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
        for _ in range(40)
    ]


@pytest.fixture(scope="module")
def spec(models):
    return wsl.permutation_spec(models[0], torch.randn(2, 3))


def test_there_are_three():
    assert sorted(SNIPPETS) == ["generate", "merge", "train"]


def test_train(models, spec, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("runs/zoos").mkdir(parents=True)
    scores = torch.linspace(0, 1, len(models)).tolist()
    wsl.Zoo.from_models(
        "runs/zoos/digits_cnn.h5", models, spec=spec, metadata={"test_accuracy": scores}
    )
    space = {"wsl": wsl}
    exec(SNIPPETS["train"], space)
    theta, _ = space["zoo"][0]
    batch = {name: tensor.unsqueeze(0) for name, tensor in theta.items()}
    assert space["network"](batch).shape == (1, 1)


def test_merge(models, spec):
    model, x = models[0], torch.randn(5, 3)
    a = params.from_module(model)
    hidden = wsl.Permutation.random(spec, torch.Generator().manual_seed(1))
    space = {"wsl": wsl, "model": model, "x": x, "a": a, "b": hidden(a)}
    exec(SNIPPETS["merge"], space)
    assert space["found"].permutation == ~hidden
    torch.testing.assert_close(params.call(model, space["merged"], x), model(x))


def test_generate(models, spec):
    weights = params.stack([params.from_module(model) for model in models])
    zoo = type("Opened", (), {"spec": spec})
    space = {
        "wsl": wsl,
        "torch": torch,
        "zoo": zoo,
        "weights": weights,
        "accuracy": torch.linspace(0.5, 1, len(models)),
    }
    exec(SNIPPETS["generate"], space)
    assert {name: t.shape for name, t in space["weights"].items()} == {
        n: (16, *s) for n, s in spec.shapes.items()
    }
