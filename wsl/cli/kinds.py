"""Kinds of values: an override has the kind that its place in the recipe asks for.

What a place asks for is read off the annotation of the parameter, where a ``_target_`` names a
class that says so in plain words (``int | None``); elsewhere off the value that the recipe has.
Ranges are the business of the classes themselves; here no count is let below zero.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from typing import Any

from wsl.cli.targets import ConfigError, flatten, locate

NAMES = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "text",
    "None": "null",
}
LISTED = re.compile(r"(?:tuple|list|Sequence)\[([\w, .]+)\](?: \| None)?")
"""An annotation of a list of plain values; what is in the brackets are the kinds of its items."""


def check_kinds(base: Mapping[str, Any], full: Mapping[str, Any]) -> None:
    """Raise `ConfigError` for the first value of ``full`` of another kind than its place asks for.

    ``base`` is the same recipe without overrides; what equals it is not looked at.
    """
    before, after = dict(flatten(base)), dict(flatten(full))
    for key, value in after.items():
        if key not in before or (value == before[key] and type(value) is type(before[key])):
            continue
        hint = _annotation(key, after)
        if (before[key] and isinstance(before[key], list)) or LISTED.fullmatch(hint):
            _check_list(key, value, before[key], hint=hint)
        else:
            _check_plain(key, value, before[key], kinds=_kinds(hint) or _kind_of(before[key]))


def check_arguments(kind: Any, arguments: Mapping[str, Any], name: str) -> None:
    """Raise `ConfigError` for the first argument of another kind than ``kind`` says in plain words.

    What the class itself does not take is its own affair.
    """
    parameters = inspect.signature(kind).parameters
    for key, value in arguments.items():
        hint = str(parameters[key].annotation) if key in parameters else ""
        _check_plain(f"{name}: {key}", value, None, kinds=_kinds(hint))


def _annotation(key: str, config: Mapping[str, Any]) -> str:
    """How the parameter is annotated that the value at ``key`` is given to; empty if unknown."""
    parent, _, name = key.rpartition(".")
    owner = config.get(parent)
    if not isinstance(owner, Mapping) or "_target_" not in owner or name == "_target_":
        return ""
    try:
        parameter = inspect.signature(locate(owner["_target_"])).parameters.get(name)
    except (TypeError, ValueError):  # some classes that are written in C have no signature
        return ""
    if parameter is None or parameter.annotation is parameter.empty:
        return ""
    hint = parameter.annotation
    return hint if isinstance(hint, str) else inspect.formatannotation(hint)


def _kinds(hint: str) -> set[str]:
    """The words of an annotation in plain words, none for any other."""
    words = {word.strip() for word in re.split(r"[|,]", hint)} - {"..."}
    return words if words <= set(NAMES) else set()


def _kind_of(value: Any) -> set[str]:
    """The kind that a recipe's own value has; none where it leaves the kind open."""
    return {type(value).__name__} if isinstance(value, bool | int | float) else set()


def _check_plain(key: str, value: Any, before: Any, *, kinds: set[str]) -> None:
    if not kinds:
        return
    if not _fits(value, kinds):
        names = NAMES if isinstance(value, float) else {**NAMES, "int": NAMES["float"]}
        wanted = " or ".join(names[kind] for kind in names if kind in kinds)
        raise ConfigError(f"{key} must be {wanted}, got {_shown(value)}")
    # -1 has a meaning of its own for devices, and Settings checks its ranges itself
    counts = isinstance(before, int) and before >= 0 and not key.startswith("settings.")
    if counts and isinstance(value, int | float) and value < 0:
        raise ConfigError(f"{key} is {value}, but it must be at least 0")


def _check_list(key: str, value: Any, before: Any, *, hint: str) -> None:
    """A list where a list is asked for, of items of one kind; null and mappings where they fit."""
    listed = LISTED.fullmatch(hint)
    if (isinstance(value, Mapping) and not listed) or (value is None and hint.endswith("None")):
        return
    items = before if isinstance(before, list) else []
    if not isinstance(value, list):
        such_as = f", such as {_shown(items)}" if items else ""
        raise ConfigError(f"{key} must be a list{such_as}, got {_shown(value)}")
    plain = all(isinstance(item, bool | int | float) for item in items)
    kinds = _kinds(listed[1]) if listed else set().union(*map(_kind_of, items)) if plain else set()
    for number, item in enumerate(value):
        _check_plain(f"{key}.{number}", item, None, kinds=kinds)


def _fits(value: Any, kinds: set[str]) -> bool:
    kind = "None" if value is None else type(value).__name__
    return kind in kinds or (kind == "int" and "float" in kinds)


def _shown(value: Any) -> str:
    return f"'{value}'" if isinstance(value, str) else "null" if value is None else f"{value}"
