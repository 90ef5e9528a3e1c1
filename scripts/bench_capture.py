"""A training step of functionals on a GPU, launched kernel by kernel and replayed as one CUDA graph
(`settings.capture`).

    python scripts/bench_capture.py ZOO METHOD [METHOD ...] [--batch 128] [--steps 50] [--rounds 5]

METHOD is a recipe of ``models/`` with changes after colons, as for ``table_functionals.py``.
Forward, backward, clipping and AdamW on one batch that lies on the GPU; both ways take turns,
medians of ``--rounds`` rounds, peak memory of both together.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable

import torch
from torch import nn

from wsl.cli.config import compose
from wsl.cli.train import build_network
from wsl.training import LabelClassification
from wsl.training.loop.captured import Captured
from wsl.zoo import Resident, Zoo


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("zoo")
    parser.add_argument("methods", nargs="+")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("this needs a GPU that torch can use")
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, batches of {options.batch}")
    for method in options.methods:
        torch.cuda.reset_peak_memory_stats()
        times = measure(
            options.zoo, method, options.batch, steps=options.steps, rounds=options.rounds
        )
        peak = torch.cuda.max_memory_allocated() / 2**30
        print(
            f"{method}: launched {times['launched']:.2f} ms, replayed {times['replayed']:.2f} ms, "
            f"{times['launched'] / times['replayed']:.1f} times; peak {peak:.2f} GB"
        )


def measure(path: str, method: str, batch: int, *, steps: int, rounds: int) -> dict[str, float]:
    """Milliseconds of a step, both ways."""
    ways = {
        "launched": step(path, method, batch, capture=False),
        "replayed": step(path, method, batch, capture=True),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds + 1):
        for name, run in ways.items():
            torch.cuda.synchronize()
            started = time.perf_counter()
            for _ in range(steps):
                run()
            torch.cuda.synchronize()
            times[name].append((time.perf_counter() - started) / steps * 1e3)
    return {name: statistics.median(values[1:]) for name, values in times.items()}


def step(path: str, method: str, batch: int, *, capture: bool) -> Callable[[], None]:
    """A training step on the first ``batch`` rows; the label is the row's number, modulo ten."""
    model, *own = method.split(":")
    zoo, objective = Zoo(path), LabelClassification()
    config = compose("train", [f"models={model}", "datasets=mnist_inr", f"zoo={path}", *own])
    network = build_network(config, zoo, objective).cuda()
    if isinstance(normalizer := getattr(network, "normalizer", None), nn.Module):
        normalizer.fit(zoo.statistics("train"))
    theta, _ = Resident(zoo, "cuda")[:batch]
    labels = {"label": torch.arange(batch) % 10}
    run = Captured(network, batch) if capture else network
    optimizer = torch.optim.AdamW(network.parameters())

    def once() -> None:
        optimizer.zero_grad()
        objective.losses(run(theta), labels).mean().backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()

    return once


if __name__ == "__main__":
    main()
