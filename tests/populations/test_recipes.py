"""Recipes: one file from one value, resumed where it stopped, left alone when finished."""

import sys

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from paths import ROOT
from torch import nn

from wsl import params
from wsl.populations import (
    ClassifierPopulation,
    FieldPopulation,
    Processes,
    Ray,
    Serial,
    TaskPopulation,
    build_architecture,
    classifiers,
    task,
)
from wsl.symmetry import permutation_spec
from wsl.zoo import Zoo, ZooError

CNN = {
    "_target_": "wsl.zoo.architectures.cnn",
    "in_channels": 1,
    "channels": [2],
    "classes": 10,
    "strides": [4],
}
SIREN = {"_target_": "wsl.zoo.architectures.siren", "widths": [2, 4, 1]}
DIGITS, FIELDS = {"_target_": "wsl.zoo.digits"}, {"_target_": "wsl.zoo.digits_fields"}
RECIPES = sorted((ROOT / "datasets").glob("*.yaml"))


@pytest.fixture
def trainings(monkeypatch):
    """Number of members in each stacked training that a recipe asks for."""
    calls, train = [], classifiers.train_population

    def counted(model, start, loss, **options):
        calls.append(len(options["members"].lr))
        return train(model, start, loss, **options)

    monkeypatch.setattr(classifiers, "train_population", counted)
    return calls


def classifier(**changes):
    fields = {
        "architecture": CNN,
        "task": DIGITS,
        "members": 5,
        "steps": 4,
        "snapshots": (0, 4),
        "batch_size": 8,
        "chunk": 2,
        "lr": (1e-3, 1e-1),
        "weight_decay": (1e-4, 1e-2),
        "init_scale": (0.5, 2.0),
        "data_fraction": (0.1, 1.0),
    }
    return ClassifierPopulation(**(fields | changes))


def field(**changes):
    fields = {
        "architecture": SIREN,
        "task": FIELDS,
        "members": 5,
        "steps": 4,
        "snapshots": (4,),
        "lr": 1e-3,
        "chunk": 3,
    }
    return FieldPopulation(**(fields | changes))


def test_a_classifier_zoo_holds_every_member_at_every_snapshot_with_its_metadata(tmp_path):
    recipe, seen = classifier(), []
    zoo = recipe.build(tmp_path / "zoo.h5", progress=lambda done, total: seen.append((done, total)))
    assert seen == [(2, 5), (4, 5), (5, 5)]
    assert zoo.table["member"].tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert zoo.table["epoch"].tolist() == [0, 4] * 5
    hyper = recipe.hyper_parameters(torch.arange(5))
    weights, columns = zoo[range(10)]
    for name in ("lr", "weight_decay", "init_scale", "data_fraction", "seed"):
        torch.testing.assert_close(
            columns[name], hyper[name].to(columns[name]).repeat_interleave(2)
        )
    model, data = build_architecture(zoo.architecture), task(zoo.provenance["task"])
    for split in ("train", "test"):
        for name, value in data.evaluate(model, weights, split).items():
            torch.testing.assert_close(value, columns[f"{split}_{name}"].to(value))
    assert zoo.spec == permutation_spec(model.eval(), data.test.images[:2])
    zoo.verify()


def test_a_field_zoo_pairs_each_member_with_its_image(tmp_path):
    zoo = field().build(tmp_path / "zoo.h5")
    weights, columns = zoo[range(5)]
    data = task(zoo.provenance["task"])
    assert columns["image"].tolist() == [0, 1, 2, 3, 4]
    assert columns["label"].tolist() == data.labels[:5].tolist()
    found = data.evaluate(build_architecture(zoo.architecture), weights, torch.arange(5))
    torch.testing.assert_close(columns["psnr"].float(), found["psnr"])
    assert len(set(columns["seed"].tolist())) == 5


def test_the_initial_scale_of_fields_multiplies_every_weight(tmp_path):
    start = {"steps": 1, "snapshots": (0,)}
    full, small = (
        field(**start).build(tmp_path / "a.h5"),
        field(init_scale=0.25, **start).build(tmp_path / "b.h5"),
    )
    for name, tensor in full[range(5)][0].items():
        assert torch.equal(small[range(5)][0][name], tensor * 0.25)


def test_the_schedule_of_fields_multiplies_their_learning_rate(tmp_path):
    cosine = {"_target_": "wsl.zoo.Cosine", "final": 0.0}
    plain = field(steps=1, snapshots=(1,)).build(tmp_path / "a.h5")
    first = field(steps=1, snapshots=(1,), schedule=cosine).build(tmp_path / "b.h5")
    risen = field(steps=1, snapshots=(1,), schedule={**cosine, "warmup": 1_000_000}).build(
        tmp_path / "c.h5"
    )
    start = field(steps=1, snapshots=(0,)).build(tmp_path / "d.h5")
    for name, tensor in start[range(5)][0].items():
        assert torch.equal(plain[range(5)][0][name], first[range(5)][0][name])
        torch.testing.assert_close(risen[range(5)][0][name], tensor, rtol=0, atol=2e-9)
        assert not torch.equal(plain[range(5)][0][name], tensor)


def test_members_do_not_depend_on_chunks_or_on_how_many_there_are(tmp_path):
    many, few = (
        classifier(chunk=5).build(tmp_path / "a.h5"),
        classifier(members=3, chunk=2).build(tmp_path / "b.h5"),
    )
    for name, tensor in few[range(6)][0].items():
        torch.testing.assert_close(many[range(6)][0][name], tensor, rtol=1e-5, atol=1e-6)


class Interrupted(Exception):
    pass


def test_an_interrupted_build_resumes_and_ends_in_the_same_bytes(tmp_path, trainings):
    def stop(done, total):
        raise Interrupted

    whole = classifier().build(tmp_path / "whole.h5")
    trainings.clear()
    with pytest.raises(Interrupted):
        classifier().build(tmp_path / "zoo.h5", progress=stop)
    assert trainings == [2]
    resumed = classifier().build(tmp_path / "zoo.h5")
    assert trainings == [2, 2, 1]
    assert resumed.path.read_bytes() == whole.path.read_bytes()


def test_a_finished_zoo_is_left_alone_and_another_recipe_refused(tmp_path, trainings):
    before = classifier().build(tmp_path / "zoo.h5").path.read_bytes()
    trainings.clear()
    assert classifier().build(tmp_path / "zoo.h5").path.read_bytes() == before
    assert trainings == []
    message = r"zoo\.h5: holds a zoo of another recipe \(other lr, seed\); choose another path or "
    message += "remove the file"
    with pytest.raises(ZooError, match=message):
        classifier(seed=1, lr=(1e-3, 1e-2)).build(tmp_path / "zoo.h5")


def test_a_zoo_trained_in_other_chunks_is_of_the_same_recipe(tmp_path, trainings):
    before = classifier(chunk=2).build(tmp_path / "zoo.h5").path.read_bytes()
    trainings.clear()
    assert classifier(chunk=3).build(tmp_path / "zoo.h5").path.read_bytes() == before
    assert trainings == []


def test_a_zoo_that_no_recipe_made_is_refused(tmp_path):
    model = nn.Linear(2, 2)
    Zoo.from_models(
        tmp_path / "zoo.h5", [model], spec=permutation_spec(model, torch.zeros(1, 2)), metadata={}
    )
    with pytest.raises(ZooError, match=r"zoo\.h5: holds a zoo of no recipe; choose another path"):
        classifier().build(tmp_path / "zoo.h5")


def test_members_that_diverge_are_dropped_whole(tmp_path):
    sgd = {"_target_": "wsl.zoo.SGD"}
    recipe = classifier(
        optimizer=sgd,
        lr=(1e-4, 1e4),
        weight_decay=(10, 10),
        members=8,
        chunk=1,
        steps=12,
        snapshots=(0, 12),
    )
    zoo = recipe.build(tmp_path / "zoo.h5")
    left = sorted(set(zoo.table["member"].tolist()))
    lr = recipe.hyper_parameters(torch.arange(8))["lr"]
    assert 0 < len(left) < 8
    assert lr[left].max() < lr[[i for i in range(8) if i not in left]].min()
    assert zoo.table["epoch"].tolist() == [0, 12] * len(left)
    assert zoo.provenance["recipe"]["members"] == 8
    assert np.isfinite(zoo.table["test_loss"]).all()


def test_diverged_members_are_listed(tmp_path):
    assert classifier().build(tmp_path / "a.h5").provenance["diverged"] == []
    sgd = {"_target_": "wsl.zoo.SGD"}
    recipe = classifier(
        optimizer=sgd,
        lr=(1e-4, 1e4),
        weight_decay=(10, 10),
        members=8,
        chunk=3,
        steps=12,
        snapshots=(0, 12),
    )
    zoo = recipe.build(tmp_path / "b.h5")
    lost = zoo.provenance["diverged"]
    assert lost
    assert sorted({*zoo.table["member"].tolist(), *lost}) == list(range(8))


VARIED = {
    "activation": ("relu", "tanh"),
    "optimizer": ({"_target_": "wsl.zoo.SGD"}, {"_target_": "wsl.zoo.Adam"}),
    "init": ("own", "orthogonal"),
    "dropout": (0.0, 0.5),
    "label_noise": (0.0, 0.3),
    "replacement": False,
    "clip": 1.0,
    "schedule": ({"_target_": "wsl.zoo.Constant"}, {"_target_": "wsl.zoo.Cosine", "warmup": 1}),
    "train_images": 50,
    "augment": {"_target_": "wsl.zoo.Augment", "shift": 1},
}


def test_everything_may_vary_and_stands_in_the_columns(tmp_path):
    many = classifier(**VARIED, members=8, chunk=8).build(tmp_path / "a.h5")
    assert {"activation", "optimizer", "init", "dropout", "label_noise", "schedule"} < set(
        many.table.dtype.names
    )
    assert set(many.table["activation"].tolist()) == {"relu", "tanh"}
    assert set(many.table["optimizer"].tolist()) == {"SGD()", "Adam()"}
    few = classifier(**VARIED, members=3, chunk=1).build(tmp_path / "b.h5")
    for name, tensor in few[range(6)][0].items():
        torch.testing.assert_close(many[range(6)][0][name], tensor, rtol=1e-4, atol=1e-5)
    for name in ("activation", "optimizer", "schedule", "init"):
        assert many.table[name][:6].tolist() == few.table[name].tolist()


MLP = {"_target_": "wsl.zoo.architectures.mlp", "widths": [64, 6, 3]}


def test_members_of_a_task_population_each_learn_their_own_task(tmp_path):
    recipe = TaskPopulation(
        architecture=MLP,
        task=DIGITS,
        members=6,
        steps=40,
        snapshots=(0, 40),
        batch_size=16,
        lr=(1e-2, 1e-2),
        classes=3,
        chunk=4,
    )
    zoo = recipe.build(tmp_path / "zoo.h5")
    data, model = task(DIGITS), build_architecture(MLP)
    assert len(set(zoo.table["classes"].tolist())) > 3
    trained = zoo.table["epoch"] == 40
    assert (
        zoo.table["test_accuracy"][trained].mean()
        > zoo.table["test_accuracy"][~trained].mean() + 0.2
    )
    for row in np.flatnonzero(trained):
        classes = [int(c) for c in zoo.table["classes"][row].split(",")]
        mine = torch.isin(data.test.labels, torch.tensor(classes))
        images = data.test.images[mine].rot90(int(zoo.table["turn"][row]) // 90, (2, 3))
        images = 1 - images if zoo.table["inverted"][row] else images
        expected = torch.tensor([classes.index(c) for c in data.test.labels[mine].tolist()])
        found = params.call(model, zoo[int(row)][0], images).argmax(1) == expected
        assert found.float().mean().item() == pytest.approx(
            zoo.table["test_accuracy"][row], abs=1e-6
        )


def test_processes_build_the_same_zoo(tmp_path):
    here, there = (
        classifier().build(tmp_path / "a.h5"),
        classifier().build(tmp_path / "b.h5", executor=Processes(2)),
    )
    assert here.table["member"].tolist() == there.table["member"].tolist()
    for name, tensor in here[range(10)][0].items():
        torch.testing.assert_close(there[range(10)][0][name], tensor, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_a_ray_cluster_builds_the_same_zoo(tmp_path):
    pytest.importorskip("ray")
    here, there = (
        classifier().build(tmp_path / "a.h5"),
        classifier().build(tmp_path / "b.h5", executor=Ray(workers=2)),
    )
    for name, tensor in here[range(10)][0].items():
        torch.testing.assert_close(there[range(10)][0][name], tensor, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_two_nodes_of_a_ray_cluster_build_the_same_zoo(tmp_path):
    """One processor on each node, so that the second of two workers finds room on the second node
    only.
    """
    cluster_utils = pytest.importorskip("ray.cluster_utils")
    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        cluster.add_node(num_cpus=1)
        here = classifier().build(tmp_path / "a.h5")
        there = classifier().build(
            tmp_path / "b.h5", executor=Ray(address=cluster.address, workers=2)
        )
    finally:
        cluster.shutdown()
    assert here.table["member"].tolist() == there.table["member"].tolist()
    for name, tensor in here[range(10)][0].items():
        torch.testing.assert_close(there[range(10)][0][name], tensor, rtol=1e-5, atol=1e-6)


def test_without_ray_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(
        ZooError,
        match=r"executor ray: the package is not installed; pip install "
        r"weight-space-learning\[ray\]",
    ):
        classifier().build(tmp_path / "zoo.h5", executor=Ray())


def test_a_recipe_can_count_its_splits():
    assert "splits" not in classifier().description
    assert classifier(members=6, splits=[3, 1, 2]).hash != classifier(members=6).hash
    for wrong in ([3, 1, 2], [4, 1], [6, -2, 1], [3.5, 0.5, 1], "all", 5):
        with pytest.raises(
            ZooError,
            match=r"splits: .* are not three counts .* that sum to the 5 members; null draws",
        ):
            classifier(members=5, splits=wrong)


def test_counted_splits_are_those_of_the_file(tmp_path):
    zoo = classifier(members=6, splits=[3, 1, 2]).build(tmp_path / "zoo.h5")
    assert sorted(set(zoo.table["member"][zoo.indices("test")].tolist())) == [4, 5]
    assert len(set(zoo.table["member"][zoo.indices("val")].tolist())) == 1


def test_the_hash_covers_every_field():
    assert classifier().hash == classifier().hash
    assert classifier(lr=[1e-3, 1e-1]).hash == classifier().hash
    for change in (
        {"seed": 1},
        {"members": 6},
        {"lr": (1e-3, 2e-1)},
        {"architecture": {**CNN, "strides": [2]}},
        {"chunk": 3},
    ):
        assert classifier(**change).hash != classifier().hash


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: classifier(members=0), "members: is 0, but at least 1 is needed"),
        (
            lambda: classifier(lr=(0.1, 0.01)),
            r"lr: the range \(0.1, 0.01\) must have 0 < low <= high, or be \(0, 0\)",
        ),
        (
            lambda: classifier(dropout=(0.0, 1.0)),
            r"dropout: the range \(0.0, 1.0\) must have 0 <= low <= high <= 0.99",
        ),
        (
            lambda: TaskPopulation(
                architecture=MLP,
                task=DIGITS,
                members=1,
                steps=1,
                snapshots=(1,),
                batch_size=2,
                lr=(1e-2, 1e-2),
                classes=11,
            ).build("never.h5"),
            "classes: 11 of the task's 10 classes asked for",
        ),
        (
            lambda: classifier(architecture={"_target_": "os.getcwd"}).build("never.h5"),
            "'_target_: os.getcwd' is not one of",
        ),
        (
            lambda: field(members=1798).build("never.h5"),
            "members: 1798 asked for, but the task has 1797 images",
        ),
    ],
)
def test_a_wrong_recipe_is_one_clear_error(make, message):
    with pytest.raises(ZooError, match=message):
        make()


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_file_is_its_own_description_and_has_a_card(path, tmp_path, data_root):
    written = OmegaConf.to_container(OmegaConf.load(path))["population"]
    recipe = instantiate(written, _recursive_=False, _convert_="all")
    assert path.with_suffix(".md").exists()
    assert written.items() <= recipe.description.items()
    build_architecture(recipe.architecture)
    assert (
        type(recipe)(
            **{**recipe.__dict__, "members": 2, "steps": 1, "snapshots": (1,), "splits": None}
        )
        .build(tmp_path / "zoo.h5", data_root=data_root)
        .path.exists()
    )
    assert len(RECIPES) >= 11


def test_zoo_opens_by_path(tmp_path):
    assert len(Zoo(field(members=2).build(tmp_path / "zoo.h5").path)) == 2


def test_a_device_that_is_not_there_is_named_before_anything_is_done(tmp_path):
    with pytest.raises(
        ZooError, match=r"executor\.device: 'nowhere' cannot be used here .*; use 'cpu'"
    ):
        field().build(tmp_path / "zoo.h5", executor=Serial(device="nowhere"))
    assert not list(tmp_path.iterdir())


def test_a_cluster_is_not_asked_for_devices_of_this_machine():
    Ray(device="nowhere").check()
    with pytest.raises(ZooError, match=r"executor\.device: 'nowhere'"):
        Processes(2, device="nowhere").check()


@pytest.mark.parametrize(
    ("widths", "message"),
    [
        ([64, 8], r"architecture: gives \(2, 8\) for two images, but the task has 10 classes"),
        ([63, 10], r"architecture: does not take the task's images \(1, 8, 8\)"),
    ],
)
def test_an_architecture_that_does_not_fit_its_task_is_refused_before_training(
    tmp_path, widths, message
):
    mlp = {"_target_": "wsl.zoo.architectures.mlp", "widths": widths}
    with pytest.raises(ZooError, match=message):
        classifier(architecture=mlp).build(tmp_path / "zoo.h5")
    assert not (tmp_path / "zoo.h5").exists()
