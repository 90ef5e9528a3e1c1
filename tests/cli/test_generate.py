"""`wsl generate`: the verdict and its page, and networks drawn again from a finished run."""

import contextlib
import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from paths import ROOT

from wsl.cli import generate, generate_from, main
from wsl.cli.generate_fit import made
from wsl.cli.served import served
from wsl.generative import LabelledExamples
from wsl.generative.models.files import read_about, write_whole
from wsl.symmetry import PermutationSpec
from wsl.zoo import Zoo, read_checkpoint, write_checkpoint

TINY = ["population.members=16", "population.steps=6", "population.snapshots=[3,6]"]
TINY += ["population.architecture.channels=[2,3,3]"]
WORDS = ["generate", "models=weight_diffusion", "datasets=digits_cnn", "zoo=zoo.h5", "samples=3"]
WORDS += ["generator.latent=4", "fit.code_steps=3", "fit.steps=3", "trial.steps=2", "best=2"]
ARMS = {"default_init", "retrieval", "noise", "noise_small", "gaussian", "mean", "round_trip"}
ARMS |= {"interpolation", "gaussian_codes", "noise_at_equal_novelty"}
ARMS |= {"wrong_condition", "random_condition", "mean_condition"}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """A folder with a tiny zoo and one finished run."""
    folder = tmp_path_factory.mktemp("generate")
    with contextlib.chdir(folder):
        assert main(["zoo", "build", "datasets=digits_cnn", "output=zoo.h5", *TINY]) == 0
        assert main([*WORDS, "output=run"]) == 0
    return folder


@pytest.fixture
def inside(workspace, monkeypatch):
    monkeypatch.chdir(workspace)
    return workspace


def told(path="run"):
    return json.loads((Path(path) / "result.json").read_text())


def table(name):
    with Path(f"run/{name}.csv").open() as file:
        return list(csv.DictReader(file))


def test_every_arm_is_compared_in_the_verdict_and_judged_for_novelty(inside):
    done = told()
    assert set(done["arms"]) == {"generated", *ARMS}
    assert set(done["novelty"]) == {"generated", "members", *ARMS}
    drawn, tuned, new = done["verdict"][:3]
    assert all(f"{arm} (" in drawn and f"{arm} (" in tuned for arm in ARMS)
    assert new.startswith("good and new: generated ")
    assert list(done["novelty"]["generated"]["good_and_new"]) == ["1", "2", "3", "4", "6"]
    assert done["novelty"]["retrieval"]["max_iou"] == 1
    assert done["scores"]["max_iou"] == done["novelty"]["generated"]["max_iou"]


def test_the_best_by_validation_stand_beside_the_mean_of_every_arm(inside):
    done, rows = told(), table("generated")
    own = [row for row in rows if row["arm"] == "generated"]
    drawn = sum(float(row["drawn"]) for row in own) / 3
    assert done["scores"]["accuracy_as_drawn"] == pytest.approx(drawn)
    chosen = sorted(own, key=lambda row: -float(row["validation"]))[:2]
    best = sum(float(row["drawn"]) for row in chosen) / 2
    assert done["scores"]["accuracy_as_drawn_best_2_of_3_by_validation"] == pytest.approx(best)
    counts = {arm: sum(row["arm"] == arm for row in rows) for arm in done["arms"]}
    for arm, told_of in done["arms"].items():
        assert ("drawn_best" in told_of) == (counts[arm] == 3), arm
    assert "generated, best 2 of 3 drawn" in Path("run/report.html").read_text()


@pytest.mark.parametrize("best", ["0", "4"])
def test_the_best_of_more_than_are_drawn_are_refused(inside, capsys, best):
    words = [word for word in WORDS if not word.startswith("best=")]
    assert main([*words, f"best={best}", "output=refused"]) == 2
    assert f"best is {best}, but it must lie in [1, 3], see samples" in capsys.readouterr().err


def test_scales_of_units_are_found_for_a_recipe_that_fixes_them(inside):
    recipe = {"_target_": "wsl.generative.FlowMatching", "latent": 4, "units": "balanced"}
    zoo = Zoo("zoo.h5")
    known = served({"data_root": None}, zoo)
    generator = made({"generator": recipe, "seed": 0}, zoo, known)
    assert generator.spec.units
    assert generator.spec.without_units() == zoo.spec
    assert generator.canonicalizer.units == "balanced"


def test_the_verdict_is_said_again_by_a_finished_run(inside, capsys):
    assert main([*WORDS, "output=run"]) == 0
    said, summary = capsys.readouterr().out.splitlines(), told()["summary"]
    assert said[-len(summary) :] == summary
    assert summary[0].startswith("By accuracy as drawn, generated networks beat ")
    listed = " ".join(summary[1:])
    for line in told()["verdict"]:
        assert all(f"{arm} (" in line for arm in ARMS) or line.startswith(("good", "no ", "flag"))
        for pair in re.findall(r"\w+ \([-+.\d]+ ± [.\d]+\)", line):
            assert pair in listed, "every difference of the result file is said too"


def test_the_page_loads_nothing_and_has_a_table_for_each_figure(inside):
    page = Path("run/report.html").read_text()
    assert page.count("<svg") == 4
    assert "<script" not in page
    assert 'src="http' not in page
    assert "generated" in page
    names = {path.stem for path in Path("run").glob("report_*.csv")}
    assert names == {f"report_{name}" for name in ("arms", "errors", "distances", "good_and_new")}
    assert {row["name"] for row in table("report_errors")} == {"generated", "members", *ARMS}
    assert {float(row["place"]) for row in table("report_good_and_new")} == {1, 2, 3, 4, 6}


@pytest.mark.parametrize("run", ["run", "run/generator.safetensors"])
def test_a_finished_run_draws_again_for_numbers(inside, run, capsys):
    output = f"again-{len(run)}"
    words = ["generate", "--from", run, "--condition", "0.9", "-n", "2", "-o", output]
    assert main([*words, "--zoo", f"{output}.h5"]) == 0
    theta, about = read_checkpoint(f"{output}/sample-01.safetensors")
    assert PermutationSpec.parse(about["spec"]) == Zoo("zoo.h5").spec
    assert json.loads(about["architecture"]) == Zoo("zoo.h5").architecture
    drawn = Zoo(f"{output}.h5")
    assert len(drawn) == 2
    assert drawn.architecture == Zoo("zoo.h5").architecture
    assert torch.equal(drawn[1][0]["head.bias"], theta["head.bias"])
    assert "2 networks by LatentDiffusion" in capsys.readouterr().out


def test_without_a_condition_more_networks_are_asked_for_as_the_run_was(inside, tmp_path, capsys):
    def drawn(name, *words):
        output = str(tmp_path / name)
        assert main(["generate", "--from", "run", "-n", "1", *words, "-o", output]) == 0
        return read_checkpoint(tmp_path / name / "sample-00.safetensors")[0]

    wanted = json.loads(Path("run/result.json").read_text())["wanted"]
    as_it_was = drawn("as_it_was")
    assert f"asked for {wanted:.4g}, as the run was" in capsys.readouterr().err
    assert equal(as_it_was, drawn("same", "--condition", repr(wanted)))
    assert not equal(as_it_was, drawn("none", "--condition", "none"))
    assert "note:" not in capsys.readouterr().err
    drawn("far", "--condition", "1.5")
    assert "note: --condition 1.5: members of the run" in capsys.readouterr().err


def equal(one, other):
    return all(torch.equal(one[name], tensor) for name, tensor in other.items())


def test_the_seed_decides_what_is_drawn_again(inside):
    found = []
    for name, seed in (("one", "1"), ("two", "2"), ("three", "1")):
        words = ["generate", "--from", "run", "-n", "1", "-o", name, "--seed", seed]
        assert main(words) == 0
        found.append(read_checkpoint(f"{name}/sample-00.safetensors")[0]["head.bias"])
    assert torch.equal(found[0], found[2])
    assert not torch.equal(found[0], found[1])


class ClassMeans:
    """A generator that is asked by examples: its weights are the means of the classes."""

    needs = frozenset({"tasks"})
    conditions, canonicalizer = 0, None
    spec = PermutationSpec.parse("weight: 2 16\nbias: 2")

    def fit(self, *_, **__):
        raise NotImplementedError

    def sample(self, n, *, condition=None, generator=None):
        assert isinstance(condition, LabelledExamples)
        means = condition.inputs.flatten(3).mean(2).expand(n, 2, 16)
        return {"weight": means.clone(), "bias": torch.rand(n, 2, generator=generator)}

    def save(self, path):
        write_whole(self, {"nothing": torch.zeros(1)}, path, config={})

    @classmethod
    def load(cls, path):
        read_about(path, cls.__name__)
        return cls()


@pytest.fixture
def by_examples(inside, monkeypatch):
    """The same with a generator that is asked by labelled examples."""
    own = generate_from._kinds()
    monkeypatch.setattr(generate_from, "_kinds", lambda: {**own, "ClassMeans": ClassMeans})
    ClassMeans().save("means.safetensors")
    images = np.zeros((5, 4, 4), dtype=np.uint8)
    images[:2], images[2:] = 255, 51
    np.savez("mine.npz", images=images, labels=np.array([7, 7, 3, 3, 3]))
    return inside


def test_networks_for_a_data_set_are_drawn_in_one_line(by_examples, capsys):
    words = ["generate", "--from", "means.safetensors", "--condition-on", "mine.npz"]
    assert main([*words, "-n", "2", "-o", "for_mine"]) == 0
    theta, _ = read_checkpoint("for_mine/sample-00.safetensors")
    torch.testing.assert_close(theta["weight"].mean(1), torch.tensor([0.2, 1.0]))
    said = capsys.readouterr().err
    assert "2 images of each class; 3 is output 0, 7 is output 1" in said
    assert told("for_mine")["inputs"]["condition"]["file"] == "mine.npz"


def refused(words, reason):
    return pytest.param(words, reason, id=reason)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        refused(["--from", "run", "--condition-on", "mine.npz"], "reads no labelled examples"),
        refused(["--from", "run", "--condition", "0.9,0.1"], "2 numbers, but this LatentDiffusion"),
        refused(["--from", "run", "--condition", "much"], "numbers are needed, such as 0.95"),
        refused(["--from", "means.safetensors"], "ClassMeans is asked by labelled examples"),
        refused(["--from", "nowhere"], "no such generator.safetensors"),
        refused(["--from", "zoo.h5"], "is not a safetensors file"),
        refused(["--from", "plain.safetensors"], "does not say what it holds"),
        refused(["--from", "run", "-n", "0"], "-n 0: at least one network"),
        refused(
            ["--from", "means.safetensors", "--condition-on", "bare.npz"], "an array of labels"
        ),
    ],
)
def test_what_cannot_be_drawn_is_said_in_one_line(by_examples, capsys, words, reason):
    write_checkpoint("plain.safetensors", {"w": torch.ones(2)}, {})
    np.savez("bare.npz", images=np.zeros((4, 4, 4), dtype=np.uint8))
    assert main(["generate", *words, "-o", "refused"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("wsl generate: ")
    assert reason in said
    assert said.count("\n") == 1
    assert not Path("refused").exists()


def test_networks_are_not_drawn_over_a_run_or_over_other_files(by_examples, capsys):
    np.savez("data.npz", images=np.zeros((4, 4)))
    before = {path: path.read_bytes() for path in map(Path, ["data.npz", "run/result.json"])}
    for words, reason in {
        ("-o", "run"): "is the run itself",
        ("-o", "new", "--zoo", "data.npz"): "--zoo data.npz: is there and is no zoo",
        ("-o", "new", "--zoo", "run"): "--zoo run: is there and is no zoo",
    }.items():
        assert main(["generate", "--from", "run", "-n", "1", *words]) == 2
        assert reason in capsys.readouterr().err
        assert not Path("new").exists()
    assert all(path.read_bytes() == content for path, content in before.items())


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (np.array([7.0, 7.0, 3.0, 3.0, 3.0]), "3 is output 0, 7 is output 1"),
        (np.array([[7], [7], [3], [3], [3]]), "3 is output 0, 7 is output 1"),
        (np.array([-1, -1, 5, 5, 5]), "-1 is output 0, 5 is output 1"),
        (np.eye(2)[[1, 1, 0, 0, 0]], "of one-hot labels store labels.argmax(1)"),
        (np.array(["b", "b", "a", "a", "a"]), "labels are of type <U1, but numbers are needed"),
        (np.array([0, 0, np.nan, 1, 1]), "1 of 5 labels are NaN"),
    ],
)
def test_labels_of_a_condition_are_read_or_named(by_examples, tmp_path, capsys, labels, said):
    with np.load("mine.npz") as whole:
        np.savez("mine.npz", images=whole["images"], labels=labels)
    words = ["generate", "--from", "means.safetensors", "--condition-on", "mine.npz", "-n", "1"]
    new = tmp_path / "new"
    done = main([*words, "-o", str(new)])
    assert done == (0 if " is output 0" in said else 2)
    assert said in capsys.readouterr().err
    assert new.exists() == (done == 0)


def test_a_place_for_the_networks_is_needed(inside, capsys):
    assert main(["generate", "--from", "run"]) == 2
    assert "-o DIR" in capsys.readouterr().err


def test_every_generator_of_the_library_can_be_named_by_a_file():
    names = set(generate_from._kinds())
    assert {"LatentDiffusion", "RetrievalGenerator", "MeanGenerator"} <= names
    assert "Generator" not in names


def test_the_page_on_generation_names_flags_and_arms_that_there_are():
    page = (ROOT / "docs" / "generation.md").read_text()
    flags = {flag for action in generate._parser()._actions for flag in action.option_strings}
    commands = re.findall(r"^wsl generate (.*?)(?: #.*)?$", page, re.MULTILINE)
    assert len(commands) == 4
    assert {w for words in commands for w in words.split() if w.startswith("-")} <= flags
    table = page.partition("## Arms")[2].partition("## Flags")[0]
    rows = re.findall(r"^\| (`.*?`) \|", table, re.MULTILINE)
    assert {arm for row in rows for arm in re.findall(r"`(\w+)`", row)} == ARMS


def test_weights_are_generated_from_the_architecture_alone(inside):
    words = ["generate", "models=graph_hyper_network", "datasets=digits_cnn", "zoo=zoo.h5"]
    assert main([*words, "samples=2", "fit.steps=2", "trial.steps=2", "output=graph"]) == 0
    done = told("graph")
    assert 0 <= done["arms"]["generated"]["drawn"] <= 1
    again = ["generate", "--from", "graph", "-n", "1", "-o", "again"]
    assert main(again) == 0
    theta, _ = read_checkpoint(inside / "again" / "sample-00.safetensors")
    assert Zoo("zoo.h5").spec.validate(theta) == ()
