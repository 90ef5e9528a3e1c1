"""Kill a zoo build with SIGKILL at random moments, check after each kill that nothing committed is
lost, and resume.

    python scripts/crash_zoo.py [--kills 100] [--seed 0]

A build appends its tasks one by one and finalizes. Half of the kills fall anywhere in the build,
half within finalize. After
each: every task whose append had returned is on disk, readable and right; no shard is damaged; the
zoo file is absent or complete and byte for byte that of an uninterrupted build; the next run does
no finished task again. What the kernel holds survives SIGKILL: the loss of power is not tried here.
"""

from __future__ import annotations

import argparse
import collections
import os
import select
import signal
import tempfile
import time
import traceback
from pathlib import Path

import numpy as np
import torch

from wsl.symmetry import PermutationSpec
from wsl.zoo import Zoo, ZooWriter

TASKS, ROWS = 24, 32
SPEC = PermutationSpec.parse("h = 32\n0.weight: h 20\n0.bias: h\n2.weight: 10 h\n2.bias: 10")
APPENDED, FINALIZING, DONE = 100, 101, 102


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        counts = crash(Path(folder), options.kills, np.random.default_rng(options.seed))
    print(
        f"{options.kills} kills: {counts['append']} while appending, {counts['finalize']} while "
        "finalizing; "
        f"{counts['builds']} builds completed, each equal to an uninterrupted one; "
        f"{counts['tasks']} tasks were found "
        "committed after a kill, none lost, none damaged, none done again"
    )


def crash(folder: Path, kills: int, random: np.random.Generator) -> collections.Counter[str]:
    reference = folder / "whole.h5"
    append, finalize = timed(reference)
    whole, path = reference.read_bytes(), folder / "zoo.h5"
    counts, committed = collections.Counter[str](), set[int]()
    while counts["append"] + counts["finalize"] < kills:
        done, phase = run(
            path,
            committed,
            delay=random.random() * append if random.random() < 0.5 else None,
            later=random.random() * 1.2 * finalize,
        )
        committed |= done
        counts[phase] += 1
        check(path, committed, whole)
        counts["tasks"] += len(committed)
        if phase == "builds":
            assert path.read_bytes() == whole, "a resumed build differs from an uninterrupted one"
            path.unlink()
            committed = set()
    while run(path, committed, delay=None, later=3600)[1] != "builds":
        pass
    assert path.read_bytes() == whole, "a resumed build differs from an uninterrupted one"
    assert sorted(os.listdir(folder)) == ["whole.h5", "zoo.h5"]
    return counts


def writer(path: Path) -> ZooWriter:
    return ZooWriter(
        path,
        spec=SPEC,
        like={name: torch.zeros(shape) for name, shape in SPEC.shapes.items()},
        columns={"accuracy": float, "name": str},
    )


def content(task: int) -> tuple[dict[str, torch.Tensor], np.ndarray, dict[str, object]]:
    draw = np.random.default_rng(task)
    params = {
        name: torch.from_numpy(draw.normal(size=(ROWS, *shape)).astype("f4"))
        for name, shape in SPEC.shapes.items()
    }
    return (
        params,
        np.arange(ROWS) * TASKS + task,
        {"accuracy": draw.random(ROWS), "name": f"task {task}"},
    )


def build(path: Path, tell: int, committed: set[int]) -> None:
    """The build, telling what it does through a pipe."""
    target = writer(path)
    if not target.complete:
        for task in range(TASKS):
            if not target.has(f"task{task}"):
                assert task not in committed, f"task {task} was committed and is done again"
                params, member, metadata = content(task)
                target.append(f"task{task}", params, member=member, epoch=0, metadata=metadata)
                os.write(tell, bytes([APPENDED, task]))
    os.write(tell, bytes([FINALIZING, 0]))
    target.finalize()
    os.write(tell, bytes([DONE, 0]))


def timed(path: Path) -> tuple[float, float]:
    """Seconds that appending and finalizing take, measured on the build that nobody kills."""
    read, tell = os.pipe()
    started = time.perf_counter()
    target = writer(path)
    for task in range(TASKS):
        params, member, metadata = content(task)
        target.append(f"task{task}", params, member=member, epoch=0, metadata=metadata)
    middle = time.perf_counter()
    build(path, tell, set())
    os.close(read)
    os.close(tell)
    return middle - started, time.perf_counter() - middle


def run(
    path: Path, committed: set[int], *, delay: float | None, later: float
) -> tuple[set[int], str]:
    """Start a build and kill it ``delay`` seconds after its start, or ``later`` seconds after it
    began to finalize.
    """
    read, tell = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            build(path, tell, committed)
            os._exit(0)
        except Exception:  # noqa: BLE001  (a process that was forked must not run on)
            traceback.print_exc()
        finally:
            os._exit(1)
    os.close(tell)
    done, phase, end = set[int](), "append", None if delay is None else time.perf_counter() + delay
    while True:
        wait = None if end is None else max(0.0, end - time.perf_counter())
        if not select.select([read], [], [], wait)[0]:
            os.kill(child, signal.SIGKILL)
            end = None
            continue
        message = os.read(read, 2)
        if not message:
            break
        if message[0] == APPENDED:
            done.add(message[1])
        phase = {APPENDED: "append", FINALIZING: "finalize", DONE: "builds"}[message[0]]
        if message[0] == FINALIZING and delay is None:
            end = time.perf_counter() + later
    os.close(read)
    status = os.waitpid(child, 0)[1]
    assert status == signal.SIGKILL or (status == 0 and phase == "builds"), (
        f"the build failed with status {status}"
    )
    return done, phase


def check(path: Path, committed: set[int], whole: bytes) -> None:
    """Every committed row is in the file or in a shard, and everything that is there is right."""
    if path.exists():
        assert path.read_bytes() == whole, "the zoo file is neither absent nor complete"
        Zoo(path).verify()
        return
    found = set()
    target = writer(path)
    for shard in target.shards.glob("*.npz"):
        task = int(shard.stem.removeprefix("task"))
        params, member, _ = content(task)
        with np.load(shard, allow_pickle=False) as arrays:
            assert np.array_equal(arrays["weights"], target.header.layout.pack(params)), (
                f"{shard} is damaged"
            )
            assert np.array_equal(arrays["_member"], member), f"{shard} is damaged"
        found.add(task)
    assert committed <= found, f"tasks {sorted(committed - found)} were committed and are lost"


if __name__ == "__main__":
    main()
