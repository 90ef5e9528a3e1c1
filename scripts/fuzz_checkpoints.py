"""Damage checkpoints at random and give them to ``wsl match`` and ``wsl zoo import``: a right
result or one clear error, never a traceback, a hang, a huge allocation, or weights lost in silence.

    python scripts/fuzz_checkpoints.py [--cases 1000] [--seed 0]

A case is one file or sharded folder, made by one of the mutations below: safetensors (bytes of the
header, its length, its fields), torch's archives and older pickles (cut, bits turned), indices of
shards and the shards, nests of state dicts with odd keys and types, .npz, names of files, files
that are something else. Both commands run in one process with 4 GiB of address space and 20 s.

*refused*: exit code 2 and one line. *right*: exit code 0; the weights written are those that a
reader of three lines finds in the file, permuted at most, and every tensor of the file is used or
named. Anything else is a defect.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import io
import json
import os
import resource
import shutil
import signal
import tempfile
import traceback
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fuzz_mutations import MUTATIONS, SHAPES, weights
from safetensors.torch import save_file
from torch import Tensor

from wsl.cli import main as wsl
from wsl.zoo import Zoo

SECONDS, BATCH, SPACE, GROWTH = 20, 50, 4 << 30, 256 << 20
GOOD = ("refused", "right", "left out")
SPEC = "h = 4\n0.weight: h 2\n0.bias: h\n2.weight: 3 h\n2.bias: 3\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="run this case alone, and show what it says")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        if options.only is not None:
            for what in one(Path(folder), options.seed, options.only, show=True):
                print(what)
            return
        counts, bad = fuzz(Path(folder), options.cases, options.seed)
    for (mutation, verb, outcome), count in sorted(counts.items()):
        print(f"{mutation:<22} {verb:<7} {count:>5} {outcome}")
    totals = collections.Counter[str]()
    for (_, verb, outcome), count in counts.items():
        totals[f"{verb} {outcome}"] += count
    print(", ".join(f"{name} {count}" for name, count in sorted(totals.items())))
    for line in bad:
        print(line)
    if bad:
        raise SystemExit(f"{len(bad)} defects")


Outcome = tuple[str, str, str]
"""Mutation, verb, outcome."""


def fuzz(folder: Path, cases: int, seed: int) -> tuple[collections.Counter[Outcome], list[str]]:
    """How often each outcome came, and a line for each defect."""
    counts, bad = collections.Counter[Outcome](), []
    number = 0
    while number < cases:
        told = in_child(folder, range(number, min(number + BATCH, cases)), seed)
        for case, outcomes in enumerate(told, number):
            counts.update(
                (mutation, verb, what.partition(":")[0]) for mutation, verb, what in outcomes
            )
            bad += [
                f"case {case}: {mutation}: {verb}: {what}"
                for mutation, verb, what in outcomes
                if what.partition(":")[0] not in GOOD
            ]
        number += len(told)
    return counts, bad


def in_child(folder: Path, numbers: range, seed: int) -> list[list[Outcome]]:
    """Outcomes of the cases up to and including one that ends the process."""
    told = folder / "told.jsonl"
    told.write_text("")
    child = os.fork()
    if child == 0:
        try:
            resource.setrlimit(resource.RLIMIT_AS, (SPACE, SPACE))
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            for number in numbers:
                signal.alarm(SECONDS)
                outcomes = one(folder, seed, number)
                with told.open("a") as file:
                    file.write(json.dumps(outcomes) + "\n")
            os._exit(0)
        except BaseException:  # noqa: BLE001  (a process that was forked must not run on)
            traceback.print_exc()
        finally:
            os._exit(1)
    status = os.waitpid(child, 0)[1]
    outcomes = [
        [(a, b, c) for a, b, c in json.loads(line)] for line in told.read_text().splitlines()
    ]
    if len(outcomes) < len(numbers):
        hang = os.WTERMSIG(status) == signal.SIGALRM
        outcomes.append([("?", "?", "HANG" if hang else f"CRASH: status {status}")])
    return outcomes


def one(folder: Path, seed: int, number: int, *, show: bool = False) -> list[Outcome]:
    """What both commands make of one case."""
    random = np.random.default_rng([seed, number])
    place = folder / "case"
    shutil.rmtree(place, ignore_errors=True)
    (place / "in").mkdir(parents=True)
    save_file(weights(np.random.default_rng(99)), place / "a.safetensors")
    (place / "spec.txt").write_text(SPEC)
    mutation = list(MUTATIONS)[int(random.integers(len(MUTATIONS)))]
    case = MUTATIONS[mutation](place / "in", random)
    outcomes = []
    for verb, run in (("match", match), ("import", import_)):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try:
            what = run(place, case, show)
        except Exception:  # noqa: BLE001
            what = "TRACEBACK: " + traceback.format_exc()[-700:]
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10
        outcomes.append((mutation, verb, f"HUGE: {grown >> 20} MiB" if grown > GROWTH else what))
    return outcomes


def match(place: Path, case: Path, show: bool) -> str:
    """Match the case to a good checkpoint."""
    out = place / "out.safetensors"
    words = ["match", place / "a.safetensors", case, "--spec", place / "spec.txt", "-o", out]
    code, said = called(words, show)
    if code != 0:
        return refusal(code, said, "match")
    from safetensors.torch import load_file

    found = load_file(out)
    if {name: tuple(t.shape) for name, t in found.items()} != SHAPES:
        return "WRONG: names or shapes"
    return judged(dict(tensors(case)), [found], said)


def import_(place: Path, case: Path, show: bool) -> str:
    """Import the folder that holds the case, and perhaps other files; every one accounted for."""
    out, report = place / "zoos", place / "report.json"
    words = ["zoo", "import", place / "in", "-o", f"{out}/", "--report", report, "--skip"]
    code, said = called([*words, "--allow-nonfinite"], show)
    files = {
        file.relative_to(place / "in").as_posix()
        for file in (place / "in").rglob("*")
        if file.is_file()
    }
    if code != 0:
        return refusal(code, said, "zoo")
    told = json.loads(report.read_text())
    if {each["file"] for each in told["files"]} != files:
        return f"LOST: files {files ^ {each['file'] for each in told['files']}}"
    zoos = [Zoo(file) for file in sorted(out.glob("*.h5"))]
    rows = [zoo[i][0] for zoo in zoos for i in range(len(zoo))]
    name = case.relative_to(place / "in").as_posix()
    mine = [
        each
        for each in told["files"]
        if each["file"] == name or each["file"].startswith(f"{name}/")
    ]
    if not any(each["outcome"] == "imported" for each in mine):
        return "left out" if all(each.get("reason") for each in mine) else "LOST: no reason"
    return judged(dict(tensors(case)), rows, said)


def called(words: list[Any], show: bool) -> tuple[int, str]:
    """Exit code and all that the command says."""
    said = io.StringIO()
    with (
        contextlib.redirect_stdout(said),
        contextlib.redirect_stderr(said),
        warnings.catch_warnings(record=True) as warned,
    ):
        warnings.simplefilter("always")
        code = wsl([str(word) for word in words])
    text = said.getvalue() + "".join(f"WARNING {each.message}\n" for each in warned)
    if show:
        print("$ wsl", *words, f"\n{text}[exit {code}]")
    return code, text


def refusal(code: int, said: str, verb: str) -> str:
    """Whether an error is one clear line."""
    lines = said.splitlines()
    last = lines[-1] if lines else ""
    if code != 2 or not last.startswith(f"wsl {verb}: ") or "WARNING" in said:
        return f"UNCLEAR: exit {code}, {said[-300:]}"
    if len(last) > 1500 or "Traceback" in said or "safe_globals" in said or len(last) < 30:
        return f"UNCLEAR: {last[:400]}"
    return "refused"


def judged(raw: Mapping[str, Tensor], found: list[dict[str, Tensor]], said: str) -> str:
    """Whether all that was read is in the file, and all that is in the file was read or named."""
    if "WARNING" in said:
        return f"UNCLEAR: {said[-300:]}"
    if not found:
        return "WRONG: nothing was written"
    contents = collections.Counter(content(t) for result in found for t in result.values())
    there = {content(t) for t in raw.values()}
    if len(found) == 1 and any(c not in there for c in contents):
        # counters and tied weights may be filled in; nothing here has them
        return "WRONG: a tensor that the file does not hold"
    for name, tensor in raw.items():
        parts = [part for part in name.split("/") if part]
        named = any(part in said for part in (name, *parts[-1:], *parts[:1]))
        if tensor.numel() > 1 and content(tensor) not in contents and not named:
            return f"LOST: {name!r}"
    return "right"


def content(tensor: Tensor) -> tuple[float, ...]:
    """The values in order of size: what a permutation leaves alone."""
    if tensor.is_meta or tensor.is_quantized:
        return (float(tensor.numel()),)
    values = tensor.detach().to_dense() if tensor.layout != torch.strided else tensor.detach()
    values = torch.view_as_real(values) if values.is_complex() else values
    return tuple(torch.nan_to_num(values.double(), nan=-7.5).flatten().sort().values.tolist())


def tensors(case: Path) -> Iterator[tuple[str, Tensor]]:
    """Every tensor of the case by its place, read as plainly as can be; none of an optimiser.

    What lies in a shard that the index does not name is named by its shard.
    """
    if case.is_dir():
        for file in sorted(case.iterdir()):
            if file.suffix != ".json":
                yield from ((f"{file.name}{name}", tensor) for name, tensor in tensors(file))
        return
    for read in (_safetensors, _npz, _torch):
        try:
            content = read(case)
        except Exception:  # noqa: BLE001
            continue
        yield from flat(content, "", set())
        return


def flat(content: Any, path: str, seen: set[int]) -> Iterator[tuple[str, Tensor]]:
    """The tensors below ``content``; of what stands in several places, the first."""
    if isinstance(content, Tensor):
        yield path, content
    elif isinstance(content, Mapping | list | tuple) and id(content) not in seen:
        seen.add(id(content))
        items = content.items() if isinstance(content, Mapping) else enumerate(content)
        for key, value in items:
            if "optim" not in str(key):
                yield from flat(value, f"{path}/{key}", seen)


def _safetensors(path: Path) -> Any:
    from safetensors.torch import load_file

    return load_file(path)


def _npz(path: Path) -> Any:
    with np.load(path) as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays.files}


def _torch(path: Path) -> Any:
    return torch.load(path, weights_only=True)


if __name__ == "__main__":
    main()
