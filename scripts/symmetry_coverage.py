"""How much of today's architectures is discovered, and proved: one row for every network of three model collections.

    python scripts/symmetry_coverage.py torchvision timm transformers --results coverage.jsonl --table docs/symmetry_coverage.md

For each network: discovery on the exported graph, then `wsl.verify` in float64 with random weights, one random element of the
whole group. Every network runs in a process of its own, with a time limit; finished rows are kept in ``--results`` and skipped.
Needs the packages of the collections asked for (see `scripts/README.md`); wsl itself does not.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import coverage_networks
import torch
from torch import nn

import wsl
from wsl.symmetry import PermutationSpec

TOLERANCE = 1e-9
Build = Callable[[], tuple[nn.Module, tuple[Any, ...], dict[str, Any]]]


def main() -> None:
    """Run what is missing, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suites", nargs="+", choices=sorted(coverage_networks.SUITES))
    parser.add_argument("--results", type=Path, required=True, help="one line of JSON for each network, appended")
    parser.add_argument("--table", type=Path, help="write the table as Markdown")
    parser.add_argument("--only", nargs="*", help="names of networks; these run again")
    parser.add_argument("--seconds", type=float, default=300, help="time limit for one network")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for suite in options.suites:
        done = {row["name"] for row in rows(options.results) if row["suite"] == suite}
        for name, build in coverage_networks.SUITES[suite]():
            if name in options.only if options.only else name not in done:
                row = {"suite": suite, "name": name, **in_a_process(build, options.seconds)}
                with options.results.open("a") as file:
                    file.write(json.dumps(row) + "\n")
                print(line(row), flush=True)


def rows(path: Path) -> list[dict[str, Any]]:
    """The newest row of each network."""
    lines = path.read_text().splitlines() if path.exists() else []
    newest = {(row["suite"], row["name"]): row for row in map(json.loads, lines)}
    return list(newest.values())


def in_a_process(build: Build, seconds: float) -> dict[str, Any]:
    """A row measured in a fork, so that a crash or a hang costs one row."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=lambda: sender.send(measure(build)))
    process.start()
    sender.close()
    try:
        return receiver.recv() if receiver.poll(seconds) else {"error": f"no result in {seconds:.0f} s"}
    except EOFError:
        return {"error": "the process died"}
    finally:
        process.kill()
        process.join()


def measure(build: Build) -> dict[str, Any]:
    """Discover and verify one network."""
    row: dict[str, Any] = {}
    try:
        torch.manual_seed(0)
        model, inputs, kwargs = build()
        row["parameters"] = sum(p.numel() for p in model.parameters())
        start = time.perf_counter()
        spec = wsl.permutation_spec(model, *inputs, **kwargs)
        row |= {"seconds": time.perf_counter() - start, **describe(spec)}
        proof = wsl.verify(spec, model, *inputs, kwargs=kwargs, tolerance=TOLERANCE, groups=False)
        row["difference"] = proof.whole
    except Exception as error:
        row["error"] = f"{type(error).__name__}: {str(error).splitlines()[0][:300] if str(error) else ''}"
        row["trace"] = traceback.format_exc()[-1500:]
    row["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return row


def describe(spec: PermutationSpec) -> dict[str, Any]:
    """What the table says of a specification."""
    reasons: dict[str, int] = {}
    for axis, reason in spec.pinned.items():
        tensor = axis.rpartition(" axis ")[0]
        reasons[reason] = reasons.get(reason, 0) + spec.shapes[tensor].numel()
    largest = sorted(reasons.items(), key=lambda item: -item[1])[:8]
    return {
        "groups": len(spec.groups),
        "log10_order": spec.log10_order,
        "movable": spec.movable,
        "pinned": {k: v for k, v in largest},
    }


def line(row: dict[str, Any]) -> str:
    """One row for the eye."""
    if "difference" not in row:
        return f"{row['name']:40s} {row.get('groups', '-')!s:>5} {row.get('movable', 0):7.1%} MISSED {row['error']}"
    mark = "" if row["difference"] <= TOLERANCE else "  WRONG"
    return (
        f"{row['name']:40s} {row['groups']:5d} {row['movable']:7.1%} {row['difference']:.1e} "
        f"{row['seconds']:6.1f} s {row['peak_mib']} MiB{mark}"
    )


if __name__ == "__main__":
    sys.exit(main())
