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
    known = sorted({c for classes in chosen for c in classes} - set(held["digits"]))
    kept, away = _sets(known, len(chosen[0]), share=held["share"])
    angles = sorted(set(turns) - set(map(float, held["angles"])))
    own = list(zip(chosen, turns, strict=True))
    rows = [i for i, (classes, turn) in enumerate(own) if classes in kept and turn in angles]
    if not rows:
        raise ConfigError(
            f"held_out: leaves {len(known)} digits, {len(kept)} sets of {len(chosen[0])} and "
            f"{len(angles)} angles to learn from, and no member of these; hold out less"
        )
    seen = VariantTasks(
        data,
        classes=len(chosen[0]),
        sets=kept,
        angles=angles,
        invert=any(bool(own) for own in columns["inverted"]),
        shots=told["shots"],
        query=told["query"],
    )
    return Split(_widened(seen, told["virtual"]), _families(seen, away, held), torch.tensor(rows))


def _families(seen: VariantTasks, away: Sets, held: Mapping[str, Any]) -> dict[str, VariantTasks]:
    """What differs from the tasks to learn from, one thing after another."""
    scored = dataclasses.replace(seen, query=held["query"], parts=("val", "test"))
    found = {}
    if away:
        found["label_sets"] = dataclasses.replace(scored, sets=away)
    if away and held["angles"]:
        found["angles"] = dataclasses.replace(scored, sets=away, angles=held["angles"])
    if held["digits"]:
        known = {c for classes in seen.label_sets for c in classes}
        every = sorted({*known, *held["digits"]})
        new = label_sets(every, seen.classes, all_of=held["digits"])
        found["digits"] = dataclasses.replace(scored, sets=new)
    if not found:
        raise ConfigError("held_out: nothing is; name digits, or a share of the label sets")
    return found


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
