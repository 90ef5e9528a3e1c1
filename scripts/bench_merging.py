"""How fast files are merged, and in how much memory: beside mergekit, and beside a copy.

    pip install mergekit                                  (in an environment of its own)
    python scripts/bench_merging.py                       TIES of four networks, here and there
    python scripts/bench_merging.py --folders A B         two folders averaged, beside cp and sync
    python scripts/bench_merging.py --memory              peak memory of every method in files

Every figure is of a process of its own: wall clock with and without its imports, its processor
time, and the most memory that it had. Rounds alternate between what is compared; the least counts.
Without mergekit only wsl is run.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

Figures = Mapping[str, float]
THREADS = 2
MEASURED = """
import json, sys, time
begin = time.perf_counter()
{imports}
start = time.perf_counter()
{call}
wall = time.perf_counter() - start
with open("/proc/self/status") as status:
    peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024
print(json.dumps({{"inside": wall, "imports": start - begin, "peak": peak}}))
"""
OURS = ("from wsl.cli import main; import wsl.cli.merge", "assert main(sys.argv[1:]) == 0")
THEIRS = (
    "from mergekit.scripts.merge_raw_pytorch import main",
    "main(sys.argv[1:], standalone_mode=False)",
)
BLOCKS = [(64, 64), (128, 64), (256, 128), (512, 256)]
TENSOR = (4096, 16384)
"""In bfloat16 134 MB."""
SMALL = (1024, 4096)
"""For methods that decompose matrices, which takes minutes of larger ones."""
METHODS = {
    "average": "",
    "task_arithmetic": "base",
    "checkpoint_decay": "",
    "dare": "base",
    "della": "base",
    "breadcrumbs": "base",
    "ties: {unit: tensor}": "base",
    "pcb: {unit: tensor}": "base",
    "sce: {select: 0.5}": "base",
    "model_stock": "base",
    "slerp": "",
    "nuslerp: {unit: column}": "",
    "multislerp": "",
    "karcher": "",
    "tsvm": "base",
    "iso_c": "base",
    "iso_cts": "base",
}


def main() -> None:
    """Print what is asked for."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--folders", nargs=2, metavar=("A", "B"), help="checkpoints to average")
    parser.add_argument("--memory", action="store_true", help="peak memory of every method")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    if options.folders:
        return beside_a_copy(*map(Path, options.folders), rounds=options.rounds)
    with tempfile.TemporaryDirectory() as scratch:
        if options.memory:
            return memory(Path(scratch))
        beside_mergekit(Path(scratch), rounds=options.rounds)


def run(code: tuple[str, str], words: Sequence[str]) -> dict[str, float]:
    """Figures of one process: seconds, and MiB at the peak."""
    imports, call = code
    command = [sys.executable, "-W", "ignore", "-c", MEASURED.format(imports=imports, call=call)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(THREADS)}
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        [*command, *words], check=False, capture_output=True, text=True, env=environment
    )
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(done.stderr.strip().splitlines()[-1])
    told = json.loads(done.stdout.splitlines()[-1])
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"wall": wall, **told, "processor": used}


def least(rounds: int, arms: Mapping[str, Callable[[], Figures]]) -> dict[str, dict[str, float]]:
    """The least of every figure over some rounds, in which all arms take turns."""
    found: dict[str, list[Figures]] = {name: [] for name in arms}
    for _ in range(rounds):
        for name, arm in arms.items():
            found[name].append(arm())
    return {
        name: {key: min(each[key] for each in told) for key in told[0]}
        for name, told in found.items()
    }


def resnet18() -> dict[str, tuple[int, ...]]:
    """The shapes of its 11.7 million weights."""
    found = {"conv1.weight": (64, 3, 7, 7), "bn1.weight": (64,), "bn1.bias": (64,)}
    for layer, (out, into) in enumerate(BLOCKS, 1):
        for block, first in enumerate((into, out)):
            at = f"layer{layer}.{block}"
            found |= {f"{at}.conv1.weight": (out, first, 3, 3)}
            found |= {f"{at}.conv2.weight": (out, out, 3, 3)}
            if first != out:
                found |= {f"{at}.downsample.weight": (out, first, 1, 1)}
            found |= {f"{at}.bn{i}.{w}": (out,) for i in (1, 2) for w in ("weight", "bias")}
    return found | {"fc.weight": (1000, 512), "fc.bias": (1000,)}


def networks(folder: Path) -> list[Path]:
    """A base and four networks near it, float32."""
    files, start = [], None
    for seed, name in enumerate(("base", "a", "b", "c", "d")):
        rng = torch.Generator().manual_seed(seed)
        drawn = {n: torch.randn(shape, generator=rng) for n, shape in resnet18().items()}
        theta = drawn if start is None else {n: start[n] + 0.1 * t for n, t in drawn.items()}
        start = start or theta
        save_file(theta, folder / f"{name}.safetensors", {"format": "pt"})
        files.append(folder / f"{name}.safetensors")
    return files


def beside_mergekit(folder: Path, *, rounds: int) -> None:
    """TIES of four, the whole command of each from files to a file."""
    base, *members = networks(folder)
    lines = ["merge_method: ties", f"base_model: {base}", "models:"]
    for member in members:
        lines += [f"  - model: {member}", "    parameters: {weight: 1.0, density: 0.2}"]
    config = folder / "merge.yaml"
    config.write_text("\n".join([*lines, "dtype: float32"]))
    ours = ["merge", str(config), "-o", str(folder / "ours"), "--threads", str(THREADS)]
    arms = {"wsl": lambda: run(OURS, ours), "wsl, in memory": lambda: run(in_memory(folder), [])}
    has_mergekit = importlib.util.find_spec("mergekit") is not None
    if has_mergekit:
        arms["mergekit"] = lambda: run(THEIRS, [str(config), str(folder / "theirs")])
    told = least(rounds, arms)
    print(f"TIES of four networks of 11.7 million float32 weights, {THREADS} threads")
    say(told)
    if has_mergekit:
        a, b = (one_file(folder / name) for name in ("ours", "theirs"))
        other = sum(int(((a[n] - b[n]).abs() > 1e-6).sum()) for n in a)
        print(
            f"entries that differ by more than 1e-6: {other} of {sum(map(torch.numel, a.values()))}"
        )
        for key in ("wall", "inside", "processor"):
            print(f"mergekit / wsl, {key}: {told['mergekit'][key] / told['wsl'][key]:.1f}")


def in_memory(folder: Path) -> tuple[str, str]:
    """The method alone, on dicts of tensors."""
    read = (
        f"*members, base = [load_file('{folder}/' + n + '.safetensors') for n in [*'abcd', 'base']]"
    )
    return (
        f"from safetensors.torch import load_file; from wsl.merging import TIES; {read}",
        "TIES(0.2, unit='tensor').solve(members, base=base)",
    )


def one_file(folder: Path) -> dict[str, torch.Tensor]:
    """The tensors of the only checkpoint in a folder."""
    (file,) = folder.glob("*.safetensors")
    return load_file(file)


def beside_a_copy(a: Path, b: Path, *, rounds: int) -> None:
    """The average of two folders, and the copy of one with a sync, which writes as many bytes."""
    out = a.parent / ".bench_merging"
    words = ["merge", str(a), str(b), "-o", str(out), "--stream", "--method", "average"]

    def copied() -> Figures:
        start = time.perf_counter()
        subprocess.run(["cp", "-r", str(a), str(out)], check=True)
        subprocess.run(["sync"], check=True)
        return {"wall": time.perf_counter() - start}

    def fresh(arm: Callable[[], Figures]) -> Callable[[], Figures]:
        def cleared() -> Figures:
            shutil.rmtree(out, ignore_errors=True)
            subprocess.run(["sync"], check=True)
            return arm()

        return cleared

    arms = {"copy": fresh(copied), "wsl": fresh(lambda: run(OURS, [*words, "--no-match"]))}
    try:
        told = least(rounds, arms)
    finally:
        shutil.rmtree(out, ignore_errors=True)
    size = sum(file.stat().st_size for file in a.iterdir())
    print(f"the average of two folders of {size / 1e9:.2f} GB")
    say(told)
    print(f"wsl / copy: {told['wsl']['wall'] / told['copy']['wall']:.2f}")


def memory(folder: Path) -> None:
    """Of two members, and a base where there is one; against (members + 1) tensors + 300 MB."""
    nothing = run(("import wsl.cli.merge", "pass"), [])["peak"]
    for shape in (TENSOR, SMALL):
        rng, start = torch.Generator().manual_seed(0), torch.zeros(())
        for name in ("base", "a", "b"):
            drawn = torch.randn(shape, generator=rng) * (0.02 if name == "base" else 0.002)
            theta = (start + drawn).bfloat16()
            start = theta if name == "base" else start
            save_file({"w": theta}, folder / f"{name}-{shape[0]}.safetensors")
    print(f"imports alone {nothing:.0f} MiB; two threads")
    for method, needs in METHODS.items():
        shape = SMALL if method in ("tsvm", "iso_c", "iso_cts") else TENSOR
        files = [str(folder / f"{name}-{shape[0]}.safetensors") for name in ("a", "b", "base")]
        words = ["merge", *files[:2], *(["--base", files[2]] if needs else []), "--method", method]
        words += ["--no-match", "--stream", "--threads", "2", "-o", str(folder / "o.safetensors")]
        told = run(OURS, words)
        size = 2 * shape[0] * shape[1] / 2**20
        bound = 3 * size + 300e6 / 2**20
        print(
            f"{method:<26} tensors of {size:5.0f} MiB: peak {told['peak']:6.0f} MiB, grown by "
            f"{told['peak'] - nothing:5.0f}, bound {bound:5.0f}, {told['processor']:5.1f} s",
            flush=True,
        )


def say(told: Mapping[str, Figures]) -> None:
    """One line for each arm."""
    for name, figures in told.items():
        units = {key: "MiB" if key == "peak" else "s" for key in figures}
        shown = ", ".join(f"{key} {value:.2f} {units[key]}" for key, value in figures.items())
        print(f"{name:<16} {shown}", flush=True)


if __name__ == "__main__":
    main()
