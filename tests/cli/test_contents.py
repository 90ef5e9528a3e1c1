"""`wsl zoo info` on any checkpoint: everything in it is named."""

import json

import pytest
import torch

from wsl.cli import main
from wsl.cli.contents import describe, is_zoo
from wsl.zoo import ZooError


def weights(seed=0):
    torch.manual_seed(seed)
    return {"a.weight": torch.randn(3, 2), "a.bias": torch.randn(3).half()}


def test_sets_shapes_types_and_metadata_are_listed(tmp_path, capsys):
    nest = {"epoch": 7, "model": weights(), "model_ema": weights(1), "optimizer": {"state": {1: 2}}}
    torch.save(nest, tmp_path / "x.pt")
    assert main(["zoo", "info", str(tmp_path / "x.pt")]) == 0
    said = capsys.readouterr().out
    for words in (
        "weights, --entry model: 2 tensors (1 float32, 1 float16), 9 values",
        "weights, --entry model_ema",
        "a.weight: 3 x 2 float32",
        "epoch = 7",
        "not read: optimizer",
        "model is read, model_ema not",
    ):
        assert words in said, words


def test_a_choice_that_is_open_is_said(tmp_path):
    torch.save({"generator": weights(), "discriminator": weights(1)}, tmp_path / "gan.pt")
    said = "\n".join(describe(tmp_path / "gan.pt"))
    assert "several sets of weights; choose one with --entry NAME" in said


def test_long_lists_are_cut(tmp_path):
    torch.save({f"w{i:03d}": torch.zeros(1, 1) for i in range(90)}, tmp_path / "long.pt")
    said = list(describe(tmp_path / "long.pt"))
    assert len(said) < 60
    assert any("and 50 more" in line for line in said)


def test_what_is_neither_is_one_clear_line(tmp_path, capsys):
    (tmp_path / "x.json").write_text(json.dumps({}))
    assert not is_zoo(tmp_path / "x.json")
    assert main(["zoo", "info", str(tmp_path / "x.json")]) == 2
    assert "x.json: is not a readable" in capsys.readouterr().err
    torch.save({"epoch": 3}, tmp_path / "none.pt")
    with pytest.raises(ZooError, match="holds no weights"):
        list(describe(tmp_path / "none.pt"))
