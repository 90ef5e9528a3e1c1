"""The header of a zoo file: what its attributes say, as one value, to text and back.

    /weights (R, P) f4    /member (R,) i4    /epoch (R,) i4    /crc32 (R,) u4    /split (M,) u1
    /columns/<name> (R,)

The schema is in ``docs/zoo_format.md``. Reading trusts nothing: sizes of texts are bounded before
they are parsed, and every statement is checked against the others. No HDF5 here: `reader` fetches
the attributes and holds them against the file itself, `create` writes them.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import zlib
from collections.abc import Mapping
from typing import Any

from wsl.symmetry import PermutationSpec, SpecError
from wsl.zoo.file.columns import KINDS, check_names
from wsl.zoo.file.error import ZooError
from wsl.zoo.file.layout import RowLayout
from wsl.zoo.file.storage import STORED, TORCH

FORMAT, VERSION = "wslzoo", 2
SPLITS = ("train", "val", "test")
"""Names of the codes in ``/split``."""
TEXTS = {
    1: ("spec", "architecture", "layout", "columns", "provenance", "checksums"),
    2: ("dtype", "spec", "architecture", "layout", "columns", "provenance", "checksums"),
}
"""Attributes that hold text, by version: the type of the weights, the specification, and JSON."""
MAX_TEXT = 4 << 20
"""Longest text attribute, in bytes."""
_MAX_LINE = 16 << 10
_NESTED = re.compile(r"\([^()]*[(+]")


@dataclasses.dataclass(frozen=True)
class Header:
    """What the attributes of a file say.

    One architecture, its specification and layout, the metadata columns (name to kind) and a
    checksum for each dataset.
    """

    spec: PermutationSpec
    layout: RowLayout
    columns: Mapping[str, str]
    architecture: dict[str, Any] | None
    provenance: dict[str, Any]
    checksums: Mapping[str, int] = dataclasses.field(default_factory=dict)
    dtype: str = "float32"

    def __post_init__(self) -> None:
        if self.dtype not in list(STORED):
            raise ZooError(f"dtype: {str(self.dtype)[:80]!r} is not one of {', '.join(STORED)}")
        if self.dtype != "float32":
            for name, dtype in self.layout.dtypes.items():
                if dtype.is_floating_point and dtype != TORCH[self.dtype]:
                    raise ZooError(
                        f"layout: {name}: is {dtype}, but all floating tensors of this file are "
                        f"{self.dtype}"
                    )
        check_names(self.columns)
        check_fit(self.spec, self.layout)

    def to_texts(self) -> dict[str, str]:
        """The text attributes."""
        return {
            "dtype": self.dtype,
            "spec": str(self.spec),
            "architecture": to_json("architecture", self.architecture),
            "layout": to_json("layout", self.layout.to_json()),
            "columns": to_json(
                "columns", [{"name": name, "dtype": kind} for name, kind in self.columns.items()]
            ),
            "provenance": to_json("provenance", self.provenance),
            "checksums": to_json("checksums", dict(self.checksums)),
        }

    @classmethod
    def from_texts(cls, texts: Mapping[str, str]) -> Header:
        """Read untrusted text attributes; raises `ZooError` naming the one that is wrong."""
        layout = RowLayout.from_json(from_json("layout", texts["layout"]))
        architecture, provenance = _read_origin(texts)
        columns = _read_columns(from_json("columns", texts["columns"]))
        return cls(
            read_spec(texts["spec"]),
            layout,
            columns,
            architecture,
            provenance,
            _read_checksums(from_json("checksums", texts["checksums"]), columns),
            texts["dtype"],
        )

    def checked(self) -> Header:
        """This header as a reader will see it; raises `ZooError` if one would refuse it."""
        texts = dataclasses.replace(
            self, checksums=dict.fromkeys(datasets(self.columns), 0)
        ).to_texts()
        for name, text in texts.items():
            if len(text.encode()) > MAX_TEXT:
                raise ZooError(
                    f"{name}: is {len(text.encode())} bytes of text; at most {MAX_TEXT} can be "
                    "stored"
                )
        return Header.from_texts(texts)

    @property
    def identity(self) -> str:
        """SHA-256 of everything but the checksums: builds that may be merged have it in common."""
        content = [
            self.dtype,
            str(self.spec),
            self.layout.to_json(),
            self.architecture,
            self.provenance,
            list(self.columns.items()),
        ]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def datasets(columns: Mapping[str, str]) -> list[str]:
    """Paths in the file of all datasets with a checksum.

    The rows of ``/weights`` have theirs in ``/crc32``.
    """
    return ["member", "epoch", "crc32", "split", *(f"columns/{name}" for name in columns)]


def checksum(state: str, size: int, texts: Mapping[str, str], *, version: int = VERSION) -> int:
    """CRC-32 over format, version, state, P and all text attributes.

    Each text is preceded by its length.
    """
    crc = zlib.crc32(f"{FORMAT} {version} {state} {size}".encode())
    for name in TEXTS[version]:
        data = texts[name].encode()
        crc = zlib.crc32(data, zlib.crc32(f" {name} {len(data)} ".encode(), crc))
    return crc


def upgrade(version: int, texts: Mapping[str, str]) -> dict[str, str]:
    """The text attributes of an older version as `VERSION` would have them.

    Version 1 knew float32 alone.
    """
    return {"dtype": "float32", **texts} if version == 1 else dict(texts)


def check_fit(spec: PermutationSpec, layout: RowLayout) -> None:
    """Raise `ZooError` unless specification and layout have the same tensors of the same shapes."""
    shapes = {entry.name: list(entry.shape) for entry in layout.entries}
    if difference := set(shapes) ^ set(spec.axes):
        name = min(difference)
        raise ZooError(
            f"spec: {name}: is "
            f"{'stored but not annotated' if name in shapes else 'annotated but not stored'}; "
            "specification and weights must come from the same architecture"
        )
    for name, axes in spec.axes.items():
        sizes = [spec.axis_size(axis) for axis in axes]
        if sizes != shapes[name]:
            raise ZooError(
                f"spec: {name}: the annotation has shape {tuple(sizes)}, but the stored tensor has "
                f"{tuple(shapes[name])}"
            )


def to_json(name: str, content: Any) -> str:
    """JSON text (tuples become lists).

    Raises `ZooError` on what JSON cannot hold, such as NaN, tensors and paths.
    """
    try:
        return json.dumps(content, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ZooError(
            f"{name}: cannot be written as JSON ({error}); use dicts, lists, text and finite "
            "numbers"
        ) from None


def from_json(name: str, text: str) -> Any:
    """Parse untrusted text."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ZooError(f"{name}: is not readable JSON ({type(error).__name__}: {error})") from None


def _read_origin(texts: Mapping[str, str]) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    architecture, provenance = (
        from_json(name, texts[name]) for name in ("architecture", "provenance")
    )
    if not isinstance(architecture, (dict, type(None))) or not isinstance(provenance, dict):
        raise ZooError("architecture, provenance: must be JSON objects")
    return architecture, provenance


def _read_checksums(content: Any, columns: Mapping[str, str]) -> dict[str, int]:
    expected = datasets(columns)
    if not isinstance(content, dict) or set(content) != set(expected):
        raise ZooError(f"checksums: must hold one number for each of {', '.join(expected)[:400]}")
    if any(type(value) is not int for value in content.values()):
        raise ZooError("checksums: must be integers")
    return content


def _read_columns(content: Any) -> dict[str, str]:
    if not isinstance(content, list) or any(
        not isinstance(item, dict) or set(item) != {"name", "dtype"} for item in content
    ):
        raise ZooError("columns: must be a list of objects with name and dtype")
    if any(item["dtype"] not in list(KINDS) for item in content):
        raise ZooError(f"columns: a dtype is not one of {', '.join(KINDS)}")
    check_names(item["name"] for item in content)
    if len({item["name"] for item in content}) != len(content):
        raise ZooError("columns: a column is named twice")
    return {item["name"]: item["dtype"] for item in content}


def read_spec(text: str) -> PermutationSpec:
    """Parse the untrusted text of a specification.

    It must be in normal form, where products hold no sums: to distribute a hostile one may take all
    memory.
    """
    for line in text.splitlines():
        name, colon, axes = line.rpartition(":")
        if colon and (len(axes) > _MAX_LINE or _NESTED.search(axes)):
            raise ZooError(
                f"spec: {name.strip()[:80]}: is not in the normal form that str(spec) writes"
            )
    try:
        return PermutationSpec.parse(text)
    except (SpecError, ValueError, RecursionError) as error:
        raise ZooError(f"spec: {str(error)[:400]}") from None
