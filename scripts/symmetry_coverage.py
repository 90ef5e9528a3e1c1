"""How much of today's architectures is discovered, and proved: one row for every network of three
model collections, and for layers and models of other packages (`coverage_foreign.py`).

    python scripts/symmetry_coverage.py torchvision timm transformers --results coverage.jsonl
    --table docs/symmetry_coverage.md
    python scripts/symmetry_coverage.py geometric peft zuko operators --draws 3 ...

The page keeps the sections of collections that the results do not hold.

For each network: discovery on the exported graph, then `wsl.verify` in float64 with random weights
and buffers and a random element of the whole group. A control follows: the same with one tensor
left behind, which must break the function, or else the check could not have failed. Every network
runs in a process of its own, with a time limit; finished rows are kept in ``--results`` and
skipped. Needs the packages of the collections asked for (see `scripts/README.md`); wsl itself does
not.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import multiprocessing
import random
import resource
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import coverage_networks
import coverage_table
import torch
from coverage_networks import Build
from torch import nn

import wsl
from wsl.symmetry import PermutationSpec

TOLERANCE = 1e-9
CONTROLS = 3
SEEDS = range(4)
"""Seeds of the random weights: the first one counts, others are drawn where rounding is amplified
beyond the tolerance.
"""


def main() -> None:
    """Run what is missing, then write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "suites",
        nargs="*",
        metavar="SUITE",
        help=f"any of {', '.join(coverage_networks.SUITES)}; none to write the table",
    )
    parser.add_argument(
        "--results", type=Path, required=True, help="one line of JSON for each network, appended"
    )
    parser.add_argument("--table", type=Path, help="write the table as Markdown")
    parser.add_argument("--only", nargs="*", help="names of networks; these run again")
    parser.add_argument(
        "--draws", type=int, default=1, help="draws of the weights, each of which is compared"
    )
    parser.add_argument("--seconds", type=float, default=300, help="time limit for one network")
    options = parser.parse_args()
    if unknown := set(options.suites) - set(coverage_networks.SUITES):
        parser.error(
            f"no collection {', '.join(sorted(unknown))}; there are "
            f"{', '.join(coverage_networks.SUITES)}"
        )
    torch.set_num_threads(1)
    for suite in options.suites:
        done = {row["name"] for row in rows(options.results) if row["suite"] == suite}
        for name, build in coverage_networks.networks(suite):
            if name in options.only if options.only else name not in done:
                row = {"suite": suite, "name": name, **in_a_process(build, options)}
                with options.results.open("a") as file:
                    file.write(json.dumps(row) + "\n")
                print(line(row), flush=True)
    if options.table:
        before = options.table.read_text() if options.table.exists() else ""
        page = coverage_table.page(rows(options.results), tolerance=TOLERANCE, before=before)
        options.table.write_text(page)


def rows(path: Path) -> list[dict[str, Any]]:
    """The newest row of each network."""
    lines = path.read_text().splitlines() if path.exists() else []
    newest = {(row["suite"], row["name"]): row for row in map(json.loads, lines)}
    return list(newest.values())


def in_a_process(build: Build, options: argparse.Namespace) -> dict[str, Any]:
    """A row measured in a fork, so that a crash or a hang costs one row."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=lambda: sender.send(measure(build, options.draws)))
    process.start()
    sender.close()
    try:
        return (
            receiver.recv()
            if receiver.poll(options.seconds)
            else {"error": f"no result in {options.seconds:.0f} s"}
        )
    except EOFError:
        return {"error": "the process died"}
    finally:
        process.kill()
        process.join()


def measure(build: Build, draws: int) -> dict[str, Any]:
    """Discover and verify one network."""
    row: dict[str, Any] = {"packages": packages()}
    try:
        torch.manual_seed(0)
        model, inputs, kwargs = build()
        row["parameters"] = sum(p.numel() for p in model.parameters())
        start = time.process_time()
        spec = wsl.permutation_spec(model, *inputs, **kwargs)
        row |= {"seconds": time.process_time() - start, **describe(spec)}
        row["used"] = movable_of_used(spec, model)
        row["differences"] = differences(spec, model, (inputs, kwargs), draws=draws)
        row["control"] = control(spec, model, inputs, kwargs)
    except Exception as error:  # noqa: BLE001 - a network that fails is a row, whatever the reason
        row["error"] = (
            f"{type(error).__name__}: {str(error).splitlines()[0][:300] if str(error) else ''}"
        )
        row["trace"] = traceback.format_exc()[-1500:]
    row["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return row


def packages() -> dict[str, str]:
    """Versions of the packages that are imported."""
    names = ("torch", "torchvision", "timm", "transformers", "torch_geometric", "peft", "zuko")
    others = {"neuralop": "neuraloperator", "kan": "pykan"}
    known = {name: name for name in names} | others
    return {
        package: importlib.metadata.version(package)
        for name, package in known.items()
        if name in sys.modules
    }


def differences(
    spec: PermutationSpec,
    model: nn.Module,
    call: tuple[tuple[Any, ...], dict[str, Any]],
    *,
    draws: int,
) -> list[float]:
    """Relative differences at one draw of the weights after another: at as many as were asked for,
    and until one is below the tolerance.
    """
    inputs, kwargs = call
    found: list[float] = []
    for seed in range(max(draws, len(SEEDS))):
        proof = wsl.verify(
            spec, model, *inputs, kwargs=kwargs, tolerance=TOLERANCE, seed=seed, groups=False
        )
        found.append(proof.whole)
        if len(found) >= draws and min(found) <= TOLERANCE:
            break
    return found


def control(
    spec: PermutationSpec, model: nn.Module, inputs: tuple[Any, ...], kwargs: dict[str, Any]
) -> dict[str, float]:
    """Relative difference when one movable matrix, drawn at random, stays behind; another is drawn
    if nothing depends on it.
    """
    state = {name: t for name, t in model.state_dict().items() if isinstance(t, torch.Tensor)}
    addresses = [t.data_ptr() for t in state.values()]
    moving = {o.tensor for group in spec.groups for o in spec.occurrences(group)}
    matrices = [
        n
        for n, t in state.items()
        if n in moving and t.dim() > 1 and addresses.count(t.data_ptr()) == 1
    ]
    found: dict[str, float] = {}
    for name in random.Random(0).sample(matrices, min(CONTROLS, len(matrices))):
        wrong = left_behind(spec, name)
        found[name] = wsl.verify(
            wrong, model, *inputs, kwargs=kwargs, tolerance=float("inf"), groups=False
        ).whole
        if found[name] > coverage_table.ROUNDING:
            break
    return found


def left_behind(spec: PermutationSpec, tensor: str) -> PermutationSpec:
    """The specification with one tensor fixed."""
    fixed = tuple(((n,),) for n in spec.shapes[tensor])
    annotations = tuple(
        (name, fixed if name == tensor else axes) for name, axes in spec.annotations
    )
    used = {
        atom for _, axes in annotations for axis in axes for segment in axis for atom in segment
    }
    return PermutationSpec(
        tuple(group for group in spec.declared if group.name in used), annotations
    )


def describe(spec: PermutationSpec) -> dict[str, Any]:
    """What the table says of a specification."""
    reasons: dict[str, int] = {}
    for axis, reason in spec.pinned.items():
        tensor = axis.rpartition(" axis ")[0]
        reasons[reason] = reasons.get(reason, 0) + spec.shapes[tensor].numel()
    return {
        "groups": sum(spec.groups[group.per] if group.per else 1 for group in spec.declared),
        "log10_order": spec.log10_order,
        "movable": spec.movable,
        "pinned": dict(sorted(reasons.items(), key=lambda item: -item[1])[:8]),
    }


def movable_of_used(spec: PermutationSpec, model: nn.Module) -> float:
    """Share of the parameters' entries, of those that the call uses, on tensors with an axis that a
    group permutes.
    """
    sizes = {name: p.numel() for name, p in model.named_parameters() if name in spec.shapes}
    used = {name: n for name, n in sizes.items() if name not in spec.unused}
    moving = {o.tensor for group in spec.groups for o in spec.occurrences(group)}
    return sum(n for name, n in used.items() if name in moving) / max(1, sum(used.values()))


def line(row: dict[str, Any]) -> str:
    """One row for the eye."""
    if "error" in row:
        found = f"{row.get('groups', '-')!s:>5} {row.get('movable', 0):7.1%}"
        return f"{row['name']:44s} {found} MISSED {row['error']}"
    shown = " ".join(f"{d:.1e}" for d in row["differences"])
    control = max(row["control"].values(), default=0)
    mark = "" if coverage_table.verified(row, TOLERANCE) else "  WRONG"
    return (
        f"{row['name']:44s} {row['groups']:5d} {row['movable']:7.1%} {shown} control {control:.1e} "
        f"{row['seconds']:6.1f} s {row['peak_mib']} MiB{mark}"
    )


if __name__ == "__main__":
    sys.exit(main())
