"""Names in checkpoints beside those of a specification: what is missing, unknown, or changed by a
wrapper.

Wrappers put a component of their own into the names of a state dict, in front or in the middle:

    module.conv.weight                DataParallel, DistributedDataParallel, AveragedModel
    _orig_mod.conv.weight             torch.compile          _fsdp_wrapped_module.   FSDP
    encoder._orig_mod.conv.weight     a compiled submodule   _forward_module.        Lightning
        Fabric

Two names are taken for one tensor if they are equal without these components, and only if that
leaves no choice.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from wsl.base import did_you_mean

if TYPE_CHECKING:
    from wsl.symmetry.spec.specification import PermutationSpec

T = TypeVar("T")
WRAPPERS = frozenset(
    {"module", "_orig_mod", "_fsdp_wrapped_module", "_forward_module", "_checkpoint_wrapped_module"}
)
_SHOWN = 5


@dataclasses.dataclass(frozen=True)
class KeyReport:
    """How the names of some weights differ from a specification's: what it lacks, what it does not
    know, and a hint.
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


def align_keys(spec: PermutationSpec, params: Mapping[str, T]) -> dict[str, T]:
    """The same entries under the specification's names where only wrappers' components differ;
    others keep their names.
    """
    ours, theirs = _by_plain_name(spec.axes), _by_plain_name(params)
    new: dict[str, str] = {}
    for plain, names in theirs.items():
        free = [name for name in ours.get(plain, []) if name not in params]
        if len(names) == 1 == len(free) and names[0] not in spec.axes:
            new[names[0]] = free[0]
    return {new.get(name, name): value for name, value in params.items()}


def compare(spec: PermutationSpec, params: Mapping[str, Any]) -> KeyReport:
    """What a specification lacks and does not know of these names, and what may help."""
    missing = tuple(name for name in spec.axes if name not in params)
    unknown = tuple(name for name in params if name not in spec.axes)
    return KeyReport(
        missing, unknown, _hint(spec, params, missing, unknown) if missing and unknown else ""
    )


def _hint(
    spec: PermutationSpec,
    params: Mapping[str, Any],
    missing: tuple[str, ...],
    unknown: tuple[str, ...],
) -> str:
    aligned = align_keys(spec, params)
    if sum(name not in spec.axes for name in aligned) < len(unknown):
        found = sorted(
            {part for name in set(params) ^ set(aligned) for part in name.split(".")} & WRAPPERS
        )
        added = ", ".join(f"{wrapper}." for wrapper in found)
        return f"a wrapper added {added} to the names; spec.align_keys(params) aligns them"
    if prefix := _prefix(missing[0], unknown, missing):
        return f"'{prefix}' stands before every name of the weights; remove it"
    if prefix := _prefix(unknown[0], missing, unknown):
        return f"'{prefix}' is missing before every name of the weights; add it"
    return did_you_mean(missing[0], unknown).strip(" ()")


def _prefix(name: str, longer: tuple[str, ...], names: tuple[str, ...]) -> str:
    """What stands before ``name`` in one of the longer names, if it gives a longer name before
    every one of ``names``.
    """
    there = set(longer)
    ends = (other.removesuffix(name) for other in longer if other.endswith(f".{name}"))
    return next((prefix for prefix in ends if all(prefix + each in there for each in names)), "")


def _by_plain_name(names: Iterable[str]) -> dict[str, list[str]]:
    plain: dict[str, list[str]] = {}
    for name in names:
        plain.setdefault(
            ".".join(part for part in name.split(".") if part not in WRAPPERS), []
        ).append(name)
    return plain


def _listed(what: str, names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:_SHOWN]) + (
        f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    )
    return f"{what}: {shown}" if names else ""
