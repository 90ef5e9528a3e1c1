"""Trained functionals that come with the package."""

import hashlib
import json

import pytest
import torch

from wsl import Permutation
from wsl.populations import build_architecture, digits, initial_population
from wsl.symmetry import SpecError
from wsl.training import PRETRAINED, pretrained, shipped


@pytest.mark.parametrize("name", PRETRAINED)
def test_it_loads_and_is_invariant(name):
    found = pretrained(name)
    params = initial_population(lambda: build_architecture(found.about["architecture"]), range(3))
    said = found.predict(params)
    moved = Permutation.random(found.spec, torch.Generator().manual_seed(0))(params)
    torch.testing.assert_close(found.predict(moved), said, rtol=1e-4, atol=1e-5)
    one = {name: tensor[1] for name, tensor in params.items()}
    torch.testing.assert_close(found.predict(one), said[1])


@pytest.mark.parametrize("name", PRETRAINED)
def test_it_is_small_and_says_what_it_is(name):
    folder = shipped.load._HERE / name
    assert (folder / "network.safetensors").stat().st_size < 2 << 20
    assert (folder / "CARD.md").read_text().startswith(f"# {name}")
    assert {"licence", "trained_on", "test", "sha256"} <= pretrained(name).about.keys()


def test_it_tells_an_untrained_network_from_a_trained_one():
    found, data = pretrained("digits_cnn_unf"), digits()
    model = build_architecture(found.about["architecture"])
    torch.manual_seed(0)
    images, labels = data.train
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    before = found.predict(dict(model.state_dict()))
    for _ in range(60):
        rows = torch.randint(len(images), (64,))
        loss = torch.nn.functional.cross_entropy(model(images[rows]), labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert before < 0.3
    assert found.predict(dict(model.state_dict())) > 0.6


def test_the_reader_of_fields_does_not_see_signs_that_a_sine_does_not_see():
    found = pretrained("mnist_inr_scalegmn")
    params = initial_population(lambda: build_architecture(found.about["architecture"]), range(3))
    outputs = found.network(params)
    flip = torch.where(torch.rand(32, generator=torch.Generator().manual_seed(0)) < 0.5, -1.0, 1.0)
    turned = {
        **params,
        "layers.0.weight": params["layers.0.weight"] * flip[:, None],
        "layers.0.bias": params["layers.0.bias"] * flip,
        "layers.1.weight": params["layers.1.weight"] * flip,
    }
    torch.testing.assert_close(found.network(turned), outputs, rtol=1e-4, atol=1e-5)
    wrong = {**params, "layers.1.weight": params["layers.1.weight"] * flip}
    assert not torch.allclose(found.network(wrong), outputs, rtol=1e-2)


def test_what_is_wrong_is_said(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="did you mean 'digits_cnn_unf'"):
        pretrained("digits_cnn_uf")
    with pytest.raises(SpecError):
        pretrained("digits_cnn_unf").predict({"0.weight": torch.zeros(3, 2)})
    folder = tmp_path / "digits_cnn_unf"
    folder.mkdir()
    content = b"nothing"
    about = {"sha256": hashlib.sha256(b"something").hexdigest()}
    (folder / "about.json").write_text(json.dumps(about))
    (folder / "network.safetensors").write_bytes(content)
    monkeypatch.setattr(shipped.load, "_HERE", tmp_path)
    with pytest.raises(ValueError, match="damaged"):
        pretrained("digits_cnn_unf")
