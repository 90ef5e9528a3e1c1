"""What kind of file something is, told by its first bytes; and what to say of files that are none.

A name says little: checkpoints are called .pt, .pth.tar, .bin or nothing at all, and what stands
under such a name may be a page that a server sent instead. So files are told apart by content.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

from wsl.zoo.file import ZooError

SAFETENSORS, PICKLED, NPZ = "safetensors", "torch", "npz"
"""The kinds that are read."""

_HEAD = 4096
_EMPTY = "is empty; a download or a copy was cut short"
_OLD_TORCH = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19"
_ADVICE = "save model.state_dict() with safetensors.torch.save_file or torch.save"

_UNKNOWN = (
    "is not a readable PyTorch checkpoint, nor one of safetensors or NumPy; it is damaged, or "
    f"something else; {_ADVICE}"
)

_STARTS: tuple[tuple[bytes, str], ...] = (
    (
        b"version https://git-lfs",
        "is a Git LFS pointer, not the file itself; run 'git lfs pull' where it was cloned, or "
        "download it again",
    ),
    (b"GGUF", f"is a GGUF file of quantised weights, which are not read; {_ADVICE}"),
    (
        b"\x89HDF",
        "is an HDF5 file; 'wsl zoo import --kind flat-hdf5' reads tables of weights in "
        f"HDF5, a Keras model has to be exported: {_ADVICE}",
    ),
    (b"\x1f\x8b", "is compressed with gzip; unpack it first"),
    (b"BZh", "is compressed with bzip2; unpack it first"),
    (b"\xfd7zXZ", "is compressed with xz; unpack it first"),
    (b"7z\xbc\xaf", "is a 7z archive; unpack it first"),
    (b"Rar!", "is a RAR archive; unpack it first"),
    (b"\x93NUMPY", "is a single NumPy array without a name; numpy.savez gives names to arrays"),
)
"""First bytes of what is often taken for a checkpoint, and what to do with it."""


def kind_of(path: Path) -> str:
    """`SAFETENSORS`, `PICKLED` or `NPZ`; raises `ZooError` saying what else the file is."""
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if not head:
        raise ZooError(f"{path}: {_EMPTY}")
    for start, told in _STARTS:
        if head.startswith(start):
            raise ZooError(f"{path}: {told}")
    if zipfile.is_zipfile(path):
        return _kind_of_archive(path)
    if _is_safetensors(head):  # before pickles: a header of 128 bytes begins as they do
        return SAFETENSORS
    if head[:1] == b"\x80":
        return PICKLED
    raise ZooError(f"{path}: {_told(head, path)}")


def foreign(path: Path) -> str | None:
    """What a file not called a checkpoint may be of all the same: a sentence, or None for nothing.

    The file is not read beyond its first bytes and the list of an archive's entries.
    """
    try:
        kind = kind_of(path)
    except ZooError as error:
        told = str(error).removeprefix(f"{path}: ")
        return None if told in (_UNKNOWN, _EMPTY) else told
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    if kind == PICKLED and not zipfile.is_zipfile(path) and not _is_old_torch(path):
        return "is a pickle of something else, which is not opened"
    written = {PICKLED: "a PyTorch", NPZ: "a NumPy"}.get(kind, "a safetensors")
    return (
        f"is {written} file, though its name does not say so; rename it, or import it alone, by "
        "its name"
    )


def _is_old_torch(path: Path) -> bool:
    """Before its zip archives torch began its pickles with a number of its own."""
    with path.open("rb") as file:
        return _OLD_TORCH in file.read(32)


def _kind_of_archive(path: Path) -> str:
    """PyTorch, NumPy, TorchScript and Keras all write zip archives."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise ZooError(f"{path}: is a damaged archive ({error}); get it again") from None
    ends = {name.rpartition("/")[2] for name in names}
    if "constants.pkl" in ends or any("/code/" in name for name in names):
        raise ZooError(
            f"{path}: is a TorchScript program, which would have to be run; load it with "
            f"torch.jit.load where you trust it, and {_ADVICE}"
        )
    if "model.weights.h5" in ends:
        raise ZooError(f"{path}: is a Keras model; export its weights: {_ADVICE}")
    if "data.pkl" in ends:
        return PICKLED
    if names and all(name.endswith(".npy") for name in names):
        return NPZ
    raise ZooError(f"{path}: is a zip archive that holds no checkpoint; unpack it first")


def _is_safetensors(head: bytes) -> bool:
    """Eight bytes of length, then a JSON object: the format's own beginning."""
    return len(head) > 8 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 1 << 40


def _told(head: bytes, path: Path) -> str:
    text = head.lstrip()[:64].lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        return (
            "is a web page, not a checkpoint: the server answered with a page, often one that "
            "asks to log in; download it again"
        )
    if path.suffix == ".onnx" or b"onnx" in head[:64]:
        return (
            "is an ONNX graph, whose weights have lost the names of the network; where it is at "
            f"hand in PyTorch, {_ADVICE}"
        )
    if head[257:262] == b"ustar":
        return "is a tar archive; unpack it first"
    if path.suffix == ".safetensors":
        return "is not a readable safetensors file (its header is damaged or cut short)"
    return _UNKNOWN
