"""Recipes and overrides: composed by Hydra, checked before anything runs.

Recipes live in ``datasets/`` and ``models/`` of the package (or a ``--config-dir`` of the user's
with the same folders). What they may instantiate: `wsl.cli.targets`. Hydra is imported with the
first recipe that is composed, since that costs as much as all the rest; listing recipes does not
need it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from wsl.base import did_you_mean
from wsl.cli.kinds import check_kinds
from wsl.cli.targets import ConfigError, check_targets, flatten

CONF = Path(__file__).parent / "conf"

PATHS = ("zoo", "output", "data_root", "data")
"""Keys whose values are paths, which are taken as they are and never read as Hydra's grammar."""


def recipes(group: str, config_dir: str | None = None) -> list[str]:
    """Names of the recipes of a group, ``datasets`` or ``models``."""
    folders = [CONF / group, *([Path(config_dir) / group] if config_dir else [])]
    return sorted({path.stem for folder in folders for path in folder.glob("*.yaml")})


def defaults(config: str) -> dict[str, Any]:
    """``conf/<config>.yaml`` as it stands, without recipes and overrides."""
    return yaml.safe_load((CONF / f"{config}.yaml").read_text())


def compose(config: str, words: Sequence[str]) -> dict[str, Any]:
    """Compose ``conf/<config>.yaml`` with overrides; raises `ConfigError` with a suggestion.

    Understands the flags ``--config-dir DIR``, ``--data-root DIR`` (short for ``data_root=DIR``)
    and ``--trust-config`` among ``words``.
    """
    overrides, config_dir, trusted = _flags(words)
    choices = _choices(config, overrides, config_dir)
    found = f"file://{Path(config_dir).resolve()}" if config_dir else ""
    search = [f"hydra.searchpath=[{_quoted(found)}]"] if config_dir else []

    base = _composed(config, [*choices, *search])
    _check_keys(base, [word for word in overrides if word not in choices])
    full = _composed(config, [*overrides, *search])
    check_targets(full, trusted=trusted)
    check_kinds(base, full)
    return {**{word.partition("=")[0]: word.partition("=")[2] for word in choices}, **full}


def _composed(config: str, overrides: Sequence[str]) -> dict[str, Any]:
    import hydra
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
            made = hydra.compose(config, overrides=list(overrides))
            return dict(OmegaConf.to_container(made, resolve=True))  # type: ignore[arg-type]
    except (HydraException, OmegaConfBaseException, yaml.YAMLError) as error:
        raise ConfigError(f"{error}") from None


def _flags(words: Sequence[str]) -> tuple[list[str], str | None, bool]:
    overrides, config_dir, trusted = [], None, False
    rest = iter(words)
    for word in rest:
        if word == "--trust-config":
            trusted = True
        elif word == "--config-dir":
            config_dir = _folder(word, rest)
        elif word == "--data-root":
            overrides.append("data_root=" + _quoted(_folder(word, rest)))
        elif "=" not in word:
            raise ConfigError(f"'{word}' is not an override; write key=value, for example seed=1")
        else:
            overrides.append(_readable(word))
    return overrides, config_dir, trusted


def _readable(word: str) -> str:
    """An override that Hydra's grammar understands: the value of a path is quoted.

    Not where the user has quoted it, wants none (``null``), or puts it together (``${seed}``).
    """
    key, _, value = word.partition("=")
    if key.lstrip("+") in PATHS:
        own = value in ("", "null") or "${" in value or _is_quoted(value)
        return word if own else f"{key}={_quoted(value)}"
    _check_grammar(word)
    return word


def _is_quoted(value: str) -> bool:
    return len(value) > 1 and value[0] in "'\"" and value[-1] == value[0]


def _quoted(text: str) -> str:
    """``text`` as Hydra's grammar quotes it: backslashes count only before a quote."""
    escaped = re.sub(r"(\\*)('|$)", lambda m: m[1] * 2 + "\\'" * bool(m[2]), text)
    return f"'{escaped}'"


def _check_grammar(word: str) -> None:
    """Raise `ConfigError` that names the override and shows how to quote its value."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        OverridesParser.create().parse_override(word)
    except HydraException:
        key, _, value = word.partition("=")
        raise ConfigError(
            f"{word}: the value cannot be read; if it is text, quote it for the shell and for "
            f'the recipe: "{key}={_quoted(value)}"'
        ) from None


def _folder(flag: str, rest: Iterator[str]) -> str:
    """The folder that follows a flag."""
    folder = next(rest, None)
    if folder is None or not Path(folder).is_dir():
        raise ConfigError(f"{flag} needs a folder that exists, got {folder}")
    return folder


def _choices(config: str, overrides: Sequence[str], config_dir: str | None) -> list[str]:
    """The recipes among the overrides, such as ``datasets=digits_cnn``, each of which must exist.

    A verb's ``groups`` must be chosen, but for the data where they are a zoo of the user's own; its
    ``options`` have a default.
    """
    given = {word.partition("=")[0]: word for word in overrides}
    verb = defaults(config)
    optional = [option for option in verb.get("options", []) if option in given]
    needed = [group for group in verb["groups"] if group != "datasets" or not _own_zoo(given)]
    for group in (wanted := [*needed, *optional]):
        names = recipes(group, config_dir)
        if group not in given:
            own = _own_form(verb) if group == "datasets" else ""
            raise ConfigError(f"choose a recipe: {group}=NAME, one of {', '.join(names)}{own}")
        name = given[group].partition("=")[2]
        if name not in names:
            raise ConfigError(
                f"no recipe {group}={name}{did_you_mean(name, names)}; there are {', '.join(names)}"
            )
    return [given[group] for group in wanted]


def _own_form(verb: Mapping[str, Any]) -> str:
    """How a verb is asked to use a zoo of the user's own."""
    if "data" in verb:
        return "; or zoo=FILE model=MODULE:CALLABLE data=FILE.npz"
    return "; or zoo=FILE target=COLUMN" if "target" in verb and "columns" in verb else ""


def _own_zoo(given: Mapping[str, str]) -> bool:
    """Whether a zoo that no recipe describes is named, with what is to be predicted of it or the
    data of its networks.
    """
    return "datasets" not in given and "zoo" in given and bool({"target", "data"} & given.keys())


def _check_keys(base: Mapping[str, Any], overrides: Sequence[str]) -> None:
    keys = [key for key, _ in flatten(base)]
    for word in overrides:
        key = word.partition("=")[0]
        if not key.startswith(("+", "~")) and key not in keys:
            raise ConfigError(
                f"unknown key '{key}'{did_you_mean(key, keys)}; to add a key write +{word}"
            )
