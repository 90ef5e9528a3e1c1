"""Damage good zoo files at random and read them: a clear error or the right rows, never a crash, a
hang, or wrong data.

    python scripts/fuzz_zoo.py [--files 1000] [--seed 0]

Files of each kind (float32, bfloat16, archive, version 1) are mutated: bits, bytes and blocks,
mostly in what describes the data, a third of them anywhere; cut, lengthened, spliced. In a fifth of
the files the damage is in the text attributes and their checksum is made to fit, as an adversary
would do. Each is opened, its metadata, rows, statistics and loader read, and verified, in a process
with 4 GiB of address space and 20 s per file. Outcomes: *refused* (a `ZooError`, at opening or at
use), *caught* (rows could be read, `verify` finds the damage), *right* (all equal to the file
before), *signed* (readable, but said to be so by a checksum that was forged: another file).
Anything else is a defect.
"""

from __future__ import annotations

import argparse
import collections
import os
import resource
import signal
import tempfile
import traceback
from pathlib import Path

import h5py
import numpy as np
import torch

from wsl.symmetry import PermutationSpec
from wsl.zoo import Zoo, ZooError, ZooWriter, save
from wsl.zoo.file.format import TEXTS, VERSION, checksum

SECONDS, BATCH, SPACE = 20, 50, 4 << 30
OLD = Path(__file__).parent.parent / "tests" / "data" / "version_1.h5"
OUTCOMES = ("refused", "caught", "right", "signed", "WRONG DATA", "OTHER ERROR", "HANG")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        counts = fuzz(Path(folder), options.files, options.seed)
    print(", ".join(f"{name} {count}" for name, count in sorted(counts.items())))
    if bad := set(counts) - {"refused", "caught", "right", "signed"}:
        raise SystemExit(f"defects: {', '.join(sorted(bad))}")


def fuzz(folder: Path, files: int, seed: int) -> collections.Counter[str]:
    """How often each outcome came."""
    good = good_files(folder)
    counts = collections.Counter[str]()
    number = 0
    while number < files:
        outcomes = in_child(folder, good, range(number, min(number + BATCH, files)), seed)
        number += len(outcomes)
        counts.update(outcomes)
    return counts


def good_files(folder: Path) -> list[Path]:
    spec = PermutationSpec.parse("h = 8\n0.weight: h 5\n0.bias: h\nsteps:")
    like = {
        name: torch.zeros(shape, dtype=torch.int64 if name == "steps" else None)
        for name, shape in spec.shapes.items()
    }
    writer = ZooWriter(
        folder / "plain.h5",
        spec=spec,
        like=like,
        architecture={"_target_": "x"},
        columns={"accuracy": float, "name": str, "good": bool, "seed": int},
        provenance={"note": "n" * 40},
    )
    draw = torch.Generator().manual_seed(0)
    params = {
        name: torch.randn(30, *shape, generator=draw) for name, shape in spec.shapes.items()
    } | {"steps": torch.arange(30)}
    writer.append(
        "a",
        params,
        member=np.arange(30) // 3,
        epoch=np.arange(30) % 3,
        metadata={
            "accuracy": np.arange(30) / 30,
            "name": list("abc" * 10),
            "good": True,
            "seed": 5,
        },
    )
    plain = Zoo(writer.finalize())
    return [
        plain.path,
        save(plain, folder / "small.h5", dtype=torch.bfloat16).path,
        save(plain, folder / "archive.h5", archive=True).path,
        OLD,
    ]


def in_child(folder: Path, good: list[Path], numbers: range, seed: int) -> list[str]:
    """Outcomes of the files up to and including one that ends the process."""
    read, tell = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(read)
            resource.setrlimit(resource.RLIMIT_AS, (SPACE, SPACE))
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            for number in numbers:
                signal.alarm(SECONDS)
                os.write(
                    tell,
                    bytes(
                        [OUTCOMES.index(one(folder, good, np.random.default_rng([seed, number])))]
                    ),
                )
            os._exit(0)
        except Exception:  # noqa: BLE001  (a process that was forked must not run on)
            traceback.print_exc()
        finally:
            os._exit(1)
    os.close(tell)
    with os.fdopen(read, "rb") as told:
        outcomes = [OUTCOMES[code] for code in told.read()]
    status = os.waitpid(child, 0)[1]
    if len(outcomes) < len(numbers):
        killer = os.WTERMSIG(status)
        what = "HANG" if killer == signal.SIGALRM else f"CRASH (signal {killer}, status {status})"
        keep = Path(f"crash-{seed}-{numbers[len(outcomes)]}.h5")
        keep.write_bytes((folder / "fuzzed.h5").read_bytes())
        outcomes.append(what)
    return outcomes


def one(folder: Path, good: list[Path], random: np.random.Generator) -> str:
    source = good[random.integers(len(good))]
    path = folder / "fuzzed.h5"
    forged = source != OLD and random.random() < 0.2
    path.write_bytes(source.read_bytes() if forged else mutated(source, random))
    if forged:
        forge(path, random)
    try:
        read = contents(Zoo(path))
    except ZooError:
        return "refused"
    except Exception:  # noqa: BLE001
        traceback.print_exc()
        return "OTHER ERROR"
    try:
        Zoo(path).verify()
    except ZooError:
        return "caught"
    except Exception:  # noqa: BLE001
        traceback.print_exc()
        return "OTHER ERROR"
    if forged:
        return "signed"
    return "right" if read == contents(Zoo(source)) else "WRONG DATA"


def contents(zoo: Zoo) -> tuple[object, ...]:
    """Everything that a user can read."""
    params, numbers = zoo[:]
    batches = [batch for batch, _ in zoo.loader(batch_size=7, shuffle=True)]
    tensors = [
        *params.values(),
        *numbers.values(),
        *(t for batch in batches for t in batch.values()),
    ]
    zoo.statistics(None)
    about = (
        str(zoo.spec),
        zoo.provenance,
        zoo.architecture,
        zoo.columns,
        zoo.buffers,
        zoo.table.tobytes(),
    )
    return (
        *map(repr, about),
        *(t.contiguous().flatten().view(torch.uint8).numpy().tobytes() for t in tensors),
    )


def forge(path: Path, random: np.random.Generator) -> None:
    """Change characters of one text attribute, mostly digits and brackets, and sign the file
    again.
    """
    with h5py.File(path, "r+") as file:
        texts = {name: file.attrs[name].decode() for name in TEXTS[VERSION]}
        name = str(random.choice(list(texts)))
        letters = list(texts[name])
        for _ in range(int(random.choice([1, 1, 2, 5]))):
            place = int(random.integers(len(letters)))
            letters[place] = str(random.choice(list('0123456789-+.eE[]{}()",: hw\n'))) * int(
                random.choice([0, 1, 1, 2, 5000])
            )
        texts[name] = "".join(letters) or " "
        data = texts[name].encode()
        file.attrs.create(name, np.bytes_(data), dtype=h5py.string_dtype("utf-8", len(data)))
        file.attrs.modify("checksum", np.int64(checksum("complete", int(file.attrs["P"]), texts)))


def mutated(source: Path, random: np.random.Generator) -> bytes:
    """A damaged copy: where the file is not zero is where its structure and its data are."""
    data = bytearray(source.read_bytes())
    inhabited = np.flatnonzero(np.frombuffer(bytes(data), np.uint8))
    structure = inhabited[inhabited < 8192] if random.random() < 0.67 else inhabited
    for _ in range(int(random.choice([1, 1, 1, 2, 4, 16]))):
        place, kind = int(random.choice(structure)) if len(structure) else 0, random.random()
        place = min(place, len(data) - 1)
        if kind < 0.4:
            data[place] ^= 1 << int(random.integers(8))
        elif kind < 0.7:
            data[place] = int(random.integers(256))
        elif kind < 0.8:
            size = int(random.choice([2, 4, 8]))
            extreme = random.choice([0, 1, -1, 2**31 - 1, -(2**31), 2**62, -(2**62)])
            data[place : place + size] = (int(extreme) % 2 ** (8 * size)).to_bytes(size, "little")
        elif kind < 0.86:
            size = int(random.integers(1, 600))
            other = int(random.integers(len(data)))
            data[place : place + size] = data[other : other + size]
        elif kind < 0.92:
            size = int(random.integers(1, 600))
            data[place : place + size] = bytes(min(size, len(data) - place))
        elif kind < 0.96:
            del data[int(random.integers(len(data))) :]
            data = data or bytearray(1)
        else:
            data[place:place] = random.bytes(int(random.integers(1, 64)))
    return bytes(data)


if __name__ == "__main__":
    main()
