"""Images from the user's folder: public forms, read in place, refused in one clear sentence."""

import gzip
import hashlib
import shutil

import numpy as np
import pytest
import torch

from wsl.populations import cifar10_gray, mnist, mnist_fields, task
from wsl.zoo import ZooError


def test_mnist_is_read_as_published_with_the_hash_of_each_file(data_root):
    data = mnist(data_root=data_root)
    assert [len(part.images) for part in (data.train, data.val, data.test)] == [1000, 5000, 20]
    assert data.input_shape == (1, 28, 28)
    assert data.train.labels[:12].tolist() == [*range(10), 0, 1]
    raw = (data_root / "t10k-images-idx3-ubyte").read_bytes()
    assert data.test.images[0, 0, 0, :5].mul(255).round().tolist() == list(raw[16:21])
    assert data.files["t10k-images-idx3-ubyte"] == hashlib.sha256(raw).hexdigest()
    assert len(data.files) == 4


def test_compressed_files_in_a_folder_named_after_the_data_are_found(data_root, tmp_path):
    (tmp_path / "mnist").mkdir()
    for path in data_root.glob("*ubyte"):
        (tmp_path / "mnist" / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
    assert torch.equal(
        mnist(data_root=tmp_path).test.images, mnist(data_root=data_root).test.images
    )


def test_fields_are_the_training_images_then_the_test_images(data_root):
    fields, data = mnist_fields(data_root=data_root), mnist(data_root=data_root)
    assert fields.values.shape == (6020, 784, 1)
    torch.testing.assert_close(
        fields.targets(torch.tensor([0, 6000])).view(2, 28, 28),
        torch.stack([data.train.images[0, 0], data.test.images[0, 0]]),
    )
    assert fields.coordinates[[0, 27, 783]].tolist() == [[-1, -1], [-1, 1], [1, 1]]


def test_both_public_forms_of_cifar_are_one_and_grey_is_luma(data_root, tmp_path):
    parts = {}
    for part in ("train", "test"):
        with np.load(data_root / f"cifar10_{part}.npz") as arrays:
            parts[part] = arrays["images"], arrays["labels"]
    records = {
        part: np.concatenate(
            [labels[:, None], images.transpose(0, 3, 1, 2).reshape(len(images), -1)], 1
        )
        for part, (images, labels) in parts.items()
    }
    for i, batch in enumerate(np.split(records["train"], 5)):
        (tmp_path / f"data_batch_{i + 1}.bin").write_bytes(batch.tobytes())
    (tmp_path / "test_batch.bin").write_bytes(records["test"].tobytes())
    ours, theirs = cifar10_gray(data_root=data_root), cifar10_gray(data_root=tmp_path)
    assert torch.equal(ours.train.images, theirs.train.images)
    assert torch.equal(ours.test.labels, theirs.test.labels)
    red, green, blue = parts["test"][0][3, 4, 5].tolist()
    assert ours.test.images[3, 0, 4, 5].item() == pytest.approx(
        (0.299 * red + 0.587 * green + 0.114 * blue) / 255, abs=1e-6
    )


def test_data_that_are_not_there_are_one_clear_error(data_root, tmp_path):
    with pytest.raises(
        ZooError,
        match=r"mnist: needs its files; say where they are with data_root=FOLDER .* or --data-root",
    ):
        task({"_target_": "wsl.zoo.mnist"})
    with pytest.raises(
        ZooError,
        match=r"mnist: train-images-idx3-ubyte or .*\.gz is in none of .*; download it there or "
        r"change",
    ):
        mnist(data_root=tmp_path)
    with pytest.raises(ZooError, match=r"cifar10: data_batch_1\.bin is in none of"):
        cifar10_gray(data_root=tmp_path)
    with pytest.raises(ZooError, match="a description does not say where data lie"):
        task({"_target_": "wsl.zoo.mnist", "data_root": str(data_root)})


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train-images-idx3-ubyte", b"no", "is not an IDX file of unsigned bytes"),
        (
            "train-images-idx3-ubyte",
            b"\x00\x00\x08\x03\x00\x00\x00\x02" + bytes(9),
            "is not an IDX file of unsigned bytes",
        ),
        ("train-images-idx3-ubyte.gz", b"no", "cannot be decompressed"),
        ("cifar10_train.npz", b"no", "is not an .npz with images and labels"),
    ],
)
def test_a_file_of_another_kind_is_refused(data_root, tmp_path, name, content, message):
    for path in data_root.iterdir():
        shutil.copy(path, tmp_path)
    (tmp_path / name.removesuffix(".gz")).unlink()
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ZooError, match=message):
        (mnist if "idx" in name else cifar10_gray)(data_root=tmp_path)
