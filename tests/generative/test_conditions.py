"""Tasks told by examples."""

import dataclasses

import pytest
import torch
from networks import BY_NAME
from torch import nn
from torch.nn import functional as F

from wsl import params
from wsl.generative import (
    AxisFeatures,
    DatasetEncoder,
    LabelledExamples,
    TaskEmbedding,
    TaskSource,
    VariantTasks,
    VirtualClasses,
    contrastive_loss,
    examples_of,
    label_sets,
    task_accuracy,
    task_logits,
    task_loss,
)
from wsl.generative.conditions import variants
from wsl.populations import Classification
from wsl.symmetry import PermutationSpec, SpecError, permutation_spec


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def examples():
    return LabelledExamples(torch.arange(2 * 3 * 4 * 5).view(2, 3, 4, 5).float())


def test_another_order_of_the_classes_moves_their_examples():
    order = torch.tensor([[2, 0, 1], [0, 1, 2]])
    moved = examples().ordered(order)
    assert torch.equal(moved.inputs[0, 0], examples().inputs[0, 2])
    assert torch.equal(moved.inputs[1], examples().inputs[1])
    back = moved.ordered(order.argsort(1))
    assert torch.equal(back.inputs, examples().inputs)


def test_the_label_of_an_example_is_the_place_of_its_class():
    inputs, labels = examples().flat()
    assert inputs.shape == (2, 12, 5)
    for task in range(2):
        for x, y in zip(inputs[task], labels[task], strict=True):
            assert any(torch.equal(x, shot) for shot in examples().inputs[task, y])


def test_examples_without_an_axis_for_tasks_are_refused():
    with pytest.raises(ValueError, match=r"\(tasks, classes, shots, \*input\)"):
        LabelledExamples(torch.zeros(3, 4, 5))


DATA = Classification.split(
    torch.rand(300, 1, 8, 8, generator=rng(9)), torch.arange(300) % 6, sizes=(200, 50, 50)
)
FAMILY = VariantTasks(DATA, classes=3, shots=4, query=5, angles=(0, 30, 90), digits=(0, 2, 4, 5))


def test_the_same_state_draws_the_same_tasks():
    one, other = (FAMILY.draw(6, generator=rng(1)) for _ in range(2))
    assert one.support.inputs.shape == (6, 3, 4, 1, 8, 8)
    assert one.query.inputs.shape == (6, 3, 5, 1, 8, 8)
    assert torch.equal(one.support.inputs, other.support.inputs)
    assert not torch.equal(one.support.inputs, FAMILY.draw(6, generator=rng(2)).support.inputs)


def test_support_and_query_share_no_image():
    plain = dataclasses.replace(FAMILY, angles=(0,), invert=False, shots=10, query=20)
    for support, query in zip(*(e.inputs for e in plain.draw(8, generator=rng())), strict=True):
        images = torch.cat([support, query], 1).flatten(0, 1).flatten(1)
        assert len(images.unique(dim=0)) == 3 * 30


@pytest.mark.parametrize("parts", [("train", "train"), ("val", "test")])
def test_images_are_of_the_class_that_the_task_names_and_seen_as_it_says(parts):
    family = dataclasses.replace(FAMILY, parts=parts, shots=2, query=2)
    seen_as = family.variants(5, generator=rng())
    drawn = family.episodes(seen_as, generator=rng(1))
    for examples, part in zip(drawn, parts, strict=True):
        images, labels = getattr(DATA, part)
        for n in range(5):
            for place, c in enumerate(seen_as.classes[n].tolist()):
                seen = seen_as.of(torch.tensor([n])).images(images[labels == c][None])[0]
                for image in examples.inputs[n, place]:
                    assert (seen == image).flatten(1).all(1).any()


def test_windows_of_many_images_hold_no_image_twice():
    rows = variants._distinct(50, 7, among=100, generator=rng())
    assert rows.max() < 100
    assert all(len(row.unique()) == 7 for row in rows)


def test_a_held_out_family_is_the_same_value_with_other_sets():
    sets = label_sets(range(6), 3, all_of=(1, 3))
    assert sets == ((0, 1, 3), (1, 2, 3), (1, 3, 4), (1, 3, 5))
    held = dataclasses.replace(FAMILY, sets=sets)
    classes = held.variants(40, generator=rng()).classes
    assert {tuple(sorted(row)) for row in classes.tolist()} == set(sets)
    assert len({tuple(row) for row in classes.tolist()}) > len(sets)  # in any order
    assert isinstance(held, TaskSource)


def test_a_class_with_too_few_images_is_refused():
    with pytest.raises(ValueError, match="class 0 has 33 images in train, but shots and query"):
        dataclasses.replace(FAMILY, shots=30)


@pytest.mark.parametrize("parts", [("val",), "train", ("train", "val", "test")])
def test_tasks_say_where_support_and_query_come_from(parts):
    with pytest.raises(ValueError, match=r"parts: .*two are needed"):
        dataclasses.replace(FAMILY, parts=parts)


def test_the_members_of_a_zoo_are_told_by_examples_of_their_tasks():
    columns = {"classes": ["4,1", "0,5"], "turn": [90, 0], "inverted": [False, True]}
    told = examples_of(DATA.train, columns, shots=3, generator=rng())
    assert told.inputs.shape == (2, 2, 3, 1, 8, 8)
    fours = DATA.train.images[DATA.train.labels == 4].rot90(1, (-2, -1))
    noughts = 1 - DATA.train.images[DATA.train.labels == 0]
    for shot in range(3):
        assert (fours == told.inputs[0, 0, shot]).flatten(1).all(1).any()
        assert (noughts == told.inputs[1, 0, shot]).flatten(1).all(1).any()


def test_a_zoo_of_one_task_tells_no_examples():
    with pytest.raises(ValueError, match="turn: the zoo has no such column"):
        examples_of(DATA.train, {"classes": ["0,1"]})


def classifier(classes=3):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 6), nn.ReLU(), nn.Linear(6, classes))


def test_the_loss_of_a_task_is_that_of_its_own_network_on_its_own_examples():
    torch.manual_seed(0)
    models = [classifier() for _ in range(4)]
    support = FAMILY.draw(4, generator=rng()).support
    stacked = params.stack([params.from_module(model) for model in models])
    found = task_loss(models[0], stacked, support)
    inputs, labels = support.flat()
    for n, model in enumerate(models):
        expected = F.cross_entropy(model(inputs[n]), labels[n])
        torch.testing.assert_close(found[n], expected)
        right = (model(inputs[n]).argmax(1) == labels[n]).float().mean()
        assert task_accuracy(models[0], stacked, support)[n].item() == pytest.approx(right.item())


def test_gradients_of_the_loss_reach_the_weights_of_their_own_task_only():
    support = FAMILY.draw(2, generator=rng()).support
    model = classifier()
    weights = {
        name: tensor.expand(2, *tensor.shape).clone().requires_grad_()
        for name, tensor in params.from_module(model).items()
    }
    task_loss(model, weights, support)[0].backward()
    for tensor in weights.values():
        assert tensor.grad[0].abs().sum() > 0
        assert tensor.grad[1].abs().sum() == 0


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return DatasetEncoder(64, width=8).double()


def wide(examples):
    return LabelledExamples(examples.inputs.double())


def close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_the_encoder_sees_no_order_of_shots_and_moves_with_that_of_classes(encoder):
    support = wide(FAMILY.draw(4, generator=rng()).support)
    found = encoder(support)
    shuffled = LabelledExamples(support.inputs[:, :, torch.tensor([2, 0, 3, 1])])
    close(encoder(shuffled), found)
    order = torch.stack([torch.randperm(3, generator=rng(n)) for n in range(4)])
    moved = encoder(support.ordered(order))
    close(moved.task, found.task)
    close(moved.classes, found.classes[torch.arange(4)[:, None], order])
    assert (found.classes[:, 0] - found.classes[:, 1]).abs().min(1).values.max() > 1e-4


def test_the_encoder_takes_any_number_of_classes_and_shots(encoder):
    for classes, shots in ((2, 1), (5, 9)):
        given = LabelledExamples(torch.rand(2, classes, shots, 64, dtype=torch.float64))
        found = encoder(given)
        assert found.classes.shape == (2, classes, 8)
        assert found.task.shape == (2, 8)


def test_an_extractor_of_the_users_own_makes_the_features_and_is_not_trained():
    own = nn.Linear(64, 5)
    encoder = DatasetEncoder(5, width=8, extractor=lambda x: own(x.flatten(1)))
    support = FAMILY.draw(2, generator=rng()).support
    encoder(support).task.sum().backward()
    assert own.weight.grad is None
    assert not any(p is own.weight for p in encoder.parameters())
    plain = DatasetEncoder(5, width=8)
    plain.load_state_dict(encoder.state_dict())
    by_hand = own(support.inputs.flatten(3)).detach()
    close(plain(LabelledExamples(by_hand)), encoder(support))


def test_inputs_of_another_size_are_refused(encoder):
    with pytest.raises(ValueError, match="9 features of each input, but the encoder was made for"):
        encoder(LabelledExamples(torch.zeros(1, 2, 3, 9)))


def test_the_contrastive_loss_is_that_of_clip_with_soft_targets():
    tasks, codes = torch.eye(2) * 3.0, torch.tensor([[3.0, 0.0], [0.0, 3.0]])
    # scores and targets are both softmax([9, 0]): their entropy
    p = torch.tensor([9.0, 0.0]).softmax(0)
    expected = -(p * p.log()).sum()
    torch.testing.assert_close(contrastive_loss(tasks, codes), expected)
    assert contrastive_loss(tasks, codes.flip(0)) > contrastive_loss(tasks, codes)
    with pytest.raises(ValueError, match=r"both must be \(N, d\)"):
        contrastive_loss(tasks, codes[:1])


def features():
    spec = permutation_spec(classifier(), torch.zeros(2, 1, 8, 8))
    return AxisFeatures(spec, classes=3)


def embedding(n=2, classes=3, width=4):
    return TaskEmbedding(
        torch.rand(n, classes, width, generator=rng(1)), torch.rand(n, width, generator=rng(2))
    )


def test_the_axes_of_classes_and_inputs_are_found_in_the_specification():
    found = features()
    assert found.classes == {"3.weight": 0, "3.bias": 0}
    assert found.inputs == {"1.weight": 1}
    assert "classes = 3" in str(found.class_spec)
    assert found.class_spec.groups["classes"] == 3
    assert "3.bias: classes" in str(found.class_spec)
    cnn = AxisFeatures(BY_NAME["cnn"].spec)
    assert cnn.classes == {"fc2.weight": 0, "fc2.bias": 0}
    assert cnn.inputs == {"conv1.weight": 1}


def test_features_stand_on_the_entries_they_are_about():
    found, e = features(), embedding()
    inputs = torch.rand(2, 64, 2, generator=rng(3))
    given = found(e, inputs)
    assert given["3.weight"].shape == (2, 3, 6, 4 + 4 + 2)
    assert given["1.bias"].shape == (2, 6, 10)
    for name, tensor in given.items():
        assert torch.equal(
            tensor[..., :4],
            e.task.view(2, *[1] * (tensor.dim() - 2), 4).expand(*tensor.shape[:-1], 4),
        ), name
    assert torch.equal(given["3.weight"][1, 2, 5, 4:8], e.classes[1, 2])
    assert torch.equal(given["3.bias"][0, 1, 4:8], e.classes[0, 1])
    assert torch.equal(given["1.weight"][1, 3, 60, 8:], inputs[1, 60])
    assert not given["1.weight"][..., 4:8].any()
    assert not given["3.weight"][..., 8:].any()


def test_another_order_of_the_classes_moves_the_features_as_it_moves_the_weights():
    found, e = features(), embedding()
    order = torch.tensor([[2, 0, 1], [1, 0, 2]])
    moved = found(TaskEmbedding(e.classes[torch.arange(2)[:, None], order], e.task))
    expected = found.ordered(found(e), order)
    assert all(torch.equal(moved[name], expected[name]) for name in expected)


def test_weights_in_another_order_answer_in_that_order():
    found, model = features(), classifier()
    weights = {n: t[None] for n, t in params.from_module(model).items()}
    order = torch.tensor([[2, 0, 1]])
    x = torch.rand(1, 5, 1, 8, 8)
    before, after = (task_logits(model, w, x) for w in (weights, found.ordered(weights, order)))
    torch.testing.assert_close(after, before[..., order[0]])


def test_statistics_of_inputs_are_per_pixel_or_per_channel():
    support = FAMILY.draw(2, generator=rng()).support
    found = features().input_statistics(support)
    torch.testing.assert_close(found[..., 0], support.inputs.flatten(3).mean((1, 2)))
    channels = LabelledExamples(torch.rand(1, 3, 4, 2, 6, 6))
    found = AxisFeatures(BY_NAME["cnn"].spec).input_statistics(channels)
    torch.testing.assert_close(found[0, :, 0], channels.inputs.mean((0, 1, 2, 4, 5)))


def test_what_does_not_fit_the_axes_is_refused():
    found = features()
    with pytest.raises(ValueError, match="condition: 4 classes, but 3 has 3 outputs"):
        found(embedding(classes=4))
    with pytest.raises(ValueError, match="features of 9 inputs, but the input axis has size 64"):
        found(embedding(), torch.zeros(2, 9, 1))
    with pytest.raises(ValueError, match="the input axis has size 64"):
        found.input_statistics(LabelledExamples(torch.zeros(1, 3, 2, 1, 7, 7)))
    with pytest.raises(SpecError, match=r"3.weight: axis 0 has size 3, but the tasks have 5"):
        AxisFeatures(found.spec, classes=5)
    with pytest.raises(SpecError, match="a fixed axis of classes is needed"):
        AxisFeatures(PermutationSpec.parse("h = 4\n0.weight: h 3"))


def test_virtual_classes_are_tasks_of_the_same_shape_and_a_share_stays_as_it_is():
    virtual = VirtualClasses(FAMILY, share=0.5)
    assert isinstance(virtual, TaskSource)
    one, other = (virtual.draw(40, generator=rng(1)) for _ in range(2))
    plain = FAMILY.draw(40, generator=rng(1))
    for made, again, before in zip(one, other, plain, strict=True):
        assert torch.equal(made.inputs, again.inputs)
        assert made.inputs.shape == before.inputs.shape
    kept = (one.support.inputs == plain.support.inputs).flatten(1).all(1)
    assert 10 < kept.sum() < 30
    none = VirtualClasses(FAMILY, share=0.0).draw(40, generator=rng(1))
    assert torch.equal(none.query.inputs, plain.query.inputs)


def test_a_class_is_moved_by_one_map_and_its_task_inverted_like_any_other():
    shots = torch.rand(1, 1, 1, 8, 8, generator=rng(2)) * (torch.rand(8, 8) < 0.3)
    same = shots.expand(4, 3, 5, 1, 8, 8).clone()  # five equal images of each of three classes
    virtual = VirtualClasses(FAMILY, share=1.0, mixed=0.0)
    made = virtual._virtual(same, rng(3))
    assert torch.equal(made, made[:, :, :1].expand_as(made))
    assert not torch.allclose(made[:, 0], made[:, 1])
    torch.testing.assert_close(virtual._virtual(1 - same, rng(3)), 1 - made)


def test_maps_of_no_size_leave_a_class_alone_but_for_rotation_and_mirror():
    still = VirtualClasses(FAMILY, bend=0.0, shear=0.0, stretch=0.0, shift=0.0)
    maps = still._maps(50, rng())
    assert torch.equal(maps[:, :, 2], torch.zeros(50, 2))
    torch.testing.assert_close(maps[:, :, :2].mT @ maps[:, :, :2], torch.eye(2).expand(50, 2, 2))
    assert set(maps[:, :, :2].det().sign().tolist()) == {-1.0, 1.0}
