"""Editing of implicit representations: every method, several seeds, one zoo, one budget. Writes a
table as CSV and Markdown.

    python scripts/table_editing.py --zoo runs/zoos/digits_inr.h5 --epochs 30 --output
    runs/editing-digits [--data-root FOLDER]

Each run is a process of its own, so that its peak memory is its own; training time is processor
time of one thread, which other work on the machine hardly changes. What has been run is in
``runs.csv`` and is not run again. Selection is by the validation members, the numbers are of the
test members, errors in pixels of [0, 1].
"""

from __future__ import annotations

import argparse
import csv
import functools
import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from wsl.nn import EquivariantNet, FlatEdit, NFNEdit
from wsl.populations import (
    AdamW,
    MemberSettings,
    SharedSettings,
    build_architecture,
    build_schedule,
    initial_population,
    train_population,
)
from wsl.symmetry import PermutationSpec
from wsl.training import ImageEdit, Settings, evaluate, fit
from wsl.zoo import Zoo

ODD = ("h1", "h2")
METHODS: dict[str, Callable[[PermutationSpec], nn.Module]] = {
    "MLP": lambda spec: FlatEdit(spec, hidden=256),
    "MLP, signs": lambda spec: FlatEdit(spec, hidden=256, odd=ODD),
    "NFN HNP": lambda spec: NFNEdit(spec, fixed="exact", hidden=16, fourier=8, fourier_scale=0.2),
    "NFN NP": lambda spec: NFNEdit(
        spec, fixed="encoded", hidden=16, fourier=8, fourier_scale=0.2, positions=6
    ),
    "NFT": lambda spec: EquivariantNet(spec, hidden=16, layers=2, heads=2),
    "EquivariantNet": lambda spec: EquivariantNet(spec, hidden=16, gated=True),
    "EquivariantNet, signs": lambda spec: EquivariantNet(spec, hidden=16, gated=True, odd=ODD),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--zoo", required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--data-root")
    parser.add_argument("--edits", nargs="+", default=["dilate", "contrast"])
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument(
        "--references", nargs="*", default=list(REFERENCES), choices=list(REFERENCES)
    )
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--lr", type=float, default=2e-3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.output.mkdir(parents=True, exist_ok=True)
    runs = options.output / "runs.csv"
    for edit in options.edits:
        for seed in options.seeds:
            for method in [
                *(options.references if seed == options.seeds[0] else []),
                *options.methods,
            ]:
                if (edit, method, str(seed)) not in {
                    (r["edit"], r["method"], r["seed"]) for r in rows(runs)
                }:
                    append(runs, alone(train, options, edit, method, seed))
                    (options.output / "table.md").write_text(markdown(rows(runs)))
    print(markdown(rows(runs)))


def alone(function: Callable[..., Any], *arguments: Any) -> Any:
    """The result of a call in a fresh process."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as pool:
        return pool.submit(function, *arguments).result()


def train(options: argparse.Namespace, edit: str, method: str, seed: int) -> dict[str, Any]:
    """One row of ``runs.csv``."""
    zoo = Zoo(options.zoo)
    objective = ImageEdit(zoo, edit, data_root=options.data_root)
    torch.manual_seed(seed)
    started = time.process_time()
    if method in REFERENCES:
        network, best, mse = nn.Identity(), -1, REFERENCES[method](zoo, objective)
        spent = time.process_time() - started
    else:
        network = METHODS[method](zoo.spec)
        settings = Settings(
            epochs=options.epochs,
            batch_size=options.batch_size,
            lr=options.lr,
            seed=seed,
            accelerator="cpu",
        )
        best = fit(network, zoo, objective, settings=settings).best_epoch
        spent = time.process_time() - started
        mse = evaluate(network, zoo, objective)[0]["mse"]
    return {
        "edit": edit,
        "method": method,
        "seed": seed,
        "epochs": options.epochs,
        "batch_size": options.batch_size,
        "lr": options.lr,
        "best_epoch": best,
        "mse": mse,
        "parameters": sum(p.numel() for p in network.parameters()),
        "cpu_seconds": spent,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def unchanged(zoo: Zoo, objective: ImageEdit) -> float:
    """Test error of the representations as they are."""
    return evaluate(nn.Identity(), zoo, objective)[0]["mse"]


def fitted(zoo: Zoo, objective: ImageEdit) -> float:
    """The same of representations fitted to edited images, from the starts and in the way of the
    zoo's own; 200 members.
    """
    recipe, about = zoo.provenance["recipe"], zoo.__getitems__(zoo.indices("test")[:200])[1]
    make, count = functools.partial(build_architecture, zoo.architecture), len(about["image"])
    start = {
        n: t * recipe["init_scale"]
        for n, t in initial_population(make, about["seed"].tolist()).items()
    }
    batch = (
        objective.fields.coordinates.expand(count, -1, -1),
        objective.targets(about).flatten(2).transpose(1, 2),
    )
    trained = train_population(
        make(),
        start,
        F.mse_loss,
        batches=lambda _: batch,
        members=MemberSettings(
            lr=torch.full((count,), recipe["lr"]), weight_decay=torch.zeros(count)
        ),
        shared=SharedSettings(
            optimizer=AdamW(),
            steps=recipe["steps"],
            schedule=build_schedule(recipe["schedule"]),
        ),
    )
    return objective.metrics(trained.snapshots[-1], about)["mse"]


REFERENCES = {"unchanged": unchanged, "fitted to the edited image": fitted}


def rows(path: Path) -> list[dict[str, str]]:
    """What has been run."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def append(path: Path, row: dict[str, Any]) -> None:
    """Add one run."""
    fresh = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, list(row), lineterminator="\n")
        if fresh:
            writer.writeheader()
        writer.writerow(row)


def markdown(runs: list[dict[str, str]]) -> str:
    """Mean and deviation over seeds, best first."""
    head = (
        "edit",
        "method",
        "test MSE, mean ± deviation (seeds)",
        "parameters",
        "training, CPU s",
        "peak memory, MB",
    )
    groups: dict[tuple[str, str], list[dict[str, str]]] = {}
    for run in runs:
        groups.setdefault((run["edit"], run["method"]), []).append(run)
    ordered = sorted(groups.items(), key=lambda item: (item[0][0], mean(item[1], "mse")))
    lines = [(edit, method, *cells(group)) for (edit, method), group in ordered]
    return (
        "\n".join(f"| {' | '.join(line)} |" for line in [head, ["---"] * len(head), *lines]) + "\n"
    )


def cells(group: list[dict[str, str]]) -> list[str]:
    """Score and costs of one method; references have neither spread nor costs."""
    score = f"{mean(group, 'mse'):.5f}"
    if group[0]["method"] in REFERENCES:
        return [score, "", "", ""]
    spread = (
        statistics.stdev(float(run["mse"]) for run in group) if len(group) > 1 else float("nan")
    )
    costs = [f"{mean(group, name):.0f}" for name in ("cpu_seconds", "peak_mb")]
    return [f"{score} ± {spread:.5f} ({len(group)})", f"{int(group[0]['parameters']):,}", *costs]


def mean(group: list[dict[str, str]], name: str) -> float:
    """Over runs."""
    return statistics.mean(float(run[name]) for run in group)


if __name__ == "__main__":
    main()
