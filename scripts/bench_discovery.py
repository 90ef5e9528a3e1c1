"""Time and memory of `wsl.permutation_spec` on transformers of about a billion parameters, weights
on the meta device.

    python scripts/bench_discovery.py                 # both shapes, each in a process of its own
    python scripts/bench_discovery.py llama --profile # where the time goes

Prints the time of discovery beside that of `torch.export` alone in the same process, and the peak
resident memory. Needs transformers for the shapes; wsl itself does not.
"""

from __future__ import annotations

import argparse
import cProfile
import importlib
import multiprocessing
import pstats
import resource
import sys
import time

import torch
from coverage_networks import torchvision
from torch import nn

import wsl

SHAPES = ("llama", "gpt2")


def network(shape: str) -> nn.Module:
    """About 1e9 parameters: 22 layers of Llama, or 36 layers of GPT-2, on the meta device."""
    torchvision()  # transformers imports it where it is present
    hf = importlib.import_module("transformers")
    with torch.device("meta"):
        if shape == "llama":
            sizes = {
                "hidden_size": 2048,
                "intermediate_size": 5632,
                "num_hidden_layers": 22,
                "num_attention_heads": 32,
            }
            config = hf.LlamaConfig(
                vocab_size=32000, num_key_value_heads=4, use_cache=False, **sizes
            )
            return hf.LlamaForCausalLM(config)
        return hf.GPT2LMHeadModel(
            hf.GPT2Config(n_embd=1536, n_layer=36, n_head=24, use_cache=False)
        )


def measure(shape: str, profile: bool) -> None:
    """Print one line."""
    torch.set_num_threads(1)
    model, ids = network(shape), torch.zeros(2, 7, dtype=torch.long)
    count = sum(p.numel() for p in model.parameters())
    start = time.process_time()
    torch.export.export(model.eval(), (ids,), strict=False)
    export = time.process_time() - start
    profiler = cProfile.Profile(time.process_time)
    start, wall = time.process_time(), time.perf_counter()
    spec = (
        profiler.runcall(wsl.permutation_spec, model, ids)
        if profile
        else wsl.permutation_spec(model, ids)
    )
    seconds, wall = time.process_time() - start, time.perf_counter() - wall
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    what = f"{count / 1e9:.2f}e9 parameters, {spec.copies} groups, {spec.movable:.1%} movable"
    times = f"discovery {seconds:.1f} s of one core ({wall:.1f} s on the clock)"
    times += f", export alone {export:.1f} s"
    print(f"{shape}: {what}, {times}, peak {peak:.2f} GiB", flush=True)
    if profile:
        pstats.Stats(profiler).sort_stats("cumulative").print_stats(45)


def main() -> None:
    """Each shape in a process of its own."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("shapes", nargs="*", default=SHAPES, help=" or ".join(SHAPES))
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    for shape in options.shapes:
        process = multiprocessing.get_context("spawn").Process(
            target=measure, args=(shape, options.profile)
        )
        process.start()
        process.join()


if __name__ == "__main__":
    sys.exit(main())
