"""The zoo that a recipe describes: built where it is missing, opened where it is there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wsl.cli.targets import ConfigError, instantiate
from wsl.cli.terminal import progress, say
from wsl.zoo import Zoo

PARTS = {
    "network": "wsl train",
    "generator": "wsl generate",
    "objective": "a population with a target to predict",
}
"""Parts of recipes, and what has them."""


def build(config: Mapping[str, Any], path: str | Path | None = None) -> Zoo:
    """Build the population of ``config`` into ``path``.

    A finished file of the same recipe is left as it is.
    """
    target = Path(path or default_path(config))
    target.parent.mkdir(parents=True, exist_ok=True)
    executor = instantiate(config["executor"]) if "executor" in config else None
    recipe = instantiate(config["population"])
    return recipe.build(
        target, progress=progress("member"), data_root=config["data_root"], executor=executor
    )


def open_or_build(config: Mapping[str, Any]) -> Zoo:
    """The zoo named by ``zoo=FILE``, else the recipe's own, built first if need be."""
    if config["zoo"]:
        return Zoo(config["zoo"])
    if not default_path(config).exists():
        say(f"building {default_path(config)} first; wsl zoo build does only that", error=True)
    return build(config)


def default_path(config: Mapping[str, Any]) -> Path:
    """Where the recipe's zoo lies unless told otherwise."""
    return Path("runs") / "zoos" / f"{config['datasets']}.h5"


def population_name(config: Mapping[str, Any]) -> str:
    """What a run is named after: the recipe, or the file of a zoo that no recipe describes."""
    return config.get("datasets") or Path(config["zoo"]).stem


def part(config: Mapping[str, Any], name: str, *, verb: str) -> Mapping[str, Any]:
    """A part that a verb needs from its recipes.

    Raises `ConfigError` that says which verb the recipes are for.
    """
    if _is_there(config, name):
        return config[name]
    others = [PARTS[key] for key in ("network", "generator") if _is_there(config, key)]
    if others and name != "objective":
        hint = f"models={config['models']} is for {others[0]}"
    else:
        hint = f"{verb} needs {PARTS[name]}"
    raise ConfigError(
        f"models={config['models']} datasets={config['datasets']} has no '{name}': {hint}"
    )


def _is_there(config: Mapping[str, Any], name: str) -> bool:
    return "_target_" in (config.get(name) or {})
