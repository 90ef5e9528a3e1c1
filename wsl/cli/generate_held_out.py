"""Which tasks of a population a generator learns from, and which it is asked for afterwards.

    training   label sets of the known digits, less a share; angles of the population
    label_sets the rest of those sets                   at the same angles
    angles     the rest of those sets                   at angles never seen
    digits     sets with the digits held out            at the same angles

What a population's tasks are is read off its columns. Members whose task touches anything held out
are left out, and images of held-out tasks come from the validation and test parts of the data. The
split does not depend on the seed, so that runs of several seeds are asked the same.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from wsl.cli.targets import ConfigError
from wsl.generative import TaskSource, VariantTasks, VirtualClasses, label_sets
from wsl.populations import Classification

COLUMNS = ("classes", "turn", "inverted")
"""Of a population whose members have tasks of their own."""

Sets = tuple[tuple[int, ...], ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Split:
    """Tasks to learn from, families held out by name, and the rows of members to learn from."""

    seen: TaskSource
    families: Mapping[str, VariantTasks]
    rows: Tensor


def split_tasks(
    config: Mapping[str, Any], data: Classification, columns: Mapping[str, Any]
) -> Split:
    """By the recipe's ``tasks`` and ``held_out``; raises `ConfigError` where nothing is left."""
    held, told = config["held_out"], config["tasks"]
    chosen = [tuple(sorted(map(int, str(row).split(",")))) for row in columns["classes"]]
    turns = [float(turn) for turn in columns["turn"]]
    size, unseen = len(chosen[0]), {int(c) for c in held["digits"]}
    known = sorted({c for classes in chosen for c in classes} - unseen)
    kept, away = _sets(known, size, share=held["share"])
    angles = sorted(set(turns) - set(map(float, held["angles"])))
    if not kept or not angles:
        raise ConfigError(
            f"held_out: leaves {len(known)} digits, {len(kept)} sets of {size} and {len(angles)} "
            "angles to learn from; hold out less"
        )
    rows = [
        i
        for i, (classes, turn) in enumerate(zip(chosen, turns, strict=True))
        if classes in kept and turn in angles
    ]
    if not rows:
        raise ConfigError("held_out: no member has a task to learn from; hold out less")
    inverted = bool(torch.as_tensor(columns["inverted"]).any())
    how = {"classes": size, "shots": told["shots"], "invert": inverted, "angles": angles}
    seen = VariantTasks(data, sets=kept, query=told["query"], **how)
    scored = {**how, "query": held["query"], "parts": ("val", "test")}
    families = {}
    if away:
        families["label_sets"] = VariantTasks(data, sets=away, **scored)
    if away and held["angles"]:
        families["angles"] = dataclasses.replace(families["label_sets"], angles=held["angles"])
    if unseen:
        new = label_sets(sorted({*known, *unseen}), size, all_of=unseen)
        families["digits"] = VariantTasks(data, sets=new, **scored)
    if not families:
        raise ConfigError("held_out: nothing is; name digits, or a share of the label sets")
    return Split(_widened(seen, told["virtual"]), families, torch.tensor(rows))


def _sets(digits: list[int], size: int, *, share: float) -> tuple[Sets, Sets]:
    """Label sets to learn from, and the share of them that is held out."""
    every = label_sets(digits, size)
    order = torch.randperm(len(every), generator=torch.Generator().manual_seed(0)).tolist()
    away = set(order[: round(share * len(every))])
    return (
        tuple(one for i, one in enumerate(every) if i not in away),
        tuple(one for i, one in enumerate(every) if i in away),
    )


def _widened(seen: VariantTasks, share: float) -> TaskSource:
    return VirtualClasses(seen, share=share) if share else seen
