"""A table of neural functionals on one population: every method with several seeds on the same zoo
and the same budget.

    python scripts/table_functionals.py DATASET METHOD [METHOD ...] [--seeds 3] [--output FOLDER]
    [--set KEY=VALUE ...]

METHOD is a recipe of ``models/`` with changes of its own after colons: ``unf``,
``nfn:network.fixed=exact``. Each run is a ``wsl train`` in a process of its own, so that its time
(processor and wall) and its peak memory can be told; finished runs are kept and skipped. Writes
FOLDER/table.csv, a row for each run, and FOLDER/table.md: mean and standard deviation over seeds.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

Row = dict[str, float | str]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset")
    parser.add_argument("methods", nargs="+")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--output", type=Path)
    parser.add_argument(
        "--set", nargs="*", default=[], metavar="KEY=VALUE", help="overrides for every run"
    )
    options = parser.parse_args()
    folder = options.output or Path("runs/tables") / options.dataset
    rows = read(folder / "table.csv")
    for seed in range(options.seeds):
        for method in options.methods:
            run = f"{method} {' '.join(options.set)}".strip()
            if not any(row["run"] == run and int(row["seed"]) == seed for row in rows):
                rows.append(
                    {
                        "run": run,
                        "seed": seed,
                        **train(options.dataset, method, options.set, seed=seed, folder=folder),
                    }
                )
                write(folder, rows)
    sys.stdout.write((folder / "table.md").read_text())


def train(dataset: str, method: str, shared: list[str], *, seed: int, folder: Path) -> Row:
    """One run: test scores, parameters, seconds, peak memory."""
    model, *own = method.split(":")
    changes = hashlib.sha256(" ".join([*own, *shared]).encode()).hexdigest()[:8]
    output = folder / "runs" / f"{model}-{changes}-{seed}"
    words = [
        f"models={model}",
        f"datasets={dataset}",
        f"seed={seed}",
        f"output={output}",
        *own,
        *shared,
    ]
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "wsl", "train", *words], stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"wsl train {' '.join(words)} failed")
    result = json.loads((output / "result.json").read_text())
    costs = {
        "wall_s": time.perf_counter() - started,
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "peak_gb": usage.ru_maxrss / 2**20,
    }
    return {
        "parameters": result["parameters"],
        "best_epoch": result["best_epoch"],
        **result["test"],
        **costs,
    }


def read(path: Path) -> list[Row]:
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [dict(row) for row in csv.DictReader(file)]


def write(folder: Path, rows: list[Row]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "table.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    (folder / "table.md").write_text(markdown(rows))


def markdown(rows: list[Row]) -> str:
    """One line for each method, best first by the first score."""
    names = [name for name in rows[0] if name not in ("run", "seed", "best_epoch")]
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(str(row["run"]), []).append(row)
    lines = [f"| method | {' | '.join(names)} | seeds |", f"|{'---|' * (len(names) + 2)}"]
    order = sorted(
        groups, key=lambda run: -statistics.mean(float(row[names[1]]) for row in groups[run])
    )
    for run in order:
        cells = [cell([float(row[name]) for row in groups[run]]) for name in names]
        lines.append(f"| {run} | {' | '.join(cells)} | {len(groups[run])} |")
    return "\n".join(lines) + "\n"


def cell(values: list[float]) -> str:
    digits = 0 if max(values) >= 1000 else 1 if max(values) >= 10 else 3
    spread = (
        f" ± {statistics.stdev(values):.{digits}f}"
        if len(values) > 1 and len(set(values)) > 1
        else ""
    )
    return f"{statistics.mean(values):,.{digits}f}{spread}"


if __name__ == "__main__":
    main()
