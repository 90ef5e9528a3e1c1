"""Image data in their public files, read in place from a folder the user names and never copied.

    MNIST       {train,t10k}-{images-idx3,labels-idx1}-ubyte, plain or .gz
    CIFAR-10    {data_batch_1..5,test_batch}.bin, or cifar10_{train,test}.npz

MNIST's files (LeCun et al., 1998) are of the form IDX: big-endian sizes, then bytes. The .npz hold
images (N, 32, 32, 3) and labels (N,) uint8. Pickled forms are refused by not being looked for.
Every file's SHA-256 is handed on, so that a zoo says what it was made from.
"""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import io
import math
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from einops import rearrange

from wsl.zoo import ZooError

Images = tuple[np.ndarray, np.ndarray]
"""Images (N, H, W) or (N, H, W, 3) uint8, and labels (N,) uint8."""


@dataclasses.dataclass(frozen=True, eq=False)
class PublishedImages:
    """Train and test images, and the SHA-256 of each file that was read."""

    train: Images
    test: Images
    files: dict[str, str]


def mnist(root: str | Path | None) -> PublishedImages:
    """MNIST from ``root``, ``root/mnist`` or ``root/MNIST/raw``.

    Raises `ZooError` if a file is missing or not IDX.
    """
    folder = _Folder("mnist", root, ["", "mnist", "MNIST/raw"])

    def part(name: str) -> Images:
        images, labels = (
            _idx(*folder.read([f"{name}-{kind}-ubyte", f"{name}-{kind}-ubyte.gz"]))
            for kind in ("images-idx3", "labels-idx1")
        )
        return images, labels

    return PublishedImages(part("train"), part("t10k"), folder.files)


def cifar10(root: str | Path | None) -> PublishedImages:
    """CIFAR-10 from ``root``, ``root/cifar10`` or ``root/cifar-10-batches-bin``.

    Raises `ZooError` if a file is missing.
    """
    folder = _Folder("cifar10", root, ["", "cifar10", "cifar-10-batches-bin"])
    if folder.find(["cifar10_train.npz"]):
        train, test = (_npz(*folder.read([f"cifar10_{part}.npz"])) for part in ("train", "test"))
        return PublishedImages(train, test, folder.files)
    parts = [_records(*folder.read([f"data_batch_{i}.bin"])) for i in range(1, 6)]
    test = _records(*folder.read(["test_batch.bin"]))
    images, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return PublishedImages((images, labels), test, folder.files)


class _Folder:
    def __init__(self, what: str, root: str | Path | None, places: Sequence[str]) -> None:
        if root is None:
            raise ZooError(
                f"{what}: needs its files; say where they are with data_root=FOLDER (library and "
                "recipes) "
                "or --data-root FOLDER (command line)"
            )
        self.what, self.root, self.places = what, Path(root), places
        self.files: dict[str, str] = {}

    def find(self, names: Sequence[str]) -> Path | None:
        paths = [self.root / place / name for place in self.places for name in names]
        return next((path for path in paths if path.is_file()), None)

    def read(self, names: Sequence[str]) -> tuple[bytes, Path]:
        path = self.find(names)
        if path is None:
            where = ", ".join(str(self.root / place) for place in self.places)
            raise ZooError(
                f"{self.what}: {' or '.join(names)} is in none of {where}; download it there or "
                "change data_root"
            )
        data = path.read_bytes()
        self.files[path.name] = hashlib.sha256(data).hexdigest()
        return data, path


def _idx(data: bytes, path: Path) -> np.ndarray:
    """An IDX file of bytes: 0, 0, 8, rank, then the sizes as big-endian int32."""
    data = _decompressed(data, path) if path.suffix == ".gz" else data
    rank = data[3] if data[:3] == b"\x00\x00\x08" and len(data) >= 4 + 4 * data[3] else 0
    start = 4 + 4 * rank
    shape = np.frombuffer(data[4:start], ">i4").tolist()
    if not rank or len(data) != start + math.prod(shape):
        raise ZooError(f"{path}: is not an IDX file of unsigned bytes; download it again")
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def _decompressed(data: bytes, path: Path) -> bytes:
    try:
        return gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise ZooError(f"{path}: cannot be decompressed ({error}); download it again") from None


def _npz(data: bytes, path: Path) -> Images:
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            images, labels = arrays["images"], arrays["labels"]
    except (KeyError, ValueError, OSError) as error:
        raise ZooError(f"{path}: is not an .npz with images and labels ({error})") from None
    if (
        images.shape[1:] != (32, 32, 3)
        or images.dtype != np.uint8
        or labels.shape != images.shape[:1]
    ):
        raise ZooError(
            f"{path}: images must be (N, 32, 32, 3) uint8 with N labels, got {images.shape} "
            f"{images.dtype}"
        )
    return images, labels


def _records(data: bytes, path: Path) -> Images:
    """Records of a label and 3 x 1024 colour bytes."""
    if not data or len(data) % 3073:
        raise ZooError(
            f"{path}: is not a file of CIFAR-10 records of 3073 bytes; download it again"
        )
    records = np.frombuffer(data, np.uint8).reshape(-1, 3073)
    return rearrange(records[:, 1:], "n (c h w) -> n h w c", c=3, h=32), records[:, 0]
