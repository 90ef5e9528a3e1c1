"""Rows of zoo files: selections, columns, splits, loaders."""

from wsl.zoo.rows.checkpoints import Checkpoints, View
from wsl.zoo.rows.loader import Batch, Loader
from wsl.zoo.rows.split import Fractions, Split, split_last, split_members
from wsl.zoo.rows.table import read_column, read_table

__all__ = [
    "Batch",
    "Checkpoints",
    "Fractions",
    "Loader",
    "Split",
    "View",
    "read_column",
    "read_table",
    "split_last",
    "split_members",
]
