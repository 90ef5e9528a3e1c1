"""How every verb speaks: quietly, with more, as one document; what a shell completes; `wsl env`."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import torch
from paths import ROOT
from safetensors.torch import load_file, save_file

from wsl.cli import VERBS, main
from wsl.cli.env import EXTRAS, NEEDED

NETWORK = """
from torch import nn


def net():
    return nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2))
"""


@pytest.fixture
def pair(tmp_path, monkeypatch):
    """Two networks, and the words that name them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "manner_nets.py").write_text(NETWORK)
    from manner_nets import net

    for seed, name in enumerate("ab"):
        torch.manual_seed(seed)
        save_file(net().state_dict(), f"{name}.safetensors")
    return ["a.safetensors", "b.safetensors", "--model", "manner_nets:net", "--input-shape", "1,3"]


def documented(capsys, words):
    """The document that a verb prints, which is all that stdout holds."""
    assert main([*words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_match_gives_a_document(pair, capsys):
    told = documented(capsys, ["match", *pair, "-o", "out.safetensors"])
    assert told["verb"] == "match"
    assert told["config"]["seed"] == 0


def test_an_aligned_checkpoint_is_run_beside_the_original(pair, capsys):
    told = documented(capsys, ["match", *pair, "-o", "out.safetensors"])
    assert 0 <= told["function_error"] < 1e-12
    told = documented(capsys, ["match", *pair, "-o", "out.safetensors", "--no-verify"])
    assert "function_error" not in told


def test_nothing_is_written_if_the_specification_is_wrong(pair, capsys):
    """A specification that moves the outputs, too."""
    Path("wrong.spec").write_text(
        "h = 5, o = 2\n0.weight: h 3\n0.bias: h\n2.weight: o h\n2.bias: o\n"
    )
    words = ["match", *pair, "--spec", "wrong.spec", "-o", "wrong.safetensors"]
    swapped = load_file("a.safetensors")
    swapped = {n: t.flip(0).contiguous() if n.startswith("2.") else t for n, t in swapped.items()}
    save_file(swapped, "b.safetensors")
    assert main(words) == 2
    assert "computes something else" in capsys.readouterr().err
    assert not Path("wrong.safetensors").exists()
    assert main([*words, "--no-verify"]) == 0


def test_check_gives_a_document_or_writes_it(pair, capsys):
    told = documented(capsys, ["check", *pair])
    assert main(["check", *pair, "--json", "out.json"]) == 0
    assert {"verb": "check", **json.loads(Path("out.json").read_text())} == told


def test_check_does_not_write_over_a_checkpoint(pair, capsys):
    before = Path("b.safetensors").read_bytes()
    forgotten = ["check", "a.safetensors", "--json", "b.safetensors", "a.safetensors", *pair[2:]]
    for words in (forgotten, ["check", *pair, "--json", "b.safetensors"]):
        assert main(words) == 2
        assert "holds no JSON" in capsys.readouterr().err
    assert Path("b.safetensors").read_bytes() == before


def test_spec_gives_a_document(pair, capsys):
    told = documented(capsys, ["spec", "manner_nets:net", "--input-shape", "1,3", "--verify"])
    assert told["groups"] == {"h1": 5}
    assert told["verified"] is True
    assert told["error"] < told["tolerance"]


def test_quiet_says_nothing_but_errors(pair, capsys):
    assert main(["spec", "-q", "manner_nets:net", "--input-shape", "1,3"]) == 0
    assert capsys.readouterr() == ("", "")
    assert main(["spec", "-q", "manner_nets:lost", "--input-shape", "1,3"]) == 2
    assert "lost" in capsys.readouterr().err


def test_verbose_says_what_it_took(pair, capsys):
    assert main(["spec", "manner_nets:net", "--input-shape", "1,3", "-v"]) == 0
    said = capsys.readouterr()
    assert "MiB" in said.err
    assert "MiB" not in said.out


def test_an_error_prints_no_document(pair, capsys):
    assert main(["match", "a.safetensors", "nowhere.safetensors", "-o", "x", "--json"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "nowhere.safetensors" in said.err


def test_a_misspelt_verb_is_answered_with_the_nearest(capsys):
    assert main(["mach"]) == 2
    assert "did you mean 'match'?" in capsys.readouterr().err


def test_env_names_versions_and_devices(capsys):
    told = documented(capsys, ["env"])
    assert told["packages"]["torch"] == torch.__version__
    assert "cpu" in told["devices"]


def test_env_knows_every_package_that_counts():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    assert set(NEEDED) == {named(line) for line in project["dependencies"]}
    assert {extra: {*names} for extra, names in EXTRAS.items()} == {
        extra: {named(line) for line in lines} for extra, lines in extras.items()
    }


def named(requirement):
    return re.match(r"[\w-]+", requirement)[0]


def test_env_says_which_extras_are_there(monkeypatch, capsys):
    monkeypatch.setattr("wsl.cli.env.EXTRAS", {"all": ("torch", "no-such-package")})
    assert main(["env"]) == 0
    assert re.search(r"\n  all +torch [\d.]+\S*, no-such-package -\n", capsys.readouterr().out)


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_of_every_verb_ends_with_examples(verb, capsys):
    main([verb, "--help"])
    said = capsys.readouterr().out
    examples = said[said.index("examples:") :].splitlines()[1:]
    assert examples
    assert all(line.startswith("  wsl ") or line == "" for line in examples)


def test_bash_completes_verbs_flags_and_recipes(capsys):
    assert main(["completion", "bash"]) == 0
    script = capsys.readouterr().out

    def completed(line):
        words = line.split(" ")
        ask = (
            f'{script}\nCOMP_WORDS=({" ".join(words)} ""); COMP_CWORD={len(words) - 1}; '
            f'COMP_LINE="{line}"; COMP_POINT=${{#COMP_LINE}}; _wsl; echo "${{COMPREPLY[@]}}"'
        )
        return subprocess.run(
            ["bash", "-c", ask], capture_output=True, text=True, check=True
        ).stdout.split()

    assert completed("wsl mat") == ["match"]
    assert completed("wsl match --outp") == ["--output"]
    assert completed("wsl check --backg") == ["--background"]
    assert completed("wsl train datasets=digits_cnn_") == ["datasets=digits_cnn_bn"]


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_are_told_every_verb(shell, capsys):
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert all(verb in script for verb in VERBS)
    assert "--output" in script


@pytest.mark.parametrize("word", ["--help", "--version"])
def test_what_needs_no_torch_starts_without_it(word):
    code = (
        f"import sys; from wsl.cli import main; main([{word!r}]); "
        "print('torch' in sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "False"
