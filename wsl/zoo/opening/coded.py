"""`CodedZoo`: a population of fine-tunes as one base and a code for each row, decoded on read.

    row_i = base + decode(code_i)  of learned tensors;  running statistics and counters as they are

The file is a zip of numpy arrays without pickle, whose own CRC-32s are checked on reading:

    format, header, codec     text: kind of file, header of the zoo, the codec's name and settings
    base (P,) f4              the row that all differ from
    codes (bytes,) u1         one code after another;  offsets (R + 1,) i8: where each begins
    exact (R, E) f4           what is not learned, tensor after tensor
    member, epoch, split, columns/<name>      (R,) each

Rows are not those that were coded: the provenance says by which codec, how many bits a weight has,
and the mean relative error of the residuals. All codes lie in memory, which is what they are for.
"""

from __future__ import annotations

import dataclasses
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wsl.base import explained, replacing
from wsl.params import is_learned
from wsl.zoo.codecs import CODECS, Codec, coded
from wsl.zoo.file import SPLITS, Header, RowLayout, ZooError
from wsl.zoo.rows import Checkpoints

_FORMAT = "wslzoo coded 1"
_FIXED = ("member", "epoch", "split")
_TOLD = ("bits_per_weight", "error")
_DAMAGED = (OSError, ValueError, KeyError, TypeError, EOFError, MemoryError, zipfile.BadZipFile)
"""What numpy and json raise on broken files."""


class CodedZoo(Checkpoints):
    """Read-only view of a coded file; raises `ZooError` if ``path`` is none, or damaged."""

    def __init__(self, path: str | Path) -> None:
        where = Path(path).absolute()
        try:
            self._arrays = _read(where)
            header = Header.from_texts(json.loads(str(self._arrays["header"])))
            self._codec = _codec(json.loads(str(self._arrays["codec"])))
        except _DAMAGED as error:
            raise ZooError(f"{where}: is no coded zoo, or damaged ({error})") from None
        super().__init__(where, header)
        self._learned = _learned(header.layout)
        self._check()

    def __len__(self) -> int:
        return len(self._arrays["member"])

    def __reduce__(self) -> tuple[type, tuple[Path]]:
        return CodedZoo, (self.path,)

    def gather(self, rows: np.ndarray, out: Tensor | None = None) -> Tensor:
        """See `Checkpoints.gather`; every row is decoded anew."""
        if out is None:
            out = torch.empty(len(rows), self.header.layout.size)
        for place, row in zip(out, rows.tolist(), strict=True):
            place.copy_(self._row(row))
        return out

    def verify(self) -> None:
        """Decode every row; the arrays were held against their checksums on opening."""
        for row in range(len(self)):
            self._row(row)

    def _read_table(self) -> np.ndarray:
        fields = {name: self._arrays[name] for name in _FIXED}
        fields |= {name: self._arrays[f"columns/{name}"] for name in self.columns}
        table = np.empty(len(self), dtype=[(name, v.dtype) for name, v in fields.items()])
        for name, values in fields.items():
            table[name] = values
        return table

    def _row(self, row: int) -> Tensor:
        """One row, float32."""
        start, end = self._arrays["offsets"][row : row + 2].tolist()
        shapes = {entry.name: torch.Size(entry.shape) for entry in self._learned}
        try:
            residual = self._codec.decode(self._arrays["codes"][start:end].tobytes(), shapes)
        except ValueError as error:
            raise ZooError(f"{self.path}: row {row}: {error}") from None
        found = torch.from_numpy(self._arrays["base"].copy())
        for entry in self._learned:
            moved = found[entry.start : entry.end] + residual[entry.name].flatten()
            # the type that the tensor has, as if it had been stored so
            found[entry.start : entry.end] = moved.to(self.dtypes[entry.name]).float()
        found[_exact(self.header.layout)] = torch.from_numpy(self._arrays["exact"][row])
        return found

    def _check(self) -> None:
        """Raise `ZooError` unless all arrays fit each other."""
        count, size = len(self), self.header.layout.size
        exact = int(_exact(self.header.layout).sum())
        wanted = {"base": (size,), "offsets": (count + 1,), "exact": (count, exact)}
        names = (*_FIXED, *(f"columns/{name}" for name in self.columns))
        wanted |= dict.fromkeys(names, (count,))
        for name, shape in wanted.items():
            if name not in self._arrays or self._arrays[name].shape != shape:
                raise ZooError(f"{self.path}: {name} is missing or not of shape {shape}")
        offsets, end = self._arrays["offsets"], len(self._arrays["codes"])
        if offsets[0] != 0 or offsets[-1] != end or (np.diff(offsets) < 0).any():
            raise ZooError(f"{self.path}: the offsets do not cut the {end} bytes of codes")


def is_coded(path: str | Path) -> bool:
    """Whether a file is a coded zoo, by its name for itself."""
    try:
        with Path(path).open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return "format" in arrays.files and str(arrays["format"]) == _FORMAT
    except (*_DAMAGED, AttributeError):
        return False


def save_coded(
    zoo: Checkpoints, path: str | Path, *, base: Mapping[str, Tensor], codec: Codec
) -> CodedZoo:
    """Write the rows of ``zoo`` as codes against ``base`` and open the file.

    Raises `ZooError` for a zoo of 2-byte weights, and for a base of other tensors.
    """
    path = Path(path).absolute()
    if zoo.header.dtype != "float32":
        raise ZooError(f"{zoo.path}: is stored as {zoo.header.dtype}; convert it to float32 first")
    codes, exact, told = _coded_rows(zoo, base, codec)
    described = {"name": codec.name, **vars(codec)}
    provenance = {**zoo.provenance, "codec": {**described, **told}}
    header = dataclasses.replace(zoo.header, provenance=provenance).checked()
    like = {name: base[name].to(dtype) for name, dtype in zoo.dtypes.items()}
    arrays: dict[str, np.ndarray] = {
        "format": np.array(_FORMAT),
        "header": np.array(json.dumps(header.to_texts())),
        "codec": np.array(json.dumps(described)),
        "base": header.layout.pack_one(like)[0],
        "codes": np.frombuffer(b"".join(codes), np.uint8),
        "offsets": np.cumsum([0, *map(len, codes)]),
        "exact": exact,
        **{name: zoo.table[name] for name in _FIXED},
        **{f"columns/{name}": zoo.table[name] for name in zoo.columns},
    }
    _write(path, arrays)
    return CodedZoo(path)


def _write(path: Path, arrays: Mapping[str, Any]) -> None:
    with explained(path, ZooError), replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def _coded_rows(
    zoo: Checkpoints, base: Mapping[str, Tensor], codec: Codec
) -> tuple[list[bytes], np.ndarray, dict[str, float]]:
    """The code of every row, what is kept of it, and mean bits for a weight and mean error."""
    layout, found, kept = zoo.header.layout, [], []
    mask = _exact(layout).numpy()
    for params, _ in zoo:
        try:
            found.append(coded(params, {name: base[name] for name in params}, codec))
        except (KeyError, ValueError) as error:
            raise ZooError(f"{zoo.path}: the base does not fit its rows: {error}") from None
        kept.append(layout.pack_one(params)[0][mask])
    told = {name: float(np.mean([getattr(c, name) for c in found])) for name in _TOLD}
    return [each.data for each in found], np.stack(kept), told


def _learned(layout: RowLayout) -> list[Any]:
    dtypes = layout.dtypes
    return [e for e in layout.entries if is_learned(e.name, torch.empty(0, dtype=dtypes[e.name]))]


def _exact(layout: RowLayout) -> Tensor:
    """Which values of a row are kept as they are, (P,) bool."""
    kept = torch.ones(layout.size, dtype=torch.bool)
    for entry in _learned(layout):
        kept[entry.start : entry.end] = False
    return kept


def _read(path: Path) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(path) as packed:
        if any(each.compress_type != zipfile.ZIP_STORED for each in packed.infolist()):
            raise ValueError("its arrays are compressed, which no coded zoo's are")
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        found = {name: arrays[name] for name in arrays.files}
    _check_head(found)
    return found


def _check_head(found: Mapping[str, np.ndarray]) -> None:
    if str(found.get("format")) != _FORMAT:
        raise ValueError(f"its format is not {_FORMAT!r}")
    if not set(np.unique(found["split"]).tolist()) <= set(SPLITS):
        raise ValueError("a split is unknown")


def _codec(described: Mapping[str, Any]) -> Codec:
    """The codec of a file; only those of the table are made."""
    settings = {name: value for name, value in described.items() if name != "name"}
    return CODECS[described["name"]](**settings)
