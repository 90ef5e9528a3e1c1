"""How `fuzz_checkpoints.py` makes a case: a mutation writes into a folder and returns its path."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save, save_file
from torch import Tensor

SHAPES = {"0.weight": (4, 2), "0.bias": (4,), "2.weight": (3, 4), "2.bias": (3,)}
Random = np.random.Generator


def weights(random: Random) -> dict[str, Tensor]:
    """One member: a small network's state dict, every value different."""
    return {
        name: torch.from_numpy(random.normal(size=shape).astype(np.float32))
        for name, shape in SHAPES.items()
    }


def pick(random: Random, items: Any) -> Any:
    items = list(items)
    return items[int(random.integers(len(items)))]


def damaged(data: bytes, random: Random, start: int = 0, end: int | None = None) -> bytes:
    """A few bytes between ``start`` and ``end`` changed, or the file cut, lengthened or spliced."""
    end = len(data) if end is None else min(end, len(data))
    how = random.integers(8)
    if how == 0:
        return bytes(data[: int(random.integers(len(data)))])
    if how == 1:
        return bytes(data) + random.bytes(int(random.integers(1, 64)))
    if how == 2:
        a, b = sorted(random.integers(start, end, size=2).tolist())
        return bytes(data[:a] + data[b:])
    new = bytearray(data)
    for _ in range(int(pick(random, (1, 1, 2, 4, 16)))):
        place = int(random.integers(start, end))
        new[place] = (
            new[place] ^ (1 << int(random.integers(8))) if how < 5 else int(random.integers(256))
        )
    return bytes(new)


def header_bytes(folder: Path, random: Random) -> Path:
    data = save(weights(random), {"note": "x"})
    size = 8 + struct.unpack("<Q", data[:8])[0]
    return written(folder / "b.safetensors", damaged(data, random, 0, size))


def header_length(folder: Path, random: Random) -> Path:
    data = save(weights(random))
    size = struct.unpack("<Q", data[:8])[0]
    lengths = (0, 1, size - 1, size + 1, len(data), len(data) * 2, 1 << 20, 1 << 40, (1 << 64) - 1)
    return written(folder / "b.safetensors", struct.pack("<Q", pick(random, lengths)) + data[8:])


def header_fields(folder: Path, random: Random) -> Path:
    """Fields of the header exchanged for others, and the length made to fit."""
    data = save(weights(random))
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + size])
    for _ in range(int(pick(random, (1, 1, 2)))):
        name = pick(random, header)
        entry = header[name] if isinstance(header[name], dict) else {}
        field = pick(
            random, ("dtype", "shape", "data_offsets", "name", "drop", "whole", "metadata")
        )
        if field == "dtype":
            kinds = ("F64", "F16", "BF16", "I32", "I64", "U8", "BOOL", "F8_E4M3", "F4", "", 3, None)
            entry["dtype"] = pick(random, kinds)
        elif field == "shape":
            shapes: tuple[Any, ...] = (
                [8],
                [2, 4],
                [4, 2, 1],
                [],
                [0],
                [-4, -2],
                [1 << 40, 1 << 40],
            )
            entry["shape"] = pick(random, (*shapes, [2.5], "4", None, [[4]], [True, 8]))
        elif field == "data_offsets":
            offsets: tuple[Any, ...] = ([0, 32], [0, 0], [32, 0], [-8, 24], [0, 1 << 60])
            entry["data_offsets"] = pick(random, (*offsets, [0], None, [1.5, 3], [0, 31], [4, 36]))
        elif field == "name":
            odd = ("", "x" * 3000, "a\nb", "../x", "\ud800", "0.weight ", "module.0.weight", "Ω")
            header[pick(random, odd)] = header.pop(name)
        elif field == "drop":
            del header[name]
        elif field == "whole":
            header[name] = pick(random, ([], 3, None, "x", {}, {"dtype": "F32"}))
        else:
            about = ({}, {"a": 1}, [], {"order": "[1]"}, {"order": "[" * 999}, {"epoch": "3"}, 7)
            header["__metadata__"] = pick(random, about)
        if not header:
            break
    text = json.dumps(header).encode()
    if random.random() < 0.1:
        text = text.replace(b'"0.bias"', b'"0.weight"')
    return written(folder / "b.safetensors", struct.pack("<Q", len(text)) + text + data[8 + size :])


def shards(folder: Path, random: Random) -> Path:
    """A sharded folder in which something is missing, given twice, left over or not JSON."""
    place = folder / "shards"
    place.mkdir()
    theta = weights(random)
    files = [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    where = {name: files[i // 2] for i, name in enumerate(theta)}
    parts = {f: {n: theta[n] for n in theta if where[n] == f} for f in files}
    index: Any = {"metadata": {"total_size": 1}, "weight_map": where}
    how = pick(random, (*range(13), "none"))
    if how == 0:
        del parts[pick(random, files)]
    elif how == 1:
        parts[files[0]]["2.bias"] = torch.zeros(3)
    elif how == 2:
        parts["model-00003-of-00003.safetensors"] = {"z.weight": torch.ones(2, 2)}
    elif how == 3:
        parts[files[1]]["extra.weight"] = torch.ones(2, 2)
    elif how == 4:
        del where[pick(random, where)]
    elif how == 5:
        where[pick(random, ("ghost", "", "0.weight.x"))] = files[0]
    elif how == 6:
        name = pick(random, where)
        where[name] = pick(
            random, ("../a.safetensors", "/etc/passwd", "", ".", 3, None, [], "no", "a\0b")
        )
    elif how == 7:
        index = pick(random, ([], {}, 3, None, {"weight_map": []}, {"weight_map": {}}, "x"))
    elif how == 8:
        where[pick(random, where)] = files[int(random.integers(2))]
    for file, part in parts.items():
        save_file(part, place / file)
    text = json.dumps(index).encode()
    if how in (9, 10):
        text = damaged(text, random)
    if how == 11:
        text = pick(
            random,
            (b"[" * 100_000, b"", b"\xff\xfe{", b'{"weight_map": NaN}', b"\xef\xbb\xbf" + text),
        )
    if how == 12:
        file = place / pick(random, files)
        file.write_bytes(damaged(file.read_bytes(), random))
    (place / "model.safetensors.index.json").write_bytes(text)
    return place


def torch_archive(folder: Path, random: Random) -> Path:
    """Torch's zip archive, damaged anywhere, mostly in its pickle."""
    buffer = io.BytesIO()
    torch.save(nest(random), buffer)
    data = buffer.getvalue()
    if random.random() < 0.5:
        return written(folder / "b.pt", damaged(data, random))
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    name = next(name for name in parts if name.endswith("data.pkl"))
    how = random.random()
    if how < 0.7:
        parts[name] = damaged(parts[name], random)
    elif how < 0.85:
        del parts[pick(random, parts)]
    else:
        other = pick(random, parts)
        parts[other] = damaged(parts[other], random) if parts[other] else b"x"
    kind = zipfile.ZIP_DEFLATED if random.random() < 0.1 else zipfile.ZIP_STORED
    with zipfile.ZipFile(folder / "b.pt", "w", kind) as archive:
        for part, content in parts.items():
            archive.writestr(part, content)
    return folder / "b.pt"


def old_torch(folder: Path, random: Random) -> Path:
    buffer = io.BytesIO()
    torch.save(nest(random), buffer, _use_new_zipfile_serialization=False)
    data = buffer.getvalue()
    return written(folder / "b.pth", data if random.random() < 0.1 else damaged(data, random))


ODD_KEYS: tuple[Any, ...] = (
    "",
    " ",
    "a\nb",
    "Ω",
    "x" * 400,
    7,
    -1,
    2.5,
    True,
    (1, 2),
    "a/b",
    "..",
    "0",
)
ODD_KEYS = (*ODD_KEYS, "state_dict", "optimizer", "epoch", "member", "split", "record", "source")


def odd_value(random: Random) -> Any:
    makers: tuple[Callable[[], Any], ...] = (
        lambda: None,
        lambda: 3,
        lambda: -1,
        lambda: 2**70,
        lambda: float("nan"),
        lambda: "text\0with",
        lambda: "y" * 9000,
        lambda: b"bytes",
        lambda: [],
        lambda: {},
        lambda: [1, "a", None],
        lambda: {"lr": 0.1, 3: {"deep": [1, 2]}},
        lambda: torch.Size([1, 2]),
        lambda: 1 + 2j,
        lambda: {1, 2},
    )
    return pick(random, makers)()


def odd_tensor(random: Random) -> Tensor:
    makers: tuple[Callable[[], Tensor], ...] = (
        lambda: torch.tensor(3.5),
        lambda: torch.zeros(0, 3),
        lambda: torch.ones(2, 3, dtype=torch.complex64) * float(random.normal()),
        lambda: torch.arange(5) + int(random.integers(100)),
        lambda: torch.tensor([True, False, True]),
        lambda: torch.randn(3, 3).to(torch.float8_e4m3fn),
        lambda: torch.randn(3, 3).half(),
        lambda: torch.randn(3, 3).double(),
        lambda: torch.eye(3).to_sparse(),
        lambda: torch.eye(3).to_sparse_csr(),
        lambda: torch.quantize_per_tensor(torch.randn(3, 3), 0.1, 0, torch.qint8),
        lambda: torch.empty(3, 3, device="meta"),
        lambda: torch.ones(1).expand(1000, 1000, 1000),
        lambda: torch.randn(6, 6)[::2, ::3],
        lambda: torch.tensor([float("inf"), float("nan"), 1.0]),
        lambda: torch.nn.Parameter(torch.randn(2, 2)),
        lambda: torch.full((2, 2), 2**40 + 1),
        lambda: torch.randn([1] * 20),
    )
    torch.manual_seed(int(random.integers(1 << 30)))
    return pick(random, makers)()


def nest(random: Random) -> Any:
    """A state dict as training scripts wrap it, perhaps with odd things in it and beside it."""
    theta: Any = weights(random)
    how = random.random()
    if how < 0.15:
        theta = {
            f"{pick(random, ('module.', 'model.', '_orig_mod.', 'net.'))}{n}": t
            for n, t in theta.items()
        }
    elif how < 0.3:
        del theta[pick(random, theta)]
    elif how < 0.45:
        theta[pick(random, theta)] = odd_tensor(random)
    elif how < 0.6:
        theta[pick(random, ODD_KEYS)] = odd_tensor(random)
    elif how < 0.7:
        theta[pick(random, ODD_KEYS)] = odd_value(random)
    elif how < 0.75:
        theta = OrderedDict(reversed(theta.items()))
    content: Any = theta
    for _ in range(int(pick(random, (0, 0, 1, 1, 2, 3, 6)))):
        wrap = pick(random, ("dict", "dict", "list", "two", "tuple"))
        key = pick(random, ("state_dict", "model", "net", "ema", "weights", 3, "", "a.b"))
        if wrap == "dict":
            content = {key: content}
            if random.random() < 0.6:
                content[pick(random, ODD_KEYS)] = odd_value(random)
            if random.random() < 0.3:
                content[pick(random, ODD_KEYS)] = odd_tensor(random)
            if random.random() < 0.3:
                content["optimizer"] = {
                    "state": {0: {"exp_avg": torch.ones(3)}},
                    "param_groups": [{}],
                }
        elif wrap == "two":
            content = {
                key: content,
                pick(random, ("ema", "discriminator", "best")): weights(random),
            }
        else:
            items = [content, *(weights(random) for _ in range(int(random.integers(3))))]
            content = items if wrap == "list" else tuple(items)
    return content


def circles(folder: Path, random: Random) -> Path:
    """A nest that holds itself, or one part so often that nobody could walk through it."""
    theta, how = weights(random), random.integers(4)
    content: Any = {"state_dict": theta, "epoch": 3}
    if how == 0:
        content["self"] = content
    elif how == 1:
        content["self"] = [content, [content]]
    else:
        box: Any = [theta] if how == 2 else [0.5]
        for _ in range(30):
            box = [box] * 30 if random.random() < 0.5 else {str(i): box for i in range(30)}
        content["many"] = box
    torch.save(content, folder / "b.pt")
    return folder / "b.pt"


def nests(folder: Path, random: Random) -> Path:
    torch.save(nest(random), folder / "b.ckpt")
    return folder / "b.ckpt"


def npz(folder: Path, random: Random) -> Path:
    arrays: dict[str, Any] = {name: tensor.numpy() for name, tensor in weights(random).items()}
    odd: tuple[Any, ...] = (
        np.array("text"),
        np.array([1, "a"], dtype=object),
        np.arange(6, dtype=">f4").reshape(2, 3),
        np.zeros((0, 3)),
        np.float64(3),
        np.zeros(3, dtype=[("a", "f4"), ("b", "i4")]),
        np.array(["2020-01-01"], dtype="datetime64[D]"),
        np.ones((2, 2), dtype=np.complex128),
        np.ones(3, dtype=np.uint16),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.ones(3, dtype=np.longdouble),
    )
    if random.random() < 0.6:
        name = pick(random, (*arrays, "extra", "a b", "Ω", "epoch"))
        arrays[name] = pick(random, odd)
    if random.random() < 0.1:
        arrays = {}
    buffer = io.BytesIO()
    (np.savez_compressed if random.random() < 0.2 else np.savez)(buffer, **arrays)
    data = buffer.getvalue()
    return written(folder / "b.npz", damaged(data, random) if random.random() < 0.5 else data)


def names(folder: Path, random: Random) -> Path:
    """A good checkpoint under an odd name, with others beside it."""
    odd = ("a b", "a=b", "a#b", "[x]", "{y}", "%41", "Ωжあ", "a'b", 'a"b', "a\nb", "-x", "~", "a:b")
    odd = (*odd, "x" * 200, "$(id)", "a\\b", "\udcff", "*", "epoch=3-step=7", "a: b", "a;b", "CON")
    name = pick(random, odd)
    suffix = pick(random, (".pt", ".safetensors", ".ckpt", ".pth.tar", ".PT", ".bin", ".npz", ""))
    path = folder / f"{name}{suffix}"
    save_file(weights(random), path) if suffix == ".safetensors" else torch.save(
        weights(random), path
    )
    if random.random() < 0.5:
        torch.save(weights(random), folder / "other.pt")
    if random.random() < 0.2:
        (folder / "last.ckpt").symlink_to(path.name)
    return path


def something_else(folder: Path, random: Random) -> Path:
    starts = (
        b"",
        b"\0",
        b"{}",
        b"<!DOCTYPE html>",
        b"version https://git-lfs",
        b"PK\x03\x04",
        b"\x80\x02.",
    )
    starts = (
        *starts,
        b"\x80\x04N.",
        b"GGUF",
        b"\x89HDF\r\n\x1a\n",
        b"\x1f\x8b\x08",
        b"\x93NUMPY\x01\0",
    )
    starts = (
        *starts,
        b"\x80\x02cos\nsystem\n(S'true'\ntR.",
        b"(lp0\n.",
        b"null",
        b"PK\x05\x06" + b"\0" * 18,
    )
    starts = (*starts, struct.pack("<Q", 2) + b"{}", struct.pack("<Q", 1 << 62) + b"{")
    data = pick(random, starts) + (
        random.bytes(int(random.integers(200))) if random.random() < 0.5 else b""
    )
    suffix = pick(random, (".pt", ".pth", ".bin", ".safetensors", ".npz", ".ckpt", ".pth.tar"))
    return written(folder / f"b{suffix}", data)


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


MUTATIONS: dict[str, Callable[[Path, Random], Path]] = {
    "safetensors bytes": header_bytes,
    "safetensors length": header_length,
    "safetensors fields": header_fields,
    "shards": shards,
    "torch archive": torch_archive,
    "older pickle": old_torch,
    "nests": nests,
    "circles": circles,
    "npz": npz,
    "names": names,
    "something else": something_else,
}
"""Each equally often."""
