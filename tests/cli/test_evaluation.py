"""The user's own data and function: read in its public forms, scored as torch scores it, refused in
one sentence.
"""

import gzip
import struct

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from wsl.cli.evaluation import evaluator, own_evaluator, read_data
from wsl.cli.targets import ConfigError
from wsl.params import from_module


@pytest.fixture
def npz(tmp_path):
    rng = np.random.default_rng(0)
    np.savez(
        tmp_path / "test.npz",
        inputs=rng.normal(size=(40, 5)).astype(np.float32),
        labels=rng.integers(0, 3, 40),
    )
    return tmp_path / "test.npz"


@pytest.mark.parametrize("loss", ["cross_entropy", "nll_loss"])
def test_loss_and_accuracy_are_those_of_torch(npz, loss):
    data, net = read_data(str(npz)), nn.Sequential(nn.Linear(5, 3), nn.LogSoftmax(1))
    told = evaluator(net, data, loss)(from_module(net))
    outputs = net(data.inputs)
    assert told["loss"] == pytest.approx(getattr(F, loss)(outputs, data.labels).item())
    hits = (outputs.argmax(1) == data.labels).double().mean()
    assert told["accuracy"] == pytest.approx(float(hits))


def test_a_squared_error_needs_no_classes(tmp_path):
    x = np.random.default_rng(0).normal(size=(30, 5)).astype(np.float32)
    np.savez(tmp_path / "r.npz", x=x, y=x.sum(1, keepdims=True))
    data, net = read_data(str(tmp_path / "r.npz")), nn.Linear(5, 1)
    told = evaluator(net, data, "mse")(from_module(net))
    assert told == {"loss": pytest.approx(F.mse_loss(net(data.inputs), data.labels).item())}


def test_images_of_bytes_are_scaled_normalised_and_given_channels(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (6, 4, 4, 3), dtype=np.uint8)
    np.savez(tmp_path / "rgb.npz", images=images, labels=np.arange(6))
    data = read_data(str(tmp_path / "rgb.npz"), "0.1,0.2,0.3,0.5,0.5,0.5")
    want = images[2, 1, 3, 1] / 255
    assert data.inputs.shape == (6, 3, 4, 4)
    assert float(data.inputs[2, 1, 1, 3]) == pytest.approx((want - 0.2) / 0.5, abs=1e-6)


def test_idx_files_are_read_where_they_lie(tmp_path):
    for part, count in (("train", 5), ("t10k", 3)):
        images = np.full((count, 4, 4), count * 20, dtype=np.uint8)
        head = struct.pack(">4i", 0x803, count, 4, 4)
        (tmp_path / f"{part}-images-idx3-ubyte.gz").write_bytes(
            gzip.compress(head + images.tobytes())
        )
        labels = struct.pack(">2i", 0x801, count) + bytes(range(count))
        (tmp_path / f"{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(labels))
    data = read_data(str(tmp_path), "0.5,2")
    assert data.inputs.shape == (3, 1, 4, 4)
    assert data.labels.tolist() == [0, 1, 2]
    assert float(data.inputs[0, 0, 0, 0]) == pytest.approx((60 / 255 - 0.5) / 2)
    assert read_data(str(tmp_path), split="train").inputs.shape[0] == 5


def test_a_folder_of_images_by_class_is_read(tmp_path):
    from PIL import Image

    for label, name in enumerate(("cat", "dog")):
        (tmp_path / name).mkdir()
        for i in range(2):
            pixels = np.full((4, 4, 3), 100 * label + i, dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{i}.png")
    data = read_data(str(tmp_path))
    assert data.labels.tolist() == [0, 0, 1, 1]
    assert float(data.inputs[3, 0, 0, 0]) == pytest.approx(101 / 255)


def test_arrays_named_after_a_split_are_read_as_pairs(tmp_path):
    x, y = np.zeros((3, 5)), np.arange(3)
    np.savez(tmp_path / "keras.npz", x_train=x, y_train=y, x_test=x + 1, y_test=y + 1)
    data = {
        split: read_data(str(tmp_path / "keras.npz"), split=split) for split in ("train", "test")
    }
    assert [float(data[s].inputs[0, 0]) for s in data] == [0, 1]
    assert [data[s].labels.tolist() for s in data] == [[0, 1, 2], [1, 2, 3]]
    np.savez(tmp_path / "med.npz", test_images=x + 2, test_labels=y, train_labels=y + 5)
    assert read_data(str(tmp_path / "med.npz"), split="train").labels.tolist() == [0, 1, 2]
    np.savez(tmp_path / "large.npz", X=x, Y=y, x_test=x + 1, y_test=y)
    assert float(read_data(str(tmp_path / "large.npz")).inputs[0, 0]) == 0
    np.savez(tmp_path / "mixed.npz", x_test=x, y_train=y)
    assert read_data(str(tmp_path / "mixed.npz")).labels is None


def test_wrong_data_is_one_clear_error(tmp_path, npz):
    net = nn.Linear(5, 2)
    with pytest.raises(ConfigError, match="labels run from 0 to 2"):
        evaluator(net, read_data(str(npz)), "cross_entropy")(from_module(net))
    with pytest.raises(ConfigError, match=r"cannot be run on inputs of shape \(40, 5\)"):
        evaluator(nn.Linear(4, 3), read_data(str(npz)), "mse")(from_module(nn.Linear(4, 3)))
    with pytest.raises(ConfigError, match="no such"):
        read_data(str(tmp_path / "missing.npz"))
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    with pytest.raises(ConfigError, match="one of inputs, images, x is needed, and one of labels"):
        read_data(str(tmp_path / "other.npz"))
    np.savez(tmp_path / "bare.npz", x=np.zeros((3, 5)))
    with pytest.raises(ConfigError, match="no labels"):
        evaluator(net, read_data(str(tmp_path / "bare.npz")), "cross_entropy")
    with pytest.raises(ConfigError, match="--normalize a,b"):
        read_data(str(npz), "a,b")
    np.savez(tmp_path / "short.npz", x=np.zeros((3, 5)), y=np.zeros(2, dtype=int))
    with pytest.raises(ConfigError, match="holds 3 inputs and 2 labels"):
        read_data(str(tmp_path / "short.npz"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="neither IDX files nor folders of images"):
        read_data(str(tmp_path / "empty"))


def test_the_users_function_sees_the_weights_and_returns_numbers():
    net = nn.Linear(2, 1)
    theta = {name: torch.ones_like(tensor) for name, tensor in from_module(net).items()}
    told = own_evaluator(net, lambda model: {"loss": model(torch.ones(1, 2)).sum() - 1, "n": 1})(
        theta
    )
    assert told == {"loss": 2.0, "n": 1.0}
    with pytest.raises(ConfigError, match="a dict of numbers is needed"):
        own_evaluator(net, lambda _: 3)(theta)


@pytest.mark.parametrize(
    ("arrays", "told"),
    [
        ({"y": np.array(["cat", "dog", "cat"])}, "labels are of type <U3, but numbers are needed"),
        ({"x": np.full((3, 5), np.nan)}, "3 of 3 inputs hold NaN"),
        ({"y": np.eye(3)}, "store labels.argmax"),
        ({"y": np.array([0, 1, np.nan])}, "1 of 3 labels are NaN"),
        ({"y": np.array([0, 1, 0.5])}, "labels are no classes; whole numbers from 0"),
        ({"y": np.array([-1, 0, 1])}, "labels run from -1 to 1, but they count from 0"),
    ],
)
def test_labels_that_are_no_classes_and_inputs_that_are_no_numbers_are_named(
    tmp_path, arrays, told
):
    np.savez(tmp_path / "odd.npz", **{"x": np.zeros((3, 5)), "y": np.array([0, 1, 0]), **arrays})
    net = nn.Linear(5, 2)
    with pytest.raises(ConfigError, match=told):
        evaluator(net, read_data(str(tmp_path / "odd.npz")), "cross_entropy")(from_module(net))


@pytest.mark.parametrize("y", [np.array([0.0, 1.0, 1.0]), np.array([[0], [1], [1]])])
def test_classes_stored_as_floats_or_in_a_column_are_classes(tmp_path, y):
    np.savez(tmp_path / "odd.npz", x=np.ones((3, 5), np.float32), y=y)
    net = nn.Linear(5, 2)
    data = read_data(str(tmp_path / "odd.npz"))
    found = evaluator(net, data, "cross_entropy")(from_module(net))
    wanted = nn.functional.cross_entropy(net(torch.ones(3, 5)), torch.tensor([0, 1, 1]))
    assert found["loss"] == pytest.approx(wanted.item())


@pytest.mark.parametrize("content", [b"", b"not a zip", None])
def test_a_damaged_file_of_arrays_is_one_clear_error(tmp_path, npz, content):
    whole = npz.read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2] if content is None else content)
    with pytest.raises(ConfigError, match=r"not a readable \.npz of plain arrays"):
        read_data(str(tmp_path / "cut.npz"))
    np.save(tmp_path / "one.npy", np.zeros(3))
    (tmp_path / "one.npy").rename(tmp_path / "one.npz")
    with pytest.raises(ConfigError, match=r"not a readable \.npz of plain arrays"):
        read_data(str(tmp_path / "one.npz"))
