"""Which columns of a zoo a functional may be told, and how they reach it.

    f(theta, c(row)),     c learned on the training members

A column that was measured on the checkpoint itself (a loss, an accuracy) is nearly the target, and
one that names the member says nothing that holds for others; both are refused. A name tells what
was measured, or that it changes while a member trains; a column of another zoo that is neither and
gives the target away all the same cannot be known here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from wsl.nn import Columns
from wsl.training.objectives import Objective
from wsl.zoo import Checkpoints

MEASURED = {
    "loss",
    "losses",
    "accuracy",
    "acc",
    "error",
    "psnr",
    "score",
    "metric",
    "gap",
    "perplexity",
}
"""Words in the names of columns that are measured on a checkpoint."""
NAMING = {"member", "split", "seed", "image"}
"""Columns that say which row or which data it is."""


def learn_columns(names: Sequence[str], zoo: Checkpoints, objective: Objective) -> Columns:
    """What the training members' columns hold, read before training; the values of all rows of the
    zoo are checked.

    Raises ValueError for a column that there is not, that gives the target away or names members,
    and for a text that only validation or test members have.
    """
    columns = Columns.learn(names, zoo.table[zoo.indices("train")])
    for name in names:
        if reason := _refusal(name, zoo, objective):
            raise ValueError(f"columns: '{name}' {reason}; leave it out")
    columns(zoo.table)
    return columns


def codes(network: Any, zoo: Checkpoints, rows: np.ndarray) -> tuple[Tensor, ...]:
    """What a network is called with after the weights of ``rows``: the codes of the ``columns`` it
    reads, if it reads any.
    """
    columns = getattr(network, "columns", None)
    return () if columns is None else (columns(zoo.table[rows]),)


def _refusal(name: str, zoo: Checkpoints, objective: Objective) -> str | None:
    if name == objective.column:
        return "is what the objective predicts"
    if name in NAMING:
        return "says which member it is, not how it was trained"
    if MEASURED & set(re.split(r"[^a-z]+", name.lower())):
        return "is measured on the checkpoint, as the target is"
    if name != "epoch" and _changes_within_members(zoo.table["member"], zoo.table[name]):
        return (
            "changes while a member trains, so it is measured on the checkpoint, as the target is"
        )
    return None


def _changes_within_members(member: np.ndarray, values: np.ndarray) -> bool:
    order = np.argsort(member, kind="stable")
    member, values = member[order], values[order]
    return bool(((member[1:] == member[:-1]) & (values[1:] != values[:-1])).any())
