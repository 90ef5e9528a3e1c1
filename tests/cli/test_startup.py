"""What starts: help and version without torch, file verbs without Hydra and matplotlib."""

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ["hydra", "omegaconf", "matplotlib", "plotly", "sklearn", "torch_geometric", "diffusers"]
FILE_VERBS = ["zoo", "evaluate", "spec", "check", "match", "connect", "merge"]
CODE = """
import contextlib, io, sys
from wsl.cli import main
with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
    code = main({words})
assert code == {code}, code
print(" ".join(name for name in {modules} if name in sys.modules))
"""


def imported(words, modules, code=0):
    """Which of ``modules`` a command has imported when it ends."""
    done = subprocess.run(
        [sys.executable, "-c", CODE.format(words=words, modules=modules, code=code)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize("word", ["--help", "-h", "--version"])
def test_help_and_version_are_told_without_torch(word):
    assert imported([word], ["torch", "numpy", "tqdm", *HEAVY]) == []


def test_the_version_is_that_of_the_package():
    done = subprocess.run(
        [sys.executable, "-m", "wsl", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout == "wsl 0.1.0\n"


@pytest.mark.parametrize("verb", FILE_VERBS)
def test_the_help_of_a_file_verb_needs_neither_hydra_nor_matplotlib(verb):
    assert imported([verb, "--help"], HEAVY) == []


@pytest.mark.parametrize(
    "words",
    [
        ["zoo", "verify", "{}/members.h5"],
        ["zoo", "info", "{}/members.h5"],
        ["zoo", "export", "{}/members.h5", "--rows", "0", "-o", "{}/again"],
        ["match", "{}/out/a.safetensors", "{}/out/b.safetensors", "-o", "{}/matched.safetensors"],
        ["merge", "{}/out/a.safetensors", "{}/out/b.safetensors", "-o", "{}/merged.safetensors"],
    ],
    ids=lambda words: " ".join(words[:2]) if words[0] == "zoo" else words[0],
)
def test_a_file_verb_at_work_needs_neither(files, words):
    assert imported([word.format(files) for word in words], HEAVY) == []


def test_a_verb_that_draws_or_composes_imports_what_it_needs():
    """The test above could not fail if these names were not those that are imported."""
    words = ["train", "models=unf", "datasets=digits_cnn", "seeed=1"]
    assert imported(words, ["hydra"], code=2) == ["hydra"]


def test_the_package_opens_its_rooms_on_first_use():
    code = "import sys, wsl; print('torch' in sys.modules, wsl.params.__name__, wsl.Params)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("False wsl.params dict[str, ")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A zoo file of two tiny networks, and each as a checkpoint with its specification."""
    folder = Path(tmp_path_factory.mktemp("files"))
    code = f"""
import torch, wsl
from pathlib import Path
from wsl.zoo import write_checkpoint
models = [torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
          for _ in range(10)]
spec = wsl.permutation_spec(models[0], torch.randn(1, 3))
wsl.Zoo.from_models("{folder}/members.h5", models, spec=spec, metadata={{}})
Path("{folder}/out").mkdir()
for name, model in zip("ab", models):
    theta = wsl.params.from_module(model)
    write_checkpoint(f"{folder}/out/{{name}}.safetensors", theta, {{"spec": str(spec)}})
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    return folder
