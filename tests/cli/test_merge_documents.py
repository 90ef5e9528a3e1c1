"""`wsl merge --json`: one document on stdout and all else on stderr, however the merge is run."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from wsl.cli import main

PAIR = ["a.safetensors", "b.safetensors"]
SPEC = "h = 5\n0.weight: h 3\n0.bias: h\n2.weight: 2 h\n2.bias: 2"
YAML = """
merge_method: linear
models:
  - {model: a.safetensors, parameters: {weight: 1}}
  - {model: b.safetensors, parameters: {weight: 3}}
tokenizer_source: union
"""
STREAMED = [*PAIR, "--no-match", "--stream"]
MEMORY = [*PAIR, "--spec", "spec.txt"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shapes = {"0.weight": (5, 3), "0.bias": (5,), "2.weight": (2, 5), "2.bias": (2,)}
    for seed, file in enumerate(PAIR):
        rng = torch.Generator().manual_seed(seed)
        save_file({n: torch.randn(s, generator=rng) for n, s in shapes.items()}, file)
    Path("m.yaml").write_text(YAML)
    Path("spec.txt").write_text(SPEC)
    return tmp_path


def documented(capsys, words):
    """What stdout holds, which must be one document, and what stderr holds."""
    assert main(["merge", *words, "--json"]) == 0
    said = capsys.readouterr()
    assert said.out.count("\n{") == 0
    return json.loads(said.out), said.err


@pytest.mark.parametrize(
    "words", [STREAMED, ["m.yaml"], MEMORY], ids=["streamed", "yaml", "memory"]
)
def test_a_merge_gives_its_result_file_as_the_document(here, words, capsys):
    told, err = documented(capsys, [*words, "-o", "out.safetensors"])
    assert told == json.loads(Path("out.result.json").read_text())
    assert told["verb"] == "merge"
    assert "out.safetensors: " in err
    assert (NOTE in err) == (words == ["m.yaml"])


NOTE = "note: tokenizer_source is about text"


@pytest.mark.parametrize("words", [STREAMED, ["m.yaml"]], ids=["streamed", "yaml"])
def test_a_plan_is_a_document_that_names_every_tensor_and_counts_bytes(here, words, capsys):
    before = sorted(here.iterdir())
    told, err = documented(capsys, [*words, "--dry-run", "-o", "out.safetensors"])
    assert sorted(here.iterdir()) == before
    plan = told["plan"]
    assert plan["members"] == PAIR
    assert (plan["base"], plan["in_memory"]) == (None, False)
    named = [name for way in plan["ways"] for name in way["tensors"]]
    assert sorted(named) == ["0.bias", "0.weight", "2.bias", "2.weight"]
    assert (plan["read"], plan["written"]) == (2 * 4 * 32, 4 * 32)
    assert "members   2, as they are: a.safetensors, b.safetensors" in err


def test_a_plan_in_memory_is_a_document_too(here, capsys):
    before = sorted(here.iterdir())
    told, err = documented(capsys, [*MEMORY, "--dry-run", "-o", "out.safetensors"])
    assert sorted(here.iterdir()) == before
    read = sum(Path(file).stat().st_size for file in PAIR)
    assert told["plan"]["in_memory"] is True
    assert told["plan"]["aligned_to"] == "a.safetensors"
    assert 2 * 4 * 32 <= told["plan"]["read"] <= read
    assert "nothing is written" in err


def test_an_error_of_a_streamed_merge_or_a_yaml_prints_no_document(here, capsys):
    Path("m.yaml").write_text(YAML.replace("b.safetensors", "lost.safetensors"))
    for words in ([*STREAMED, "--repair"], ["m.yaml"]):
        assert main(["merge", *words, "-o", "out.safetensors", "--json"]) == 2
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err.count("wsl merge: ") == 1
