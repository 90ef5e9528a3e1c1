"""A table of columns as CSV."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path


def write_csv(path: str | Path, table: Mapping[str, Sequence]) -> None:
    """Write a table as CSV, numbers in full precision.

    Raises ValueError when the columns differ in length.
    """
    lengths = {name: len(column) for name, column in table.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(
            f"{path}: the columns of a table must be equally long, but they have {lengths}"
        )
    with Path(path).open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(table)
        writer.writerows(zip(*table.values(), strict=True))
