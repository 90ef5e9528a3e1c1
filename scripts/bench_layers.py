"""Equivariant layers and classifiers, forward and backward, beside the bound and beside the package
nfn.

    python scripts/bench_layers.py [layers classifiers growth] [--threads 2] [--rounds 21] [--eager]
    [--plot FOLDER] [--out CSV]

The bound is the least a layer can do: the three matrix products of a pointwise map, c x c for every
weight, into memory that is there already (output, gradient of the input, gradient of the matrix).
All ways of a case run in turn, round by round, and the medians are compared; gradients reach inputs
and weights. Times depend on the machine, ratios hardly do. Peak memory is that of a process of its
own, above what the imports take. Without nfn (``pip install --no-deps nfn==0.1.2``) its columns are
empty.
"""

from __future__ import annotations

import argparse
import csv
import ctypes
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from bench_layers_cases import (
    CLASSIFIERS,
    LAYERS,
    Case,
    Way,
    classifier_ways,
    layer_ways,
    nfn_missing,
)
from bench_layers_growth import growth

COLUMNS = ["case", "batch", "channels", "way", "median_ms", "bound_ms", "times_bound", "first_s"]


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    if not options.plain_malloc:
        keep_memory()
    if options.peak:
        return print_peak(*options.peak)
    if nfn_missing():
        print("nfn is not installed, its rows are left out: pip install --no-deps nfn==0.1.2")
    rows: list[list[object]] = []
    clock = time.process_time if options.cpu else time.perf_counter
    print(f"{torch.get_num_threads()} threads, {options.rounds} interleaved rounds, medians")
    print(
        "".join(f"{name:>{width}}" for name, width in zip(COLUMNS, WIDTHS, strict=True)), flush=True
    )
    tables = {"layers": (LAYERS, layer_ways), "classifiers": (CLASSIFIERS, classifier_ways)}
    for part in options.parts:
        if part == "growth":
            growth(options.plot, rounds=options.rounds, clock=clock)
            continue
        cases, ways = tables[part]
        for case in cases:
            if options.only in case.name:
                rows += show(
                    case, ways(case, compiled=not options.eager), rounds=options.rounds, clock=clock
                )
    if options.out:
        save(options.out, rows)
    if not options.no_peak and "classifiers" in options.parts:
        show_peaks()


def keep_memory() -> None:
    """glibc's M_MMAP_THRESHOLD and M_TRIM_THRESHOLD; elsewhere nothing."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(-3, 2**30)
        mallopt(-1, 2**31 - 1)


Clock = Callable[[], float]
WIDTHS = [22, 6, 9, 24, 10, 9, 12, 8]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", default=["layers", "classifiers", "growth"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--eager", action="store_true", help="leave torch.compile out")
    parser.add_argument(
        "--cpu", action="store_true", help="processor time, for a busy machine; use one thread"
    )
    parser.add_argument(
        "--plain-malloc", action="store_true", help="let the C library give freed memory back"
    )
    parser.add_argument("--only", default="", help="cases with this in their name")
    parser.add_argument("--plot", type=Path, help="folder for growth.png and growth.csv")
    parser.add_argument("--out", type=Path, help="table as CSV")
    parser.add_argument("--no-peak", action="store_true", help="leave out the peak memory")
    parser.add_argument(
        "--peak", nargs=2, help="internal: run this way of this case and print the peak memory"
    )
    return parser.parse_args()


def show(case: Case, ways: dict[str, Way], *, rounds: int, clock: Clock) -> list[list[object]]:
    """A line for each way of a case."""
    first, medians = measure(ways, rounds, clock)
    rows = []
    for name in ways:
        ratio = medians[name] / medians["bound"]
        row = [
            case.name,
            case.batch,
            case.channels,
            name,
            f"{medians[name]:.2f}",
            f"{medians['bound']:.2f}",
            f"{ratio:.1f}",
            f"{first[name]:.1f}",
        ]
        rows.append(row)
        print(
            "".join(f"{value!s:>{width}}" for value, width in zip(row, WIDTHS, strict=True)),
            flush=True,
        )
    return rows


def measure(
    ways: dict[str, Way], rounds: int, clock: Clock = time.perf_counter
) -> tuple[dict[str, float], dict[str, float]]:
    """Seconds of the first call (compilation included), and median milliseconds of calls that take
    turns.
    """
    first = {name: elapsed(way, time.perf_counter) for name, way in ways.items()}
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds + 2):
        for name, way in ways.items():
            spent[name].append(1e3 * elapsed(way, clock))
    return first, {name: statistics.median(times[2:]) for name, times in spent.items()}


def elapsed(way: Way, clock: Clock) -> float:
    started = clock()
    way()
    return clock() - started


def show_peaks() -> None:
    print("\npeak memory of a step above the imports, MB")
    for part, case, ways in (
        ("layers", LAYERS[3], layer_ways),
        ("classifiers", CLASSIFIERS[0], classifier_ways),
    ):
        for name in ways(case, compiled=False):
            command = [sys.executable, __file__, "--peak", part, name]
            found = subprocess.run(
                command, capture_output=True, text=True, check=True
            ).stdout.strip()
            print(
                f"{case.name} batch {case.batch} channels {case.channels} {name}: {found}",
                flush=True,
            )


def print_peak(part: str, name: str) -> None:
    case, ways = (LAYERS[3], layer_ways) if part == "layers" else (CLASSIFIERS[0], classifier_ways)
    torch.ones(8, 8, requires_grad=True).mm(
        torch.ones(8, 8)
    ).sum().backward()  # libraries load on first use
    before = resident()
    way = ways(case, compiled=False)[name]
    for _ in range(3):
        way()
    print(f"{resident() - before:.0f}")


def resident() -> float:
    """Peak memory of this process in MB."""
    text = Path("/proc/self/status").read_text()
    return (
        int(next(line.split()[1] for line in text.splitlines() if line.startswith("VmHWM"))) / 1024
    )


def save(path: Path, rows: list[list[object]]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *rows])


if __name__ == "__main__":
    main()
