"""Shuffled batches of 256 rows of a zoo, beside the bound (np.take on a memory map), a folder of
.pt files, and h5py.

    python scripts/bench_reading.py [--rows 50000] [--files 2000] [--rounds 7]

50,000 SIRENs 2-32-32-1 (1,185 float32 weights, 237 MB), in the page cache. The same shuffled row
numbers are read by every way, in turn, in each round; printed are the median rate over the rounds,
and the median of the ratios within a round. Every way holds a batch until it has the next, as a
training loop does. Time is that of the processor (user and system): one thread that waits for
nothing but it, so that other load on the machine counts little. ``zoo`` is its loader, which gives
what training needs, named tensors and the numeric metadata; the others give less. The folder holds
fewer files than the zoo has rows (said in the output), which favours it. ``zoo, by calls`` is
opened with mapped=False. Peak memory is of a process of its own that does nothing else than import
the library, open the zoo and read all of it once, shuffled.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import torch

from wsl.populations.architectures import networks as architectures
from wsl.symmetry import permutation_spec
from wsl.zoo import Checkpoints, Resident, Zoo, ZooWriter, save
from wsl.zoo.rows.loader import Loader

BATCH = 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--files", type=int, default=2_000, help="of the .pt folder")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--peak", help="internal: read this zoo once and print the peak memory")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.peak:
        return print_peak(options.peak)
    with tempfile.TemporaryDirectory() as folder:
        zoo = build(Path(folder) / "siren.h5", options.rows)
        files = pt_folder(Path(folder) / "pt", zoo, options.files)
        ways = readers(
            zoo,
            files,
            save(
                zoo.subset(range(min(options.rows, 4096))),
                Path(folder) / "archive.h5",
                archive=True,
            ),
        )
        rates = measure(ways, rows=options.rows, rounds=options.rounds)
        peak = subprocess.run(
            [sys.executable, __file__, "--peak", str(zoo.path)],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    report(rates, options, peak)


def build(path: Path, rows: int) -> Zoo:
    model = architectures.siren([2, 32, 32, 1])
    spec = permutation_spec(model, torch.randn(2, 2))
    like = {name: torch.zeros(shape) for name, shape in spec.shapes.items()}
    writer = ZooWriter(path, spec=spec, like=like, columns={"psnr": float, "label": int})
    draw = torch.Generator().manual_seed(0)
    for start in range(0, rows, 10_000):
        member = torch.arange(start, min(start + 10_000, rows))
        params = {
            name: torch.randn(len(member), *shape, generator=draw)
            for name, shape in spec.shapes.items()
        }
        about = {"psnr": torch.rand(len(member), generator=draw).double(), "label": member % 10}
        writer.append(f"s{start}", params, member=member, epoch=0, metadata=about)
    return Zoo(writer.finalize())


def pt_folder(folder: Path, zoo: Zoo, count: int) -> list[Path]:
    folder.mkdir()
    files = [folder / f"{i}.pt" for i in range(min(count, len(zoo)))]
    for i, file in enumerate(files):
        torch.save(zoo[i][0], file)
    return files


def readers(zoo: Zoo, files: list[Path], archive: Zoo) -> dict[str, Callable[[np.ndarray], None]]:
    """Each reads the given rows batch by batch; those with fewer rows take them modulo their
    number.
    """
    file = h5py.File(zoo.path)
    weights = file["weights"]
    bare = np.memmap(zoo.path, "<f4", "r", offset=weights.id.get_offset(), shape=weights.shape)
    out = np.empty((BATCH, bare.shape[1]), np.float32)

    def pt(rows: np.ndarray) -> object:
        loaded = [torch.load(files[i % len(files)], weights_only=True) for i in rows.tolist()]
        return {name: torch.stack([params[name] for params in loaded]) for name in loaded[0]}

    return {
        "np.take": batchwise(lambda rows: np.take(bare, rows, axis=0)),
        "np.take into out": batchwise(
            lambda rows: np.take(bare, rows, axis=0, out=out[: len(rows)], mode="clip")
        ),
        "zoo": loaded_from(zoo),
        "zoo[rows]": batchwise(zoo.__getitems__),
        "zoo, in memory": loaded_from(Resident(zoo, "cpu")),
        "zoo, by calls": loaded_from(Zoo(zoo.path, mapped=False)),
        "zoo, archive": batchwise(lambda rows: archive[rows % len(archive)]),
        "h5py, sorted": batchwise(
            lambda rows: weights[np.sort(rows)][np.argsort(np.argsort(rows))]
        ),
        "folder of .pt": batchwise(pt),
    }


def batchwise(read: Callable[[np.ndarray], object]) -> Callable[[np.ndarray], None]:
    def run(rows: np.ndarray) -> None:
        kept = None
        for start in range(0, len(rows), BATCH):
            kept = read(rows[start : start + BATCH])
        del kept

    return run


def loaded_from(zoo: Checkpoints) -> Callable[[np.ndarray], None]:
    """The loader on the rows in their order, which is that of the others."""

    def run(rows: np.ndarray) -> None:
        for _ in Loader(zoo, rows, BATCH):
            pass

    return run


def measure(
    ways: dict[str, Callable[[np.ndarray], None]], *, rows: int, rounds: int
) -> dict[str, list[float]]:
    """Rows per second of each way in each round; slow ones read fewer batches of the same order."""
    share = {"folder of .pt": 1, "zoo, archive": 4, "h5py, sorted": 16}
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for round_ in range(rounds + 1):
        order = np.random.default_rng(round_).permutation(rows)
        order = order[: rows // BATCH * BATCH]
        for name, read in ways.items():
            part = order[: BATCH * share.get(name, rows)]
            started = time.process_time()
            read(part)
            rates[name].append(len(part) / (time.process_time() - started))
    return {name: values[1:] for name, values in rates.items()}


def report(rates: dict[str, list[float]], options: argparse.Namespace, peak: str) -> None:
    print(
        f"{options.rows} rows of 1185 float32, batches of {BATCH}, one thread; load "
        f"{os.getloadavg()[0]:.1f} on "
        f"{os.cpu_count()} cores; the folder has {options.files} files, the archive 4096 rows"
    )
    ratio = {
        name: statistics.median(
            ours / other for ours, other in zip(rates["zoo"], values, strict=True)
        )
        for name, values in rates.items()
    }
    for name, values in rates.items():
        print(
            f"{name:<18} {statistics.median(values):>12,.0f} rows/s   zoo is {ratio[name]:8.2f} "
            "times as fast"
        )
    print(f"zoo / np.take       {ratio['np.take']:8.2f}   (bound to hold: 0.70)")
    print(f"zoo / folder of .pt {ratio['folder of .pt']:8.0f}   (bound to hold: 200)")
    print(f"zoo / h5py          {ratio['h5py, sorted']:8.1f}   (bound to hold: 10)")
    print(peak, end="")


def print_peak(path: str) -> None:
    opened = high_water()
    zoo = Zoo(path)
    for _ in zoo.loader(batch_size=BATCH, shuffle=True):
        pass
    print(
        f"peak memory: {opened} MiB after import, {high_water()} MiB after a shuffled pass, of "
        "which the file's "
        f"{zoo.path.stat().st_size >> 20} MiB are pages that the system shares and may drop"
    )


def high_water() -> int:
    """Largest resident set of this process so far, in MiB; getrusage would count the parent's
    before exec.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) >> 10 for line in lines if line.startswith("VmHWM:"))


if __name__ == "__main__":
    main()
