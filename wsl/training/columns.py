"""Which columns of a zoo a functional may be told, and how they reach it.

    f(theta, c(row)),     c learned on the training members

Two kinds of columns are refused. One that was measured on the checkpoint itself, such as a loss or
an accuracy, is nearly the target; it is known by its name, or by changing while a member trains.
One that names the member, such as its seed, says nothing about other members. A column that gives
the target away in some other way cannot be recognised here; it is the user's to leave out.
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
    """The codes of columns, learned from the training members and checked on all rows of the zoo.

    Raises ValueError for a column that does not exist, that gives the target away or names members,
    and for a text that only validation or test members have.
    """
    columns = Columns.learn(names, zoo.table[zoo.indices("train")])
    for name in names:
        if reason := _refusal(name, zoo, objective):
            raise ValueError(f"columns: '{name}' {reason}; leave it out")
    columns(zoo.table)
    return columns


def codes(network: Any, zoo: Checkpoints, rows: np.ndarray) -> tuple[Tensor, ...]:
    """What a network is called with after the weights of ``rows``: codes, if it reads columns."""
    columns = read_columns(network)
    return () if columns is None else (columns(zoo.table[rows]),)


def read_columns(network: Any) -> Columns | None:
    """The columns that a network reads beside weights, if it does."""
    return getattr(network, "columns", None)


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
