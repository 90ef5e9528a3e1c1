"""Results of merges by setting, as files of JSON, CSV and Markdown."""

from __future__ import annotations

import argparse
import csv
import json
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import torch

from wsl.base import replacing

Scores = Mapping[str, float]
Column = tuple[str, str, int]
"""Network, kind of tasks, their number."""


def path_of(folder: Path, column: Column, seed: int) -> Path:
    """The file of one setting and one seed."""
    return folder / f"{'-'.join(map(str, column))}-{seed}.json"


def read(folder: Path) -> dict[Column, list[Scores]]:
    """Accuracies of finished settings, one entry for each seed."""
    found: dict[Column, list[Scores]] = {}
    for path in sorted(folder.glob("*-*-*-*.json")):
        network, kind, count, _ = path.stem.split("-")
        runs = found.setdefault((network, kind, int(count)), [])
        runs.append(json.loads(path.read_text())["accuracy"])
    return found


def write_csv(columns: Mapping[Column, Sequence[Scores]], path: Path) -> None:
    """One line for each setting and row: mean, spread over seeds, number of seeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["network", "tasks", "count", "method", "mean", "std", "seeds"])
        for column, runs in columns.items():
            for name in runs[0]:
                values = [row[name] for row in runs]
                numbers = [f"{n:.4f}" for n in (statistics.mean(values), _spread(values))]
                writer.writerow([*column, name, *numbers, len(values)])


def tables(columns: Mapping[Column, Sequence[Scores]]) -> str:
    """A table for each network."""
    networks = dict.fromkeys(network for network, _, _ in columns)
    parts = [{c: runs for c, runs in columns.items() if c[0] == network} for network in networks]
    return "\n\n".join(map(_table, parts))


def _table(columns: Mapping[Column, Sequence[Scores]]) -> str:
    """Mean and spread over seeds of every row in per cent, by settings; at last their mean."""
    network = next(iter(columns))[0]
    heads = [*(f"{kind}, {count}" for _, kind, count in columns), "mean"]
    lines = [f"| {network} | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    names = dict.fromkeys(name for runs in columns.values() for row in runs for name in row)
    for name in names:
        found = [[row[name] for row in runs if name in row] for runs in columns.values()]
        cells = [*map(_cell, found), _mean_of_means(found)]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(values: Sequence[float]) -> str:
    if not values:
        return ""
    mean = f"{100 * statistics.mean(values):.1f}"
    return mean if len(values) == 1 else f"{mean} ± {100 * _spread(values):.1f}"


def _mean_of_means(found: Sequence[Sequence[float]]) -> str:
    """Over all settings, of rows that every setting has."""
    return f"{100 * statistics.mean(map(statistics.mean, found)):.1f}" if all(found) else ""


def _spread(values: Sequence[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else float("nan")


def main_of(
    doc: str | None,
    run_all: Callable[[argparse.Namespace], None],
    *,
    networks: Iterable[str],
    kinds: Iterable[str],
    tasks: Sequence[int],
) -> None:
    """Run what is not done yet, if there are data to run on, then print the table."""
    parser = argparse.ArgumentParser(description=str(doc).splitlines()[0])
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--digits", action="store_true", help="8 x 8 digits in place of MNIST")
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--networks", nargs="+", default=list(networks), choices=list(networks))
    parser.add_argument("--kinds", nargs="+", default=list(kinds), choices=list(kinds))
    parser.add_argument("--tasks", type=int, nargs="+", default=list(tasks))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--csv", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.data_root or options.digits:
        run_all(options)
    columns = read(options.out)
    if options.csv:
        write_csv(columns, options.csv)
    print(tables(columns))
