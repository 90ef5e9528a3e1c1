"""Tasks told by examples."""

import pytest
import torch

from wsl.generative import LabelledExamples


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
