"""Tasks made from one by rotation, inversion and choice of classes."""

import math

import pytest
import torch

from wsl.populations import TaskPopulation, TaskVariants, rotated
from wsl.zoo import ZooError

MLP = {"_target_": "wsl.zoo.architectures.mlp", "widths": [64, 4, 3]}


def recipe(**changes):
    given = {
        "architecture": MLP,
        "task": {"_target_": "wsl.zoo.digits"},
        "members": 12,
        "steps": 1,
        "snapshots": (1,),
        "batch_size": 4,
        "lr": (1e-2, 1e-2),
        "classes": 3,
    }
    return TaskPopulation(**{**given, **changes})


def images(n=4, size=8):
    return torch.rand(n, 3, 1, size, size, generator=torch.Generator().manual_seed(0))


def test_quarter_turns_move_pixels_and_change_none():
    found = rotated(images(), torch.tensor([0.0, 90.0, 180.0, 270.0]))
    for k in range(4):
        assert torch.equal(found[k], images()[k].rot90(k, (-2, -1)))
    back = rotated(images()[:1], torch.tensor([-90.0]))[0]
    assert torch.equal(back, images()[0].rot90(3, (-2, -1)))


def test_angles_close_to_a_quarter_turn_give_nearly_its_image():
    for degrees in (89.999, 90.001, 359.999):
        found = rotated(images()[:1], torch.tensor([degrees], dtype=torch.float64))[0]
        exact = images()[0].rot90(round(degrees / 90), (-2, -1))
        torch.testing.assert_close(found, exact, atol=1e-3, rtol=0)


def test_a_point_goes_where_trigonometry_says():
    size, degrees = 33, 30.0
    point = torch.zeros(1, 1, 1, size, size)
    point[..., 16, 26] = 1  # ten pixels to the right of the middle
    found = rotated(point, torch.tensor([degrees]))[0, 0, 0]
    rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    row, column = ((found * at).sum() / found.sum() for at in (rows, columns))
    angle = math.radians(degrees)
    assert row.item() == pytest.approx(16 - 10 * math.sin(angle), abs=0.2)  # rows count downwards
    assert column.item() == pytest.approx(16 + 10 * math.cos(angle), abs=0.2)


def test_members_see_their_own_angle_inverted_after_it():
    variants = TaskVariants(
        torch.tensor([[0, 1], [1, 0]]), torch.tensor([1 / 3, 1.0]), torch.tensor([True, False])
    )
    found = variants.images(images(2))
    assert torch.equal(found[0], 1 - rotated(images(2)[:1], torch.tensor([30.0]))[0])
    assert torch.equal(found[1], images(2)[1].rot90(1, (-2, -1)))


def test_angles_and_digits_are_drawn_from_those_that_are_named():
    given = recipe(members=200, angles=(0, 30, 45), digits=(1, 3, 5, 7))
    hyper = given.hyper_parameters(torch.arange(200))
    assert set(hyper["turn"].tolist()) == {0, 30, 45}
    assert {int(c) for text in hyper["classes"] for c in text.split(",")} == {1, 3, 5, 7}


def test_a_population_at_free_angles_learns(tmp_path):
    given = recipe(angles=(15.0, 100.0), steps=60, snapshots=(60,), batch_size=16)
    zoo = given.build(tmp_path / "zoo.h5")
    assert set(zoo.table["turn"].tolist()) == {15.0, 100.0}
    assert zoo.table["test_accuracy"].mean() > 0.6


def test_a_population_without_angles_keeps_its_description():
    assert not {"angles", "digits"} & recipe().description.keys()
    assert recipe(angles=(10,)).description["angles"] == [10]
    assert recipe(angles=(10,)).hash != recipe().hash


def test_more_classes_than_digits_are_refused(tmp_path):
    with pytest.raises(ZooError, match="classes: 3 of the task's 2 classes asked for"):
        recipe(digits=(1, 2)).build(tmp_path / "zoo.h5")
