"""Shared set-up: threads, so that results repeat and workers do not crowd each other; small
stand-ins for downloaded data.

Alone the tests use two threads; under ``pytest -n`` each worker has one. Processes that tests start
get as many.
"""

import os
import struct
import traceback

THREADS = 1 if "PYTEST_XDIST_WORKER" in os.environ else 2
os.environ.setdefault("OMP_NUM_THREADS", str(THREADS))  # read by torch when it is imported

import numpy as np  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402

torch.set_num_threads(THREADS)
FORKED = 70
"""Exit code of a test's forked child that did not end by itself."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call():
    """A child that a test has forked ends with the test, whatever is raised in it.

    Otherwise it would go on as a second runner of all tests that follow, and under ``pytest -n``
    report them a second time over the connection it shares with its parent.
    """
    runner = os.getpid()
    try:
        return (yield)
    except BaseException:
        if os.getpid() != runner:
            traceback.print_exc()
        raise
    finally:
        if os.getpid() != runner:
            os._exit(FORKED)


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
