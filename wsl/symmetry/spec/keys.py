"""Names in checkpoints beside those of a specification: missing, unknown, changed by a wrapper.

Wrappers put a component of their own into the names of a state dict, in front or in the middle:

    module.conv.weight               DataParallel, DistributedDataParallel, AveragedModel
    _orig_mod.conv.weight            torch.compile
    encoder._orig_mod.conv.weight    a compiled submodule
    _fsdp_wrapped_module.weight      FSDP
    _forward_module.weight           Lightning Fabric

Two names are taken for one tensor if they are equal without these components, and only if that
leaves no choice.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from wsl.base import did_you_mean

T = TypeVar("T")
WRAPPERS = frozenset(
    {"module", "_orig_mod", "_fsdp_wrapped_module", "_forward_module", "_checkpoint_wrapped_module"}
)
_SHOWN = 5


@dataclasses.dataclass(frozen=True)
class KeyReport:
    """How the names of some weights differ from a specification's.

    ``missing`` are names that the weights lack, ``unknown`` names that the specification lacks;
    ``hint`` says what may help.
    """

    missing: tuple[str, ...]
    unknown: tuple[str, ...]
    hint: str = ""

    @property
    def ok(self) -> bool:
        """Whether the names are the same."""
        return not (self.missing or self.unknown)

    def __bool__(self) -> bool:
        return self.ok

    def __str__(self) -> str:
        parts = [_listed("missing", self.missing), _listed("unknown", self.unknown)]
        return "; ".join(filter(None, [*parts, self.hint])) or "the names are the same"


def align_keys(names: Mapping[str, Any], params: Mapping[str, T]) -> dict[str, T]:
    """The entries of ``params``, under one of ``names`` where only a wrapper's components differ.

    A name is changed only where that leaves no choice; others stay as they are.
    """
    ours, theirs = _by_plain_name(names), _by_plain_name(params)
    new: dict[str, str] = {}
    for plain, found in theirs.items():
        free = [name for name in ours.get(plain, []) if name not in params]
        if len(found) == 1 == len(free) and found[0] not in names:
            new[found[0]] = free[0]
    return {new.get(name, name): value for name, value in params.items()}


def compare(names: Mapping[str, Any], params: Mapping[str, Any]) -> KeyReport:
    """Which of ``names`` are missing in ``params``, which there are unknown, and what may help."""
    missing = tuple(name for name in names if name not in params)
    unknown = tuple(name for name in params if name not in names)
    if not (missing and unknown):
        return KeyReport(missing, unknown)
    hint = _wrappers(names, params, len(unknown)) or _hint(missing, unknown)
    return KeyReport(missing, unknown, hint)


def _wrappers(names: Mapping[str, Any], params: Mapping[str, Any], unknown: int) -> str:
    """A hint if without the components of wrappers fewer than ``unknown`` names are unknown."""
    aligned = align_keys(names, params)
    if sum(name not in names for name in aligned) >= unknown:
        return ""
    changed = set(params) ^ set(aligned)
    found = sorted({part for name in changed for part in name.split(".")} & WRAPPERS)
    added = ", ".join(f"{wrapper}." for wrapper in found)
    return f"a wrapper added {added} to the names; spec.align_keys(params) aligns them"


def _hint(missing: tuple[str, ...], unknown: tuple[str, ...]) -> str:
    if prefix := _prefix(missing[0], unknown, missing):
        return f"'{prefix}' stands before every name of the weights; remove it"
    if prefix := _prefix(unknown[0], missing, unknown):
        return f"'{prefix}' is missing before every name of the weights; add it"
    return did_you_mean(missing[0], unknown).strip(" ()")


def _prefix(name: str, longer: tuple[str, ...], names: tuple[str, ...]) -> str:
    """What stands before every one of ``names`` in the longer names, found by ``name``."""
    there = set(longer)
    ends = (other.removesuffix(name) for other in longer if other.endswith(f".{name}"))
    return next((prefix for prefix in ends if all(prefix + each in there for each in names)), "")


def _by_plain_name(names: Iterable[str]) -> dict[str, list[str]]:
    plain: dict[str, list[str]] = {}
    for name in names:
        kept = [part for part in name.split(".") if part not in WRAPPERS]
        plain.setdefault(".".join(kept), []).append(name)
    return plain


def _listed(what: str, names: tuple[str, ...]) -> str:
    if not names:
        return ""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{what}: {', '.join(names[:_SHOWN])}{more}"
