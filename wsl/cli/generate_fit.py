"""A recipe's generator, fitted with the recipe's options, and what its losses were."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from wsl.base import Progress
from wsl.cli.served import Served
from wsl.cli.targets import instantiate
from wsl.cli.terminal import progress, say
from wsl.generative import FitReport, Generator, TrainingMembers, check_needs
from wsl.symmetry import symmetry_spec
from wsl.zoo import Zoo


def made(config: Mapping[str, Any], zoo: Zoo, known: Served) -> Generator:
    """The generator of the recipe, not yet fitted.

    A zoo knows permutations alone: scales and signs of units, where the recipe fixes them, are
    found anew, and where the network has none there is nothing to fix.
    """
    recipe, spec = _fewer_components(config["generator"], len(zoo.indices("train"))), zoo.spec
    if recipe.get("units") and not spec.units:
        found = symmetry_spec(known.make().eval(), known.data.train.images[:2])
        spec = dataclasses.replace(spec, units=found.units)
        recipe["units"] = recipe["units"] if found.units else False
    return instantiate(recipe, spec=spec, seed=config["seed"])


def _fewer_components(recipe: Mapping[str, Any], members: int) -> dict[str, Any]:
    """The recipe, with no more principal components than so many members tell of.

    Three quarters of their number where it asks for more: as many as there are members would make
    each of them a point at one distance from all others.
    """
    latent, few = recipe.get("latent") or 0, max(1, 3 * members // 4)
    if "PCA" not in str(recipe.get("code", "")) or latent <= members:
        return {**recipe}
    text = f"generator.latent: {few} in place of {latent}, of {members} networks to learn from"
    say(text, error=True)
    return {**recipe, "latent": few}


def fitted(config: Mapping[str, Any], generator: Generator, members: TrainingMembers) -> FitReport:
    """Fit with the options under ``fit``; raises ValueError naming what the members lack."""
    options = {**config.get("fit", {})}
    options.pop("quantile", None)
    if not generator.conditions:
        members = dataclasses.replace(members, condition=None)
    check_needs(generator.needs, members, what=type(generator).__name__)
    return generator.fit(members, seed=config["seed"], progress=_bar(generator, options), **options)


def losses(report: FitReport) -> dict[str, list[Any]]:
    """Columns part, step, loss."""
    rows = [(p, i, x) for p, values in report.losses.items() for i, x in enumerate(values, 1)]
    return {name: [row[i] for row in rows] for i, name in enumerate(("part", "step", "loss"))}


def _bar(generator: Generator, options: Mapping[str, Any]) -> Progress:
    """One bar for a generator in parts: code_steps=600 steps=600 are 1,200 steps.

    Those of a code that is not trained are none.
    """
    fixed = not getattr(getattr(generator, "code", None), "trains", True)
    counted = {k: v for k, v in options.items() if k.endswith("steps")}
    total = sum(v for k, v in counted.items() if not (fixed and k == "code_steps")) or 1
    show = progress("step")
    return lambda step, _: show(step, total)
