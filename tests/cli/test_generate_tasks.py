"""`wsl generate` for many tasks: what is held out, the verdict, and networks for a reader's npz."""

import contextlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from wsl.cli import main
from wsl.cli.config import defaults
from wsl.cli.generate_held_out import split_tasks
from wsl.cli.targets import ConfigError
from wsl.generative import VirtualClasses
from wsl.populations import digits
from wsl.zoo import Zoo, read_checkpoint

TINY = ["population.members=60", "population.steps=4", "population.snapshots=[2,4]"]
WORDS = ["generate", "models=hyper_network", "datasets=digits_mlp_tasks", "zoo=tasks.h5"]
WORDS += ["samples=1", "fit.steps=2", "fit.tasks=4", "held_out.tasks=3", "held_out.seeds=1"]
WORDS += ["+task_arms.reptile.iterations=1", "+trial.steps=2", "+trial.lrs=[0.01]"]
WORDS += ["held_out.angles=[]", "+task_arms.composition.steps=2"]
FAMILIES = ["label_sets", "digits"]
ARMS = {"generated", *defaults("generate")["task_arms"]}
ARMS |= {"wrong_condition", "random_condition", "mean_condition"}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """A folder with a tiny zoo of tasks, one finished run, and examples of five digits."""
    folder = tmp_path_factory.mktemp("tasks")
    with contextlib.chdir(folder):
        assert main(["zoo", "build", "datasets=digits_mlp_tasks", "output=tasks.h5", *TINY]) == 0
        assert main([*WORDS, "output=run"]) == 0
        images, labels = digits().test
        for name, wanted in (("mine", (1, 3, 5, 7, 9)), ("four", (1, 3, 5, 7))):
            rows = torch.cat([(labels == c).nonzero()[:6, 0] for c in wanted])
            np.savez(f"{name}.npz", images=images[rows].numpy(), labels=labels[rows].numpy())
        np.savez("bare.npz", images=images[:5].numpy())
        np.savez("large.npz", images=np.zeros((10, 1, 28, 28)), labels=np.arange(10) % 5)
        np.savez("flat.npz", images=np.zeros((10, 1, 4, 16)), labels=np.arange(10) % 5)
    return folder


@pytest.fixture
def inside(workspace, monkeypatch):
    monkeypatch.chdir(workspace)
    return workspace


def told(path="run"):
    return json.loads((Path(path) / "result.json").read_text())


def columns(zoo):
    return {name: zoo.table[name] for name in ("classes", "turn", "inverted")}


def config(**held):
    usual = defaults("generate")
    return {"tasks": usual["tasks"], "held_out": {**usual["held_out"], **held}}


def test_every_family_is_judged_beside_every_arm_with_and_without_a_solved_head(inside):
    done = told()
    assert list(done["families"]) == FAMILIES
    for family in done["families"].values():
        assert set(family["arms"]) == ARMS | {f"{arm} with a solved head" for arm in ARMS}
        assert set(family["floors"]) == {"nearest_class_mean", "ridge_on_inputs"}
    assert done["left_out"] == {}
    assert {line.partition(":")[0] for line in done["verdict"]} == set(FAMILIES)


def test_the_page_has_two_figures_for_each_family_and_loads_nothing(inside):
    page = Path("run/report.html").read_text()
    assert page.count("<svg") == 2 * len(FAMILIES)
    assert 'src="http' not in page
    assert len(list(Path("run").glob("report_*.csv"))) == 2 * len(FAMILIES)
    assert Path("run/generated.csv").read_text().startswith("family,arm,task,drawn,tuned")


def test_drawn_networks_say_which_task_they_are_for(inside):
    _, about = read_checkpoint("run/digits-00.safetensors")
    assert "9" in about["classes"].split(",")
    assert float(about["turn"]) in (0, 90, 180, 270)
    assert about["inverted"] in ("True", "False")


def test_a_finished_run_gives_one_document(inside, capsys):
    assert main([*WORDS, "output=run", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["verdict"] == told()["verdict"]
    assert document["verb"] == "generate"


def test_nothing_that_is_held_out_is_learned_from(inside):
    known = columns(Zoo("tasks.h5"))
    split = split_tasks(config(), digits(), known)
    sets = set(split.seen.label_sets)
    assert all(9 not in chosen for chosen in sets)
    for row in split.rows.tolist():
        assert tuple(sorted(map(int, str(known["classes"][row]).split(",")))) in sets
    assert len(sets) == 126 - round(0.25 * 126)
    assert list(split.families) == ["label_sets", "angles", "digits"]
    for name in split.families:
        assert not sets & set(split.families[name].label_sets), name
        assert split.families[name].parts == ("val", "test")
    assert not {45, 135, 225, 315} & set(split.seen.angles)
    assert all(9 in chosen for chosen in split.families["digits"].label_sets)


def test_an_angle_of_members_can_be_held_out_and_classes_widened(inside):
    known = columns(Zoo("tasks.h5"))
    asked = config(angles=[90])
    asked["tasks"] = {**asked["tasks"], "virtual": 0.5}
    split = split_tasks(asked, digits(), known)
    assert isinstance(split.seen, VirtualClasses)
    assert 90 not in split.seen.source.angles
    assert all(known["turn"][row] != 90 for row in split.rows.tolist())


@pytest.mark.parametrize(
    ("held", "reason"),
    [
        ({"digits": [4, 5, 6, 7, 8, 9]}, "leaves 4 digits, 0 sets of 5 and"),
        ({"share": 1.0}, "0 sets of 5"),
        ({"share": 0.0, "digits": []}, "nothing is"),
    ],
)
def test_too_much_or_nothing_held_out_is_refused(inside, held, reason):
    with pytest.raises(ConfigError, match=reason):
        split_tasks(config(**held), digits(), columns(Zoo("tasks.h5")))


def test_networks_for_five_digits_of_ones_own_are_drawn_in_one_line(inside, capsys):
    words = ["generate", "--from", "run", "--condition-on", "mine.npz", "-n", "2", "-o", "for_mine"]
    assert main([*words, "--json"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["config"]["samples"] == 2
    assert "6 images of each class; 1 is output 0, 3 is output 1" in said.err
    theta, about = read_checkpoint("for_mine/sample-01.safetensors")
    assert {n: t.shape for n, t in theta.items()} == Zoo("tasks.h5").spec.shapes
    assert json.loads(about["architecture"]) == Zoo("tasks.h5").architecture


def test_images_without_their_axis_of_one_channel_are_the_same_images(inside, tmp_path):
    with np.load("mine.npz") as whole:
        np.savez(tmp_path / "plain.npz", images=whole["images"][:, 0], labels=whole["labels"])
    for name, file in {"one": "mine.npz", "other": str(tmp_path / "plain.npz")}.items():
        words = ["generate", "--from", "run", "--condition-on", file, "-n", "1"]
        assert main([*words, "-o", str(tmp_path / name)]) == 0
    one, other = (
        read_checkpoint(tmp_path / name / "sample-00.safetensors")[0] for name in ("one", "other")
    )
    assert all(torch.equal(one[n], t) for n, t in other.items())


def test_images_at_another_scale_than_the_runs_are_said_to_be(inside, tmp_path, capsys):
    with np.load("mine.npz") as whole:
        np.savez(tmp_path / "raw.npz", images=16 * whole["images"], labels=whole["labels"])
    words = ["generate", "--from", "run", "-n", "1", "--condition-on"]
    assert main([*words, str(tmp_path / "raw.npz"), "-o", str(tmp_path / "raw")]) == 0
    assert "values run from 0 to 16, but this run learned from 0 to 1" in capsys.readouterr().err
    assert main([*words, "mine.npz", "-o", str(tmp_path / "mine")]) == 0
    assert "values run from" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--from", "run", "--condition-on", "four.npz"], "4 classes, but networks of this run"),
        (["--from", "alone.safetensors", "--condition-on", "four.npz"], "condition: 4 classes"),
        (["--from", "run", "--condition-on", "large.npz"], "images (1, 28, 28), but this run"),
        (["--from", "run", "--condition-on", "flat.npz"], "learned from (1, 8, 8); reshape them"),
        (["--from", "run", "--condition-on", "bare.npz"], "an array of labels, one per image"),
        (["--from", "run"], "is asked by labelled examples; add --condition-on"),
    ],
)
def test_examples_that_do_not_fit_are_refused_in_one_line(inside, capsys, words, reason):
    Path("alone.safetensors").write_bytes(Path("run/generator.safetensors").read_bytes())
    assert main(["generate", *words, "-o", "refused"]) == 2
    said = capsys.readouterr().err
    assert reason in said
    assert said.count("\n") == 1
    assert not Path("refused").exists()


def test_a_generator_that_reads_no_examples_is_refused_for_many_tasks(inside, capsys):
    words = ["generate", "models=weight_diffusion", "datasets=digits_mlp_tasks", "zoo=tasks.h5"]
    assert main([*words, "output=no"]) == 2
    said = capsys.readouterr().err
    assert "each of these networks has a task of its own; use models=hyper_network" in said
    assert said.count("\n") == 1


def test_a_diffusion_told_on_axes_answers_for_held_out_tasks_and_for_a_file(inside):
    words = [word for word in WORDS if not word.startswith(("models=", "fit.tasks"))]
    words += ["models=task_diffusion", "generator.channels=4", "generator.blocks=1"]
    assert main([*words, "output=axes"]) == 0
    assert set(told("axes")["families"]) == set(FAMILIES)
    again = ["generate", "--from", "axes", "--condition-on", "mine.npz", "-n", "1"]
    assert main([*again, "-o", "drawn"]) == 0
    theta, _ = read_checkpoint(Path("drawn/sample-00.safetensors"))
    Zoo("tasks.h5").spec.validate(theta)
