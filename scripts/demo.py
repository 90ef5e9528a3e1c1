"""All three jobs of wsl on real data, through the public commands: populations, functionals,
alignment, generated weights.

    python scripts/demo.py --output demo

Two lanes of commands run side by side, one thread each. Every step is skipped when its result is
already there. Writes ``report.html`` (self-contained), ``summary.json`` (every number) and prints a
table.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import numpy as np
from demo_report import write_report
from scipy import ndimage

from wsl import Zoo
from wsl.populations import digits

FAILED = Event()
ASKED = (9, 1, 4, 7, 2)
"""The digits of the task that the demo asks a generator for."""
ARMS = ("generated", "default_init", "reptile", "nearest", "nearest_mean", "wrong_condition")
"""Of those that a generator told by examples is judged beside."""
ZOOS = {
    "{cnns}": "digits_cnn",
    "{inrs}": "digits_inr",
    "{seeds}": "digits_mlp_seeds",
    "{tasks}": "digits_mlp_tasks",
}
LANES = {
    "populations and functionals on CNNs, generation": [
        "zoo build datasets=digits_cnn output={out}/digits_cnn.h5",
        "train models=unf {cnns} output={out}/cnn-unf",
        "zoo build datasets=digits_mlp_seeds output={out}/digits_mlp_seeds.h5",
        "generate models=flow_matching fit.code_steps=400 {seeds} output={out}/generated",
    ],
    "implicit representations, alignment and merging": [
        "zoo build datasets=digits_inr output={out}/digits_inr.h5",
        "train models=unf {inrs} output={out}/inr-unf",
        "train models=statnet {inrs} output={out}/inr-statnet",
        "zoo build datasets=digits_mlp output={out}/digits_mlp.h5",
        "zoo export {out}/digits_mlp.h5 --rows 0 1 -o {out}/mlp",
        "zoo build datasets=digits_cnn_bn output={out}/digits_cnn_bn.h5",
        "zoo export {out}/digits_cnn_bn.h5 --rows 0 1 -o {out}/cnn_bn",
        "match {mlp} -o {out}/mlp/matched.safetensors",
        "connect {mlp} -o {out}/mlp-path",
        "merge {mlp} -o {out}/mlp/merged.safetensors",
        "connect {cnn_bn} --reset-batch-norm -o {out}/cnn_bn-path",
        "merge {cnn_bn} --reset-batch-norm -o {out}/cnn_bn/merged.safetensors",
        "train models=statnet {cnns} output={out}/cnn-statnet",
        "zoo build datasets=digits_mlp_tasks population.members=256 "
        "output={out}/digits_mlp_tasks.h5",
        "generate models=hyper_network samples=4 fit.steps=600 held_out.tasks=20 held_out.seeds=1 "
        "{tasks} output={out}/told",
        "generate --from {out}/told --condition-on {images} -n 4 -o {out}/asked",
    ],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", default="demo", type=Path)
    out = parser.parse_args().output
    out.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    with ThreadPoolExecutor(len(LANES)) as pool:
        lanes = list(
            pool.map(lambda commands: [step(command, out) for command in commands], LANES.values())
        )
    before = read(out / "summary.json")["seconds"] if (out / "summary.json").exists() else {}
    seconds = before | {name: round(s, 1) for lane in lanes for name, s in lane if s is not None}
    summary = summarise(out, seconds)
    summary["wall_seconds"] = round(time.perf_counter() - started, 1)
    summary["peak_memory_gb"] = round(
        resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20, 2
    )
    (out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    write_report(out, summary)
    print(table(summary))
    print(
        f"\n{out / 'report.html'} and {out / 'summary.json'} hold every figure and number; "
        f"{summary['wall_seconds']:.0f} s"
    )


def step(command: str, out: Path) -> tuple[str, float | None]:
    """Run ``wsl COMMAND`` once its zoo is there; its name and seconds, None if some output was
    there before.
    """
    words = [word for part in command.split() for word in expand(part, out)]
    for needed in (Path(word.removeprefix("zoo=")) for word in words if word.startswith("zoo=")):
        while not needed.exists() and not FAILED.is_set():
            time.sleep(0.2)
    target = output_of(words)
    name, there = (
        f"{' '.join(words[: 1 + (words[0] == 'zoo')])} {target.stem}",
        any(target.parent.glob(f"{target.name}*")),
    )
    started = time.perf_counter()
    env = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "wsl", *words], env=env, capture_output=True, text=True, check=False
    )
    seconds = time.perf_counter() - started
    print(
        f"{seconds:6.1f} s  wsl {' '.join(words)}\n          "
        f"{' / '.join(done.stdout.strip().splitlines()[-2:])}",
        flush=True,
    )
    if done.returncode:
        FAILED.set()
        sys.exit(f"wsl {' '.join(words)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return name, None if there else seconds


def output_of(words: list[str]) -> Path:
    """Where a command writes: after ``-o``, or ``output=``."""
    if "-o" in words:
        return Path(words[words.index("-o") + 1])
    return Path(next(word.removeprefix("output=") for word in words if word.startswith("output=")))


def expand(part: str, out: Path) -> list[str]:
    """Fill in the output folder, ``{cnns}`` by a population and its file, ``{mlp}`` by the two
    exported checkpoints.
    """
    if part in ZOOS:
        return [f"datasets={ZOOS[part]}", f"zoo={out / ZOOS[part]}.h5"]
    if part in {"{mlp}", "{cnn_bn}"}:
        return sorted(str(path) for path in (out / part.strip("{}")).glob("member-*.safetensors"))
    if part == "{images}":
        return [str(own_images(out / "images.npz"))]
    return [part.format(out=out)]


def own_images(path: Path) -> Path:
    """A task as a user has it: 20 images of each of the digits 9, 1, 4, 7, 2, turned by 30 degrees
    against the clock, as arrays ``images`` and ``labels``.
    """
    images, labels = (part.numpy() for part in digits().val)
    rows = np.concatenate([np.flatnonzero(labels == c)[:20] for c in ASKED])
    turned = ndimage.rotate(images[rows], 30, axes=(2, 3), reshape=False, order=1)
    np.savez(path, images=turned, labels=np.repeat(np.arange(len(ASKED)), 20))
    return path


def summarise(out: Path, seconds: dict[str, float]) -> dict:
    """Every number of the demo, read from the result files of its steps."""
    zoos = {name: Zoo(out / f"{name}.h5") for name in ("digits_cnn", "digits_inr")}
    trained = {
        name: read(out / name / "result.json")
        for name in ("cnn-unf", "cnn-statnet", "inr-unf", "inr-statnet")
    }
    return {
        "zoos": {
            name: population(zoo, seconds.get(f"zoo build {name}")) for name, zoo in zoos.items()
        },
        "functionals": {
            name: {"seed": done["config"]["seed"], "parameters": done["parameters"], **done["test"]}
            for name, done in trained.items()
        },
        "paths": {
            name: read(out / f"{name}-path" / "result.json")["paths"] for name in ("mlp", "cnn_bn")
        },
        "merged": {
            name: {
                key: value
                for key, value in read(out / name / "merged.result.json").items()
                if "accuracy" in key
            }
            for name in ("mlp", "cnn_bn")
        },
        "generated": read(out / "generated" / "result.json")["scores"],
        "told": told(read(out / "told" / "result.json")["families"]),
        "seconds": seconds,
    }


def told(families: dict[str, dict]) -> dict[str, dict[str, float]]:
    """Accuracy as drawn of the arms of each family of held-out tasks, and of the floors."""
    return {
        family: {name: each["arms"][name]["drawn"] for name in ARMS} | each["floors"]
        for family, each in families.items()
    }


def population(zoo: Zoo, seconds: float | None) -> dict:
    """Size of a zoo, and members per second if it was timed."""
    members = len(set(zoo.table["member"].tolist()))
    return {
        "members": members,
        "checkpoints": len(zoo),
        "members_per_second": round(members / seconds, 1) if seconds else None,
    }


def read(path: Path) -> dict:
    return json.loads(path.read_text())


def table(summary: dict) -> str:
    """The numbers that matter, as text."""
    f, p, g = summary["functionals"], summary["paths"], summary["generated"]
    lines = [("zoos", "")]
    lines += [
        (
            f"  {name}",
            f"{z['members']} members, {z['checkpoints']} checkpoints, {z['members_per_second']} "
            "members/s",
        )
        for name, z in summary["zoos"].items()
    ]
    lines += [("test accuracy of unseen CNNs, Kendall's tau / R2", "")]
    lines += [
        (f"  {name}", f"{f[f'cnn-{name}']['kendall_tau']:.3f} / {f[f'cnn-{name}']['r2']:.3f}")
        for name in ("unf", "statnet")
    ]
    lines += [("digit shown by unseen INRs, accuracy", "")]
    lines += [(f"  {name}", f"{f[f'inr-{name}']['accuracy']:.3f}") for name in ("unf", "statnet")]
    for name, paths in p.items():
        lines += [
            (
                f"{name}: loss barrier naive / matched",
                f"{paths['naive']['loss_barrier']:.3f} / {paths['matched']['loss_barrier']:.3f}",
            ),
            (
                f"{name}: midpoint accuracy naive / matched",
                f"{paths['naive']['midpoint_accuracy']:.3f} / "
                f"{paths['matched']['midpoint_accuracy']:.3f}",
            ),
            (
                f"{name}: merged network, test accuracy",
                f"{summary['merged'][name]['accuracy']:.3f}",
            ),
        ]
    for family, arms in summary["told"].items():
        lines += [(f"told by 20 images a class, {family.replace('_', ' ')}: accuracy as drawn", "")]
        lines += [(f"  {name.replace('_', ' ')}", f"{value:.3f}") for name, value in arms.items()]
    lines += [
        (
            f"generated: {key.replace('_', ' ')}",
            f"{value:.3f}" if isinstance(value, float) else str(value),
        )
        for key, value in g.items()
    ]
    width = max(len(name) for name, _ in lines) + 2
    return "\n".join(f"{name:<{width}}{value}" for name, value in lines)


if __name__ == "__main__":
    main()
