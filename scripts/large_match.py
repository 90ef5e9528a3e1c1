"""Two llama-shaped checkpoints of a billion parameters, aligned on two cores in little memory.

    A   random weights in bfloat16, sharded safetensors, written shard by shard
    B   planted.A + noise: the residual stream, every feed-forward layer, and the heads of every
        attention layer (key-value heads, the queries of each, the values inside) in random order;
        with --phases every rotary pair of every key-value head is turned by a random phase too;
        of --family mixtral the experts of every layer, and the hidden units of each expert, as well

    wsl match A B -o OUT --model large_networks:network --kwargs ... --stream [--spec spec.txt]

in a process of its own, whose peak of resident memory is the system's own count. Then the same
again, killed by the ninth signal once while it matches and once while it writes: what a third start
leaves must have the bytes of the first run.

    python scripts/large_match.py --work FOLDER [--family llama|mixtral] [--size small|medium|full]
        [--threads 2] [--phases]

What FOLDER holds of an earlier call with the same arguments is not made again, so that a call that
was broken off goes on; `--kill-after` says when to kill where the seconds of the first run are
not known any more.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch
from large_networks import SIZES, network
from large_planted import NOISE, drawn_element, phase_errors, shares_recovered, turning, write

from wsl import PermutationSpec, permutation_spec
from wsl.matching import ExpertView
from wsl.symmetry import Permutation, SymmetryElement

COMMAND = "import sys; from wsl.cli import main; sys.exit(main(sys.argv[1:]))"


def specification(arguments: argparse.Namespace) -> PermutationSpec:
    """What is free to move: discovered, with experts and phases as far as they take part."""
    with torch.device("meta"):
        model = network(arguments.family, arguments.size)
    spec = permutation_spec(model, torch.zeros(2, 8, dtype=torch.long))
    spec = ExpertView.of(spec).spec if arguments.family == "mixtral" else spec
    return turning(spec) if arguments.phases else spec


def start(arguments: argparse.Namespace, out: Path) -> subprocess.Popen[bytes]:
    words = ["match", "A", "B", "-o", out.name, "--stream", "--model", "large_networks:network"]
    words += ["--kwargs", json.dumps({"family": arguments.family, "size": arguments.size})]
    shape = SIZES[arguments.family][arguments.size]
    words += ["--input-shape", f"int:2,8:{shape.vocabulary}"]
    declared = arguments.phases or arguments.family == "mixtral"
    words += ["--spec", "spec.txt"] if declared else []
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    environment = {**os.environ, "OMP_NUM_THREADS": str(arguments.threads), "PYTHONPATH": path}
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", COMMAND, *words], cwd=out.parent, env=environment
    )


def killed(arguments: argparse.Namespace, out: Path, seconds: float) -> None:
    """Kill a run after some seconds of matching, and one when its first shard is written."""
    run = start(arguments, out)
    time.sleep(seconds)
    run.send_signal(signal.SIGKILL)
    run.wait()
    tell(f"killed after {seconds:.0f} s: element found {found_in(out)}, {written(out)} shards")
    run = start(arguments, out)
    while run.poll() is None and written(out) < 1:
        time.sleep(0.05)
    run.send_signal(signal.SIGKILL)
    run.wait()
    tell(f"killed while it writes: {written(out)} shards, index {index_of(out).exists()}")


def written(out: Path) -> int:
    """How many shards of weights there are; the element is a file of its own."""
    return len(list(out.glob("model-*.safetensors")))


def found_in(out: Path) -> bool:
    return (out / "wsl.permutation.json").exists()


def index_of(out: Path) -> Path:
    return out / "model.safetensors.index.json"


def digests(folder: Path) -> dict[str, str]:
    found = {}
    for file in sorted(folder.iterdir()):
        with file.open("rb") as content:
            found[file.name] = hashlib.file_digest(content, "sha256").hexdigest()
    return found


def make(work: Path, spec: PermutationSpec, planted: SymmetryElement) -> None:
    """Both checkpoints and the specification, but for what is there."""
    began = time.perf_counter()
    for name, element in (("A", None), ("B", planted)):
        if not index_of(work / name).exists():
            shutil.rmtree(work / name, ignore_errors=True)
            write(work / name, spec, element)
    (work / "spec.txt").write_text(str(spec))
    count = sum(shape.numel() for shape in spec.shapes.values())
    seconds = time.perf_counter() - began
    tell(f"{count / 1e6:.1f} M parameters twice, noise {NOISE}, written in {seconds:.0f} s")


def aligned(arguments: argparse.Namespace, out: Path) -> float:
    """The seconds of a run that nothing disturbs; what it used is told."""
    tell(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores, {arguments.threads} threads")
    began = time.perf_counter()
    run = start(arguments, out)
    _, status, used = os.wait4(run.pid, 0)
    seconds = time.perf_counter() - began
    if os.waitstatus_to_exitcode(status):
        raise SystemExit("the run failed")
    tell(f"aligned in {seconds:.0f} s, peak memory {used.ru_maxrss / 2**20:.2f} GiB")
    tell(f"processor time {used.ru_utime + used.ru_stime:.0f} s; load {os.getloadavg()[0]:.1f}")
    return seconds


def recovered(out: Path, planted: SymmetryElement, *, phases: bool) -> bool:
    """Whether the run found all that was planted; how much of it is told."""
    found = Permutation.load(out / "wsl.permutation.json")
    same = found == ~planted.permutation
    tell(f"planted permutation recovered: {same}")
    for kind, share in shares_recovered(planted.permutation, found).items():
        tell(f"{kind}: {share:.2%} of the planted indices")
    if phases:
        errors = phase_errors(planted, SymmetryElement.load(out / "wsl.element.safetensors"))
        mean, most = float(errors.mean()), float(errors.max())
        tell(f"phases: {len(errors)}, off by {mean:.4f} rad on average, {most:.4f} at most")
    return same


def tell(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--work", type=Path, required=True, help="a folder of this script's own")
    parser.add_argument("--family", choices=SIZES, default="llama")
    parser.add_argument("--size", choices=SIZES["llama"], default="full")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--phases", action="store_true", help="turn rotary pairs too")
    parser.add_argument("--kill-after", type=float, default=120, help="seconds, if not known")
    return parser.parse_args()


def main() -> None:
    arguments = options()
    torch.set_num_threads(arguments.threads)
    work = arguments.work.resolve()
    spec = specification(arguments)
    planted = drawn_element(spec, arguments.seed)
    make(work, spec, planted)
    done = index_of(work / "one").exists()
    seconds = 3 * arguments.kill_after if done else aligned(arguments, work / "one")
    same_units = recovered(work / "one", planted, phases=arguments.phases)

    shutil.rmtree(work / "two", ignore_errors=True)
    killed(arguments, work / "two", seconds / 3)
    if start(arguments, work / "two").wait():
        raise SystemExit("the run that was taken up again failed")
    same = digests(work / "one") == digests(work / "two")
    tell(f"killed twice and taken up again, every byte of every file equal: {same}")
    shutil.rmtree(work / "two")
    sys.exit(not (same and same_units))


if __name__ == "__main__":
    main()
