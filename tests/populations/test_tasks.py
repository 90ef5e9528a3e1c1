"""Tasks: fixed disjoint splits, metrics per member, rebuilt from a description."""

import pytest
import torch
from torch.nn import functional as F

from wsl import params
from wsl.populations import Classification, digits, digits_fields, task
from wsl.populations.architectures.networks import cnn, siren
from wsl.zoo import ZooError


def members(make, count):
    torch.manual_seed(0)
    return params.stack([params.from_module(make()) for _ in range(count)])


def test_digits_are_cut_into_disjoint_parts_that_cover_all():
    data = digits()
    parts = [data.train, data.val, data.test]
    assert [len(part.images) for part in parts] == [1097, 300, 400]
    assert data.input_shape == (1, 8, 8)
    whole = torch.cat([part.images for part in parts]).flatten(1)
    assert whole.dtype == torch.float32
    assert whole.min() == 0
    assert whole.max() == 1
    everything = digits_fields().values[..., 0]
    assert torch.equal(whole.unique(dim=0), everything.unique(dim=0))
    assert len(whole.unique(dim=0)) == 1797  # all images differ, so the parts cannot overlap
    assert (
        torch.bincount(torch.cat([part.labels for part in parts])).tolist()
        == torch.bincount(digits_fields().labels).tolist()
    )


def test_the_cut_is_always_the_same():
    assert torch.equal(digits().test.images, digits().test.images)
    assert digits().test.labels[:12].tolist() == [2, 0, 3, 4, 7, 0, 0, 2, 4, 0, 6, 7]


def test_every_class_is_in_every_part():
    for part in (digits().train, digits().val, digits().test):
        assert part.labels.unique().tolist() == list(range(10))


@pytest.mark.parametrize("split", ["train", "val", "test"])
@pytest.mark.parametrize("chunk", [2, 100])
def test_metrics_of_stacked_members_are_those_of_each_alone(split, chunk):
    data, model = digits(), cnn(1, [3, 4], 10, strides=[2, 2], batch_norm=True)
    thetas = members(lambda: cnn(1, [3, 4], 10, strides=[2, 2], batch_norm=True), 5)
    found = data.evaluate(model, thetas, split, chunk=chunk)
    images, labels = getattr(data, split)
    for i, theta in enumerate(params.unstack(thetas)):
        logits = params.call(model.eval(), theta, images)
        torch.testing.assert_close(found["loss"][i], F.cross_entropy(logits, labels))
        torch.testing.assert_close(
            found["accuracy"][i], (logits.argmax(1) == labels).float().mean()
        )


def test_evaluation_leaves_the_mode_of_the_model():
    model = cnn(1, [3], 10, batch_norm=True).train()
    digits().evaluate(model, members(lambda: cnn(1, [3], 10, batch_norm=True), 2))
    assert model.training


def test_fields_pair_each_pixel_with_its_coordinates():
    data = digits_fields()
    assert data.coordinates.shape == (64, 2)
    assert data.values.shape == (1797, 64, 1)
    assert data.coordinates[[0, 7, 56, 63]].tolist() == [[-1, -1], [-1, 1], [1, -1], [1, 1]]


def test_field_metrics_are_those_of_each_alone():
    data, model, images = digits_fields(), siren([2, 8, 1]), torch.tensor([5, 3, 1700])
    thetas = members(lambda: siren([2, 8, 1]), 3)
    found = data.evaluate(model, thetas, images, chunk=2)
    for i, theta in enumerate(params.unstack(thetas)):
        mse = F.mse_loss(params.call(model, theta, data.coordinates), data.values[images[i]])
        torch.testing.assert_close(found["loss"][i], mse)
        torch.testing.assert_close(found["psnr"][i], -10 * mse.log10())


def test_a_task_is_rebuilt_from_its_description():
    assert torch.equal(task({"_target_": "wsl.zoo.digits"}).val.images, digits().val.images)
    assert torch.equal(task({"_target_": "wsl.zoo.digits_fields"}).values, digits_fields().values)
    with pytest.raises(
        ZooError,
        match=r"task: '_target_: builtins.eval' is not one of wsl.zoo.digits, "
        r"wsl.zoo.digits_fields",
    ):
        task({"_target_": "builtins.eval"})


def test_wrong_requests_are_refused():
    with pytest.raises(ZooError, match="split: 'tset' is not one of 'train', 'val', 'test'"):
        digits().evaluate(cnn(1, [3], 10), members(lambda: cnn(1, [3], 10), 1), "tset")
    with pytest.raises(
        ZooError, match=r"sizes \(5, 2, 2\) must add up to the 10 images and 10 labels"
    ):
        Classification.split(torch.zeros(10, 1, 2, 2), torch.zeros(10).long(), sizes=(5, 2, 2))
