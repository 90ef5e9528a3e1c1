"""Forward and backward of one equivariant layer, beside the bound: the pointwise matrix product c x c for every weight.

    python scripts/bench_layers.py [--threads 2] [--rounds 20]

The variants of one network are interleaved; medians and their ratio are printed, with the peak memory of the process.
Times depend on the machine, the ratio hardly does.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from collections.abc import Callable

import torch
from torch import nn

from wsl.nn import EquivariantLinear
from wsl.symmetry import PermutationSpec, permutation_spec
from wsl.zoo import architectures

NETWORKS = {
    "SIREN 2-32-32-1": (lambda: architectures.siren([2, 32, 32, 1]), (2, 2)),
    "CNN 1-8-16-16": (lambda: architectures.cnn(1, [8, 16, 16], 10, strides=[2, 2, 1]), (2, 1, 8, 8)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"{'network':<18} {'batch':>5} {'c':>3} {'layer ms':>9} {'bound ms':>9} {'ratio':>6}")
    for name, (make, shape) in NETWORKS.items():
        spec = permutation_spec(make(), torch.randn(shape))
        for batch in (32, 128):
            for channels in (16, 32):
                layer, bound = measure(spec, batch, channels, rounds=options.rounds)
                print(f"{name:<18} {batch:>5} {channels:>3} {layer:9.2f} {bound:9.2f} {layer / bound:6.1f}")
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GB")


def measure(spec: PermutationSpec, batch: int, channels: int, *, rounds: int) -> tuple[float, float]:
    """Median milliseconds of the layer and of the bound, run in turn."""
    layer = EquivariantLinear(spec, channels, channels, fixed="encoded")
    pointwise = nn.Linear(channels, channels)
    count = sum(shape.numel() for shape in spec.shapes.values())
    params = {name: torch.randn(batch, *shape, channels, requires_grad=True) for name, shape in spec.shapes.items()}
    flat = torch.randn(batch * count, channels, requires_grad=True)

    def run_layer() -> None:
        sum(t.sum() for t in layer(params).values()).backward()

    def run_bound() -> None:
        pointwise(flat).sum().backward()

    times: dict[Callable[[], None], list[float]] = {run_layer: [], run_bound: []}
    for _ in range(rounds + 2):
        for run, spent in times.items():
            started = time.perf_counter()
            run()
            spent.append(1e3 * (time.perf_counter() - started))
    return statistics.median(times[run_layer][2:]), statistics.median(times[run_bound][2:])


if __name__ == "__main__":
    main()
