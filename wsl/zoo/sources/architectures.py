"""Which checkpoints are of one architecture, and what an architecture is called.

    key = { (name, shape, type) of every tensor }, and what the file says of how it is built

Names are compared without the components of wrappers, so that a network saved from DataParallel is
of the architecture of its bare copies. Where a specification is given it is the architecture.
"""

from __future__ import annotations

import collections
import hashlib
import itertools
import os
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from torch import Tensor

from wsl.params import Params
from wsl.symmetry import WRAPPERS
from wsl.zoo.reading import SUFFIXES
from wsl.zoo.sources.checkpoint import Checkpoint

_OUTER = frozenset({"model", "net", "network"})
"""What scripts and Lightning call the network that they wrap."""
_SAID = ("architecture", "spec")
"""Notes of exported files that tell apart what shapes do not show, such as activations."""
_GENERIC = re.compile(
    r"(model|pytorch_model|pretrained|checkpoints?|ckpt|epoch|last|best|final|weights|state|net|"
    r"params|run|seed|member)?s?[\W_\d]*\Z"
)
"""Names that say nothing of what a file holds."""


class Told(NamedTuple):
    """An architecture in a list: its name, how many checkpoints, of what, and the first of them."""

    name: str
    count: int
    tensors: int
    values: int
    types: str
    first: str

    def __str__(self) -> str:
        return (
            f"{self.name} ({self.count} checkpoint{'s' * (self.count != 1)} of {self.tensors} "
            f"tensors, {self.values} values, {self.types}; {self.first})"
        )


def plain_names(names: Sequence[str]) -> dict[str, str]:
    """``names`` without wrappers' components, each with its own; as they are if that is ambiguous.

    ``model.``, ``net.`` and ``network.`` are taken for wrappers where every name begins so.
    """
    parts = {name: [p for p in name.split(".") if p not in WRAPPERS] or [name] for name in names}
    while _all_begin_with_a_wrapper(parts.values()):
        parts = {name: p[1:] for name, p in parts.items()}
    plain = {".".join(p): name for name, p in parts.items()}
    return plain if len(plain) == len(parts) else {name: name for name in names}


def _all_begin_with_a_wrapper(parts: Collection[Sequence[str]]) -> bool:
    """Whether all begin with the same wrapper's name, and have something after it."""
    first = {p[0] for p in parts}
    return len(first) == 1 and first <= _OUTER and all(len(p) > 1 for p in parts)


def key_of(item: Checkpoint, params: Mapping[str, Tensor], *, given: bool) -> str:
    """What is equal for checkpoints of one architecture; ``given``: the specification says it."""
    said = [str(item.notes[name]) for name in _SAID if name in item.notes]
    own = (
        []
        if given
        else sorted(
            f"{plain} {tuple(params[name].shape)} {params[name].dtype}"
            for plain, name in plain_names(list(params)).items()
        )
    )
    text = "\n".join([*map(repr, said), *map(repr, own)])
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()


def renamed(params: Params, names: Sequence[str]) -> tuple[Params, str]:
    """``params`` under ``names``, which differ by wrappers at most, and a note if they did."""
    if set(params) == set(names):
        return params, ""
    ours, theirs = plain_names(names), plain_names(list(params))
    new = {theirs[plain]: name for plain, name in ours.items() if plain in theirs}
    old, first = next((pair for pair in new.items() if pair[0] != pair[1]), ("", ""))
    note = f"names differ by a wrapper's prefix, {old} is read as {first}"
    return {new.get(name, name): tensor for name, tensor in params.items()}, note


def architecture_names(origins: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """A name for each key of ``origins``, which lists the checkpoints' places in the source.

    What the names of its files have in common, or else the folder that they share with no other
    architecture; with the beginning of the key where two would be called the same.
    """
    owners: dict[str, set[str]] = {}
    for key, places in origins.items():
        for place in places:
            for above in PurePosixPath(place).parents:
                owners.setdefault(str(above), set()).add(key)
    found = {key: _name(places, owners) for key, places in origins.items()}
    count = collections.Counter(found.values())
    return {key: f"{n}-{key[:6]}" if count[n] > 1 else n for key, n in found.items()}


def _name(places: Sequence[str], owners: Mapping[str, set[str]]) -> str:
    """The folder of its own, where files are called alike in general or nothing in common."""
    paths = [PurePosixPath(place) for place in places]
    stems = list(dict.fromkeys(_stem(path.name) for path in paths))
    common = stems[0] if len(stems) == 1 else _beginning(stems)
    if not _GENERIC.match(common.lower()):
        return _safe(common)
    return _safe(_own_folder(paths, owners) or common or stems[0])


def _own_folder(paths: Sequence[PurePosixPath], owners: Mapping[str, set[str]]) -> str:
    """The name of the nearest folder above all ``paths`` that says something; empty for none."""
    shared = PurePosixPath(os.path.commonpath([str(path.parent) for path in paths]))
    telling = (
        folder.name
        for folder in (shared, *shared.parents)
        if folder.name and len(owners[str(folder)]) == 1 and not _GENERIC.match(folder.name)
    )
    return next(telling, "")


def _stem(name: str) -> str:
    """``name`` without the ending of a checkpoint."""
    ends = [end for end in SUFFIXES if name.lower().endswith(end)]
    return name[: -max(map(len, ends))] if ends else name


def _beginning(names: Sequence[str]) -> str:
    """What all ``names`` begin with, without a number that is cut short."""
    alike = itertools.takewhile(lambda letters: len(set(letters)) == 1, zip(*names, strict=False))
    return "".join(letters[0] for letters in alike).rstrip("-_.=0123456789")


def _safe(text: str) -> str:
    """``text`` as a file may be called anywhere."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", text).strip("._")[:64] or "architecture"


def types_of(dtypes: Mapping[str, Any]) -> str:
    """The floating types among ``dtypes``, or all of them where none is floating."""
    names = {dtype for dtype in dtypes.values() if dtype.is_floating_point} or set(dtypes.values())
    return ", ".join(sorted(str(name).removeprefix("torch.") for name in names))


__all__ = ["Told", "architecture_names", "key_of", "plain_names", "renamed", "types_of"]
