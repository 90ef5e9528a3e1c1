"""Objects by description: a table's name, or a ``_target_`` with its arguments, built and checked.

    weight                                        a name of the family's table
    weight max_sweeps=10                          the same with arguments
    weight: {max_sweeps: 10}                      the same as YAML
    {_target_: my_package.Nearest, steps: 3}      any class, as a recipe writes it
    matcher.yaml                                  a file that holds one of these

Only what is defined in ``wsl``, or in a package that registered the entry-point group
``wsl.recipes``, may be named, unless ``--trust-config`` is given: a recipe is data, and data must
not run code. Nothing here needs Hydra, so that file verbs start without it.
"""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from wsl.base import did_you_mean

DESCRIBED = ("--method", "--matcher", "--match-all")
"""Flags whose value is a description."""


class ConfigError(ValueError):
    """A recipe, an override or a flag is wrong."""


def choose(
    text: str,
    table: Mapping[str, type],
    *,
    what: str,
    trusted: bool = False,
    more: Callable[[Any], Mapping[str, Any]] = lambda _: {},
    inside: Mapping[str, Callable[[str], Any]] = MappingProxyType({}),
) -> Any:
    """The object that ``text`` describes, one of ``table`` or any by ``_target_``.

    ``what`` names the family in errors; ``more`` gives arguments to a class that text cannot say.
    An argument that ``inside`` names is a description itself, of what its function makes of it.
    Raises `ConfigError` for a name that is not in the table, arguments that do not fit, and code
    that may not be run.
    """
    description = _described(text, what)
    if "_target_" in description:
        check_targets(description, trusted=trusted)
        target = locate(description["_target_"])
        return instantiate(_made(description, inside), **more(target))
    (name, arguments), *others = description.items()
    if others or name not in table:
        raise ConfigError(
            f"{what} '{name}' does not exist{did_you_mean(str(name), table)}; there are "
            f"{', '.join(table)}, or give {{_target_: package.Class}}"
        )
    own = _mapping(arguments or {}, f"{what} {name}")
    given = {**more(table[name]), **_made(own, inside)}
    return _call(table[name], given, f"{what} {name}")


def instantiate(description: Mapping[str, Any], **more: Any) -> Any:
    """Build the object that ``_target_`` names; nested descriptions are left as they are.

    Raises `ConfigError` naming the target.
    """
    target = description["_target_"]
    arguments = {key: value for key, value in description.items() if not key.startswith("_")}
    return _call(locate(target), {**arguments, **more}, target)


def locate(target: str) -> Any:
    """The object that a ``_target_`` names, installed or in the current folder.

    Raises `ConfigError` if there is none. What is installed comes first, so that a file of the same
    name cannot take its place.
    """
    module, _, name = str(target).rpartition(".")
    sys.path.append(str(Path.cwd()))
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError):
        raise ConfigError(f"_target_ '{target}' does not exist; check its spelling") from None
    finally:
        sys.path.pop()


def check_targets(config: Mapping[str, Any], *, trusted: bool = False) -> None:
    """Raise `ConfigError` for a ``_target_`` anywhere in ``config`` whose code may not be run."""
    if trusted:
        return
    packages = (
        point.value.split(":")[0].split(".")[0] for point in entry_points(group="wsl.recipes")
    )
    allowed = ("wsl", *packages)
    for key, value in flatten(config):
        if key.split(".")[-1] != "_target_":
            continue
        root = str(value).split(".")[0]
        if root not in allowed or getattr(locate(value), "__module__", "").split(".")[0] != root:
            raise ConfigError(
                f"{key}: '{value}' is not part of wsl, and a recipe may not run other code; "
                "if you trust this recipe, add --trust-config"
            )


def flatten(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every value in nested mappings and lists, by its dotted key; the mappings themselves too."""
    if prefix:
        yield prefix, config
    items = (
        config.items()
        if isinstance(config, Mapping)
        else enumerate(config)
        if isinstance(config, list)
        else ()
    )
    for key, value in items:
        yield from flatten(value, f"{prefix}.{key}" if prefix else str(key))


def _described(text: str, what: str) -> dict[str, Any]:
    """A flag's text as a mapping: ``{name: arguments}``, or a description with ``_target_``."""
    is_file = text.endswith((".yaml", ".yml"))
    try:
        content = yaml.safe_load(Path(text).read_text() if is_file else text)
    except OSError as error:
        raise ConfigError(f"{what}: {text} cannot be read ({error.strerror})") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{what} '{text}' is not YAML: {' '.join(str(error).split())}") from None
    if isinstance(content, str):
        return _spoken(content)
    if not isinstance(content, dict) or not content:
        raise ConfigError(f"{what} '{text}': a name or {{_target_: package.Class}} is needed")
    return content


def _spoken(text: str) -> dict[str, Any]:
    """``ties density=0.2 scale=0.5`` as ``{ties: {density: 0.2, scale: 0.5}}``."""
    name, *fields = re.split(r"\s+(?=[A-Za-z_]\w*=)", text.strip())
    pairs = (field.partition("=")[::2] for field in fields)
    return {name: {key: yaml.safe_load(value) for key, value in pairs}}


def joined(words: Sequence[str]) -> list[str]:
    """Words of a command line, in which ``--method ties density=0.2`` has one value.

    A file whose name holds ``=`` stays a word by itself.
    """
    told: list[str] = []
    taking = False
    for i, word in enumerate(words):
        described = i > 0 and words[i - 1] in DESCRIBED
        field = taking and re.match(r"[A-Za-z_]\w*=", word) and not Path(word).exists()
        if field:
            told[-1] += f" {word}"
        else:
            told.append(word)
        taking = bool(described or field)
    return told


def _made(
    arguments: Mapping[str, Any], inside: Mapping[str, Callable[[str], Any]]
) -> dict[str, Any]:
    """Arguments with the descriptions among them built."""
    return {
        key: inside[key](yaml.safe_dump(value, default_flow_style=True))
        if key in inside and isinstance(value, str | dict)
        else value
        for key, value in arguments.items()
    }


def _mapping(arguments: Any, name: str) -> Mapping[str, Any]:
    if not isinstance(arguments, Mapping):
        raise ConfigError(f"{name}: arguments are names with values, got {arguments!r}")
    return arguments


def _call(made: Any, arguments: Mapping[str, Any], name: str) -> Any:
    try:
        return made(**arguments)
    except TypeError as error:
        raise ConfigError(f"{name}: {error}") from None
