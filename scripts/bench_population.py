"""A population trained as one beside a Python loop over modules and beside the bound: its matrix
products, sines and cosines.

    python scripts/bench_population.py [--threads 2] [--rounds 5] [--siren 2000] [--cnn 512]

SIRENs 2-32-32-1 on 28x28 pixels with Adam, and the convolutional network of ``digits_cnn`` on
batches of 32 with AdamW. All variants of one case run in turn, round by round; medians per member
and step are printed, the bound's share of them, the load of the machine and the peak memory. Bound:
the batched matrix products of the forward and backward pass (im2col's, for convolutions) but for
those with a side of one or two, which no library does at its rate, and one sine and one cosine per
hidden unit and pixel, as fast as a compiled loop computes them (2 to 3 times faster than torch's
own). Times depend on the machine, ratios less; on a machine that others use, ``--processor-time``
with one thread counts this process's work only.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wsl.base.compiled import Engine
from wsl.populations import (
    AdamW,
    MemberSettings,
    SampledBatches,
    SharedSettings,
    digits,
    initial_population,
    train_population,
)
from wsl.populations.architectures.networks import cnn, siren

Run = Callable[[], int]
"""Does some work and says how many member-steps it was."""
Batch = Callable[[int, int], tuple[Tensor, Tensor]]
"""Member and step -> inputs and targets."""
STEPS = 20
ADAM = AdamW()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--siren", type=int, default=2000, help="members")
    parser.add_argument("--cnn", type=int, default=512, help="members")
    parser.add_argument("--processor-time", action="store_true", help="instead of wall time")
    options = parser.parse_args()
    clock = time.process_time if options.processor_time else time.perf_counter
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    cases = {
        "SIREN 2-32-32-1, 784 pixels, Adam": fields(options.siren),
        "CNN of digits_cnn, batch 32, AdamW": images(options.cnn),
    }
    for title, runs in cases.items():
        report(title, measure(runs, clock, rounds=options.rounds))


def report(title: str, times: dict[str, float]) -> None:
    print(f"\n{title} ({torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f})")
    for name, micros in times.items():
        print(
            f"  {name:<18} {micros:8.1f} us per member-step   loop / this "
            f"{times['loop'] / micros:5.1f}"
            f"   this / bound {micros / times['bound']:5.2f}   share of bound "
            f"{times['bound'] / micros:4.0%}"
        )
    print(f"  peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GB")


def measure(runs: dict[str, Run], clock: Callable[[], float], *, rounds: int) -> dict[str, float]:
    """Median microseconds per member and step."""
    spent: dict[str, list[float]] = {name: [] for name in runs}
    for name in runs:
        runs[name]()
    for _ in range(rounds):
        for name, run in runs.items():
            started = clock()
            count = run()
            spent[name].append(1e6 * (clock() - started) / count)
    return {name: statistics.median(values) for name, values in spent.items()}


def fields(members: int) -> dict[str, Run]:
    make = lambda: siren([2, 32, 32, 1], smooth=True)  # noqa: E731
    axis = torch.linspace(-1, 1, 28)
    coordinates, values = torch.cartesian_prod(axis, axis), torch.rand(members, 784, 1)
    batch = coordinates.expand(members, -1, -1), values
    start, lr = initial_population(make, range(members)), torch.full((members,), 5e-4)

    def stacked(engine: Engine) -> Run:
        def run() -> int:
            train_population(
                make_once,
                start,
                F.mse_loss,
                batches=lambda _: batch,
                members=MemberSettings(lr=lr, weight_decay=torch.zeros(members)),
                shared=SharedSettings(optimizer=ADAM, steps=STEPS),
                engine=engine,
            )
            return members * STEPS

        return run

    make_once = make()
    return {
        "loop": loop(
            make, F.mse_loss, lambda i, _: (coordinates, values[i]), torch.optim.Adam, lr=5e-4
        ),
        "stacked": stacked(Engine(compiled=False)),
        "stacked, compiled": stacked(Engine(compiled=True)),
        "bound": bound([(784, 32, 32)], sines=2 * 784 * 32),
    }


def images(members: int) -> dict[str, Run]:
    make = lambda: cnn(1, [8, 16, 16], 10, strides=[2, 2, 1])  # noqa: E731
    data, seeds = digits().train, torch.arange(members)
    batches = SampledBatches(*data, seeds=seeds, batch_size=32, fraction=torch.ones(members))
    start, lr, decay = (
        initial_population(make, range(members)),
        torch.full((members,), 1e-3),
        torch.full((members,), 1e-2),
    )
    make_once = make()

    def stacked(engine: Engine) -> Run:
        def run() -> int:
            train_population(
                make_once,
                start,
                F.cross_entropy,
                batches=batches,
                members=MemberSettings(lr=lr, weight_decay=decay),
                shared=SharedSettings(optimizer=ADAM, steps=STEPS),
                engine=engine,
            )
            return members * STEPS

        return run

    one = batches.of(torch.arange(1))

    def batch(_: int, step: int) -> tuple[Tensor, Tensor]:
        x, y = one(step)
        return x[0], y[0]

    shapes = [(32 * 16, 9, 8), (32 * 4, 72, 16), (32 * 4, 144, 16), (32, 16, 10)]
    return {
        "loop": loop(make, F.cross_entropy, batch, torch.optim.AdamW, lr=1e-3, weight_decay=1e-2),
        "stacked": stacked(Engine(compiled=False)),
        "stacked, compiled": stacked(Engine(compiled=True)),
        "bound": bound(shapes, sines=0),
    }


def loop(
    make: Callable[[], nn.Module],
    loss: Callable[[Tensor, Tensor], Tensor],
    batch: Batch,
    optimizer: Callable[..., torch.optim.Optimizer],
    **hyper: float,
) -> Run:
    """Eight members one after another, as anyone would write it."""

    def run() -> int:
        for member in range(8):
            model = make()
            descent = optimizer(model.parameters(), **hyper)
            for step in range(2 * STEPS):
                x, y = batch(member, step)
                descent.zero_grad()
                loss(model(x), y).backward()
                descent.step()
        return 8 * 2 * STEPS

    return run


def bound(shapes: list[tuple[int, int, int]], *, sines: int, stack: int = 32) -> Run:
    """Products (rows, k) x (k, n) forward and both backward, but the first one's for pixels; sines
    and cosines.
    """
    tensors = [
        (torch.randn(stack, m, k), torch.randn(stack, k, n), torch.randn(stack, m, n))
        for m, k, n in shapes
    ]
    results = [
        (torch.empty_like(x), torch.empty_like(w), torch.empty_like(y)) for x, w, y in tensors
    ]
    angles = torch.randn(stack * max(sines, 1))
    both = torch.compile(lambda t: (t.sin().sum(), t.cos().sum()), dynamic=False) if sines else None

    def run() -> int:
        for i, ((x, w, y), (dx, dw, out)) in enumerate(zip(tensors, results, strict=True)):
            torch.bmm(x, w, out=out)
            torch.bmm(x.mT, y, out=dw)
            if i or sines:
                torch.bmm(y, w.mT, out=dx)
        if both is not None:
            both(angles)
        return stack

    return run


if __name__ == "__main__":
    main()
