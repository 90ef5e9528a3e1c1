"""`wsl merge` tensor by tensor: the tensors of a merge in memory, after a kill too; mergekit's YAML
as a command; plans that write nothing; errors on one line.
"""

import json
import os
import signal
import subprocess
import sys

import pytest
import safetensors.torch
import torch
from laws.methods import weights

from wsl.cli import main
from wsl.merging import METHODS, average
from wsl.merging.mergekit import MergekitMerge, parse

SPEC = (
    "h = 5\n0.weight: h 3\n0.bias: h\nbn.running_mean: h\nbn.running_var: h\n"
    "2.weight: 2 h\n2.bias: 2\nsteps:"
)
SHARDS = [f"model-0000{i}-of-00003.safetensors" for i in (1, 2, 3)]
INDEX = "model.safetensors.index.json"
WORDS = ["--no-match", "--spec", "spec.txt"]
FOLDERS = ["A", "B", "C"]
DARE = ["--method", "dare: {density: 0.5, seed: 3}", "--base", "BASE"]
NOTE = "note: tokenizer_source is about text and has no effect on weights\n"
YAML = """
merge_method: dare_ties
base_model: BASE
models:
  - {model: A, parameters: {weight: 1, density: 0.5}}
  - {model: B, parameters: {weight: 0.5, density: 0.7}}
dtype: bfloat16
tokenizer_source: union
"""


def write_folder(folder, theta, shards=SHARDS):
    folder.mkdir()
    names = list(theta)
    inside = {name: shards[i * len(shards) // len(names)] for i, name in enumerate(names)}
    for shard in shards:
        tensors = {n: theta[n] for n in names if inside[n] == shard}
        safetensors.torch.save_file(tensors, folder / shard, {"format": "pt"})
    index = {"metadata": {"total_size": 1}, "weight_map": inside}
    (folder / INDEX).write_text(json.dumps(index))
    (folder / "tokenizer.json").write_text("{}")


def read_folder(folder):
    return {n: t for f in folder.glob("*.safetensors") for n, t in read(f).items()}


def read(file):
    return safetensors.torch.load_file(file)


def content(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def equal(a, b):
    return a.keys() == b.keys() and all(
        torch.equal(a[n], b[n]) and a[n].dtype == b[n].dtype for n in a
    )


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Three sharded members, one of them in other shards, and their base."""
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(FOLDERS):
        write_folder(tmp_path / name, weights(seed), SHARDS[: 2 if name == "B" else 3])
    write_folder(tmp_path / "BASE", weights(99))
    (tmp_path / "spec.txt").write_text(SPEC)
    (tmp_path / "m.yaml").write_text(YAML)
    return tmp_path


@pytest.mark.parametrize(
    "more",
    [
        FOLDERS,
        ["A", "B", "-t", "0.3"],
        ["A", "B", "-t", "1"],
        [*FOLDERS, *DARE],
        [*FOLDERS, "--method", "ties: {unit: tensor}", "--base", "BASE"],
        [*FOLDERS, "--method", "karcher"],
    ],
    ids=" ".join,
)
def test_the_tensors_are_those_of_the_merge_in_memory(here, more):
    words = ["merge", *more, *WORDS, "-o"]
    assert main([*words, "memory", "--no-stream"]) == 0
    for threads in ("1", "3"):
        assert main([*words, f"out{threads}", "--stream", "--threads", threads]) == 0
    assert equal(read_folder(here / "out1"), read(here / "memory" / "model.safetensors"))
    assert content(here / "out1") == content(here / "out3")
    told, same = (
        json.loads((here / f / "wsl.result.json").read_text()) for f in ("out1", "memory")
    )
    assert told["config"] == same["config"]
    assert told["inputs"].items() >= same["inputs"].items()


def test_shards_and_what_lies_beside_are_those_of_a(here):
    assert main(["merge", *FOLDERS, *WORDS, "-o", "out", "--stream"]) == 0
    names = {f.name for f in (here / "out").iterdir()}
    assert names == {*SHARDS, INDEX, "tokenizer.json", "wsl.result.json"}
    for shard in SHARDS:
        ours, theirs = read(here / "out" / shard), read(here / "A" / shard)
        assert {n: (t.dtype, t.shape) for n, t in ours.items()} == {
            n: (t.dtype, t.shape) for n, t in theirs.items()
        }
    index = json.loads((here / "out" / INDEX).read_text())
    assert index["weight_map"] == json.loads((here / "A" / INDEX).read_text())["weight_map"]
    assert index["metadata"]["total_size"] == sum(t.nbytes for t in weights(0).values())
    assert main(["merge", *FOLDERS, *WORDS, "-o", "one.safetensors", "--stream"]) == 0
    assert equal(read(here / "one.safetensors"), read_folder(here / "out"))
    with safetensors.safe_open(here / "one.safetensors", framework="pt") as file:
        assert json.loads(file.metadata()["wsl_merge"])["inputs"] == {"a": "A", "b": "B", "c": "C"}
    assert not list(here.glob(".*"))


def test_large_files_are_streamed_without_a_flag(here, monkeypatch, capsys):
    monkeypatch.setattr("wsl.cli.merge_streamed.LARGE", 100)
    assert main(["merge", *FOLDERS, "--no-match", "-o", "out"]) == 0
    assert "tensor by tensor" in capsys.readouterr().out
    for more in (["--method", "ties", "--base", "BASE"], ["--no-stream"]):
        assert main(["merge", *FOLDERS, *WORDS, "-o", "memory", *more]) == 0
        assert "tensor by tensor" not in capsys.readouterr().out


def killed(words):
    """The command, killed by the system after its second file."""
    code = (
        "import os, signal, sys\n"
        "from wsl.cli import main\nfrom wsl.matching import large\n"
        "done = large.Journal.finished\n"
        "def dying(self, file, digest):\n"
        "    done(self, file, digest)\n"
        "    len(self.done) == 2 and os.kill(os.getpid(), signal.SIGKILL)\n"
        "large.Journal.finished = dying\n"
        "main(sys.argv[1:])\n"
    )
    run = subprocess.run([sys.executable, "-c", code, *words], check=False, env=os.environ)
    assert run.returncode == -signal.SIGKILL


@pytest.mark.parametrize(
    "words", [["merge", *FOLDERS, *WORDS, *DARE, "--stream"], ["merge", "m.yaml"]], ids=["", "yaml"]
)
def test_a_killed_merge_is_taken_up_again_with_equal_bytes(here, words, capsys):
    assert main([*words, "-o", "whole"]) == 0
    killed([*words, "-o", "out"])
    assert sorted(f.name for f in (here / "out").glob("*.safetensors")) == SHARDS[:2]
    assert not (here / "out" / INDEX).exists()
    before = (here / "out" / SHARDS[0]).stat().st_mtime_ns
    assert main([*words, "-o", "out"]) == 0
    assert "taken up again, 2 files are written" in capsys.readouterr().err
    assert (here / "out" / SHARDS[0]).stat().st_mtime_ns == before
    assert content(here / "out") == content(here / "whole")


def test_what_was_written_for_other_inputs_is_not_taken_for_done(here, capsys):
    words = ["merge", *FOLDERS, *WORDS, "--stream"]
    killed([*words, "-o", "out"])
    shard = here / "B" / SHARDS[0]
    safetensors.torch.save_file({n: t * 2 for n, t in read(shard).items()}, shard)
    assert main([*words, "-o", "out"]) == 0
    assert "taken up again" not in capsys.readouterr().err
    assert main([*words, "-o", "anew"]) == 0
    assert content(here / "out") == content(here / "anew")


def test_a_yaml_is_merged_as_it_says(here, capsys):
    assert main(["merge", "m.yaml", "-o", "out"]) == 0
    err = capsys.readouterr().err
    assert err == NOTE
    expected = MergekitMerge(parse(YAML)).solve([weights(0), weights(1)], base=weights(99))
    assert equal(read_folder(here / "out"), expected)
    assert (here / "out" / "tokenizer.json").exists()
    told = json.loads((here / "out" / "wsl.result.json").read_text())
    assert told["config"] == {"config": YAML}
    assert set(told["inputs"]) == {"config", "A", "B", "BASE"}


def test_models_of_a_yaml_lie_beside_it_and_may_be_of_other_formats(here, monkeypatch):
    torch.save(weights(1), here / "b.pt")
    text = "merge_method: linear\nmodels:\n"
    text += "".join(f"  - {{model: {m}, parameters: {{weight: 1}}}}\n" for m in ("A", "b.pt"))
    (here / "mean.yml").write_text(text)
    (here / "elsewhere").mkdir()
    monkeypatch.chdir(here / "elsewhere")
    assert main(["merge", "../mean.yml", "-o", "mean.safetensors"]) == 0
    assert equal(read(here / "elsewhere" / "mean.safetensors"), average([weights(0), weights(1)]))


def test_layers_put_together_are_written_to_new_files(here):
    theta = {f"layers.{i}.w": torch.full((2, 2), float(i)) for i in range(3)}
    write_folder(here / "D", theta)
    source = "  - sources:\n      - {{model: D, layer_range: [{}, {}]}}\n"
    text = "merge_method: passthrough\nslices:\n" + source.format(0, 2) + source.format(1, 3)
    (here / "stack.yaml").write_text(text)
    assert main(["merge", "stack.yaml", "-o", "out"]) == 0
    found = read(here / "out" / "model.safetensors")
    assert [int(found[f"layers.{i}.w"][0, 0]) for i in range(4)] == [0, 1, 1, 2]
    assert not (here / "out" / INDEX).exists()


def test_a_dry_run_prints_the_plan_and_writes_nothing(here, capsys):
    before = sorted(str(f) for f in here.rglob("*"))
    assert main(["merge", "m.yaml", "--dry-run"]) == 0
    plan = capsys.readouterr().out
    size = sum(t.nbytes for t in weights(0).values())
    assert "members   2, as they are: A, B\nbase      BASE\n" in plan
    assert "DARE(density=[0.5, 0.7]" in plan
    assert " of 2 and the base, bfloat16  (" in plan
    assert "    2  mean of 2, bfloat16  (bn.running_" in plan
    assert "    1  of the first member, int64  (steps)" in plan
    assert f"read      {3 * size / 1e6:.1f} MB" in plan
    assert "memory    about" in plan
    assert main(["merge", *FOLDERS, *WORDS, *DARE, "--stream", "--dry-run", "-o", "out"]) == 0
    assert "members   3, as they are: A, B, C\nbase      BASE\n" in capsys.readouterr().out
    assert main(["merge", *FOLDERS, *DARE, "--dry-run", "-o", "out"]) == 0
    assert "members   3, aligned to BASE: A, B, C" in capsys.readouterr().out
    assert sorted(str(f) for f in here.rglob("*")) == before


def test_errors_are_one_line_and_leave_nothing(here, capsys):
    theta = weights(1)
    write_folder(here / "shape", theta | {"2.weight": torch.zeros(2, 6)})
    write_folder(here / "less", {n: t for n, t in theta.items() if n != "2.bias"})
    write_folder(here / "cut", theta)
    (here / "cut" / SHARDS[2]).unlink()
    write_folder(
        here / "pruned", theta | {"2.bias_mask": torch.ones(2), "2.bias_orig": theta["2.bias"]}
    )
    (here / "gone.yaml").write_text(YAML.replace("model: B,", "model: missing,"))
    (here / "typo.yaml").write_text(YAML.replace("dare_ties", "dare_tie"))
    (here / "less.yaml").write_text(YAML.replace("model: B,", "model: less,"))
    stream = ["--no-match", "--stream"]
    cases = [
        (
            ["A", "shape", *stream],
            "shape: 2.weight: has shape (2, 6), but it is merged with",
        ),
        (["A", "less", *stream], "less: has no tensor 2.bias"),
        (["A", "cut", *stream], SHARDS[2]),
        (["A", "missing", *stream], "missing: does not exist"),
        (["A", "B", "--stream"], "add --no-match"),
        (["A", "B", *stream, "--drop", "x"], "--drop needs the networks in memory"),
        (["pruned", "pruned", *stream], "2.bias_mask: belongs to pruning"),
        (["A", "B", *stream, "--method", "ties", "--base", "BASE"], "TIES looks at all tensors"),
        (["A", "B", *stream, "--method", "greedy_soup"], "GreedySoup looks at labelled data"),
        (["gone.yaml"], "gone.yaml: model missing: there is no such file or folder"),
        (["typo.yaml"], "did you mean"),
        (["less.yaml"], "less: has no tensor 2.bias"),
        (["A", "missing", "--dry-run"], "missing"),
    ]
    for words, message in cases:
        assert main(["merge", *words, "-o", "out"]) == 2, words
        err = capsys.readouterr().err.removeprefix(NOTE)
        assert message in err
        assert err.count("\n") == 1
        assert not (here / "out").exists()
    assert main(["merge", "m.yaml"]) == 2
    assert "-o OUT is needed" in capsys.readouterr().err
    assert main(["merge", "m.yaml", "-o", "A"]) == 2
    assert "is an input" in capsys.readouterr().err


def test_a_method_by_a_yaml_file_is_no_configuration(here):
    (here / "method.yaml").write_text("dare: {density: 0.5, seed: 3}")
    words = ["merge", "--method", "method.yaml", *FOLDERS, *WORDS, "--base", "BASE", "--stream"]
    assert main([*words, "-o", "out"]) == 0
    expected = METHODS["dare"](0.5, seed=3).solve([weights(s) for s in range(3)], base=weights(99))
    assert equal(read_folder(here / "out"), expected)


MEASURE = """
import resource, sys
from wsl.cli import main
import wsl.cli.merge
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
before = peak()
assert main(sys.argv[1:]) == 0
print(peak() - before)
"""


@pytest.mark.slow
@pytest.mark.parametrize("method", ["average", "dare: {density: 0.2}"])
def test_memory_does_not_depend_on_the_largest_tensor(here, method):
    """Three tensors of 256 MB, merged in 300 MB besides imports."""
    for name in ("one", "two", "base"):
        theta = {"w": torch.full((2**13, 2**13), 0.5 * (name == "one"))}
        safetensors.torch.save_file(theta, f"{name}.safetensors")
    words = ["merge", "one.safetensors", "two.safetensors", "--base", "base.safetensors"]
    words += ["--method", method, "--no-match", "--stream", "-o", "o.safetensors"]
    run = subprocess.run(
        [sys.executable, "-c", MEASURE, *words], check=True, capture_output=True, text=True
    )
    assert int(run.stdout.splitlines()[-1]) < 300
