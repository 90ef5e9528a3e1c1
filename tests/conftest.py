"""Shared set-up: two threads and no more, so that results repeat; small stand-ins for downloaded
data.
"""

import struct

import numpy as np
import pytest
import torch

torch.set_num_threads(2)


@pytest.fixture(scope="session")
def data_root(tmp_path_factory):
    """A folder with MNIST's and CIFAR-10's public files in small: 6,000 and 20 images, 10 classes
    in turn.
    """
    root, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for name, count in (("train", 6000), ("t10k", 20)):
        images, labels = (
            rng.integers(0, 256, (count, 28, 28), dtype=np.uint8),
            np.arange(count) % 10,
        )
        (root / f"{name}-images-idx3-ubyte").write_bytes(
            struct.pack(">4i", 0x803, count, 28, 28) + images.tobytes()
        )
        (root / f"{name}-labels-idx1-ubyte").write_bytes(
            struct.pack(">2i", 0x801, count) + labels.astype(np.uint8).tobytes()
        )
    for name, count in (("train", 5200), ("test", 20)):
        images = rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
        np.savez(
            root / f"cifar10_{name}.npz",
            images=images,
            labels=(np.arange(count) % 10).astype(np.uint8),
        )
    return root
