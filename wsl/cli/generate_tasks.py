"""``wsl generate`` for a population of many tasks, with a generator that is asked by examples.

The generator learns from the tasks of training members and from fresh ones of their kind; it is
judged on tasks held out (`generate_held_out`), beside the recipe's ``task_arms``, each as it is
and with its last layer in closed form. The images that tell it of a held-out task, and those that
score, are in no training.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wsl.cli.generate_fit import fitted, losses
from wsl.cli.generate_held_out import COLUMNS, Split, split_tasks
from wsl.cli.generate_tasks_page import write_tasks_page
from wsl.cli.results import write_json, write_table, write_with
from wsl.cli.targets import instantiate
from wsl.cli.terminal import say
from wsl.diagnostics import last_rows
from wsl.generative import (
    Episodes,
    Generator,
    Initializer,
    RidgeHead,
    Start,
    TaskJudgement,
    TaskTraining,
    TaskTrial,
    TrainingMembers,
    examples_of,
    judge_tasks,
)
from wsl.params import unstack
from wsl.populations import Classification, TaskVariants, build_architecture
from wsl.zoo import Zoo, write_checkpoint

SHORT = ("steps", "lrs", "batch_size")
"""Options under ``trial`` that a training on few examples takes too."""


def has_tasks(zoo: Zoo) -> bool:
    """Whether each of a zoo's networks has a task of its own."""
    return set(COLUMNS) <= set(zoo.table.dtype.names or ())


def generate_for_tasks(
    config: Mapping[str, Any],
    zoo: Zoo,
    data: Classification,
    *,
    generator: Generator,
    folder: Path,
    head: Mapping[str, Any],
) -> dict[str, Any]:
    """Fit, judge on every held-out family, write; the document of the result."""
    rows = torch.as_tensor(zoo.indices("train")[last_rows(zoo.split("train"))])
    columns = _columns(zoo, rows)
    split = split_tasks(config, data, columns)
    members = _members(config, zoo, data, split=split, rows=rows[split.rows])
    report = fitted(config, generator, members)
    start = _start(zoo, members, generator, seed=config["seed"])
    folder.mkdir(parents=True, exist_ok=True)
    judged = {}
    for name, family in split.families.items():
        judged[name] = _judge(config, start, family, folder=folder, name=name, zoo=zoo)
    write_with(folder / "generator.safetensors", generator.save)
    write_table(folder / "fit.csv", losses(report))
    write_table(folder / "generated.csv", _table(judged))
    write_tasks_page(folder / "report.html", judged, members=len(members))
    done = {
        **head,
        "scores": {"members": len(members), **_scores(judged)},
        **_told_of(judged, config["best"]),
        "architecture": zoo.architecture,
        "task": zoo.provenance["task"],
        "examples": _examples(data.train.images, columns),
    }
    write_json(folder / "result.json", done)
    return done


def _examples(images: Tensor, columns: Mapping[str, Any]) -> dict[str, Any]:
    """What a task of the run is told by, so that `generate_from` knows what to expect."""
    return {
        "classes": len(str(columns["classes"][0]).split(",")),
        "input": list(images.shape[1:]),
        "range": [float(images.min()), float(images.max())],
    }


def _told_of(judged: Mapping[str, TaskJudgement], best: int | None) -> dict[str, Any]:
    """All arms of all families, and the verdict, as a document."""
    return {
        "families": {name: _document(each, best) for name, each in judged.items()},
        "summary": [
            line
            for n, each in judged.items()
            for line in (f"{n.replace('_', ' ')}:", *each.verdict.summary)
        ],
        "verdict": [f"{n}: {line}" for n, each in judged.items() for line in each.verdict.lines],
        "flags": {n: dict(each.verdict.flags) for n, each in judged.items()},
        "left_out": {arm: why for each in judged.values() for arm, why in each.left_out.items()},
    }


def _start(zoo: Zoo, members: TrainingMembers, generator: Generator, *, seed: int) -> Start:
    """What the arms may know; of each held-out task the judge adds the examples."""

    def make() -> nn.Module:
        return build_architecture(zoo.architecture or {})

    return Start(make(), zoo.spec, seed, make=make, members=members, fitted=generator)


def _columns(zoo: Zoo, rows: Tensor) -> dict[str, Any]:
    """What the tasks of these rows are."""
    return {name: zoo.table[name][rows.numpy()] for name in COLUMNS}


def _members(
    config: Mapping[str, Any], zoo: Zoo, data: Classification, *, split: Split, rows: Tensor
) -> TrainingMembers:
    """Members whose tasks touch nothing held out, with examples of each one's task."""
    params, metadata = zoo.__getitems__(rows.tolist())
    columns = _columns(zoo, rows)
    rng = torch.Generator().manual_seed(config["seed"])
    return TrainingMembers(
        params,
        member=metadata["member"],
        reference=int(metadata["train_accuracy"].argmax()),
        model=build_architecture(zoo.architecture or {}),
        inputs=data.train.images,
        examples=examples_of(data.train, columns, shots=config["tasks"]["shots"], generator=rng),
        tasks=split.seen,
    )


def _judge(
    config: Mapping[str, Any], start: Start, family: Any, *, folder: Path, name: str, zoo: Zoo
) -> TaskJudgement:
    """Try the arms on fresh tasks of a family, and write networks of the first of them."""
    held = config["held_out"]
    rng = torch.Generator().manual_seed(config["seed"])
    wanted = family.variants(held["tasks"], generator=rng)
    tasks: Episodes = family.episodes(wanted, generator=rng)
    arms = {arm: instantiate(how) for arm, how in config["task_arms"].items()}
    trial = config.get("trial") or {}
    training = TaskTraining(**{key: trial[key] for key in SHORT if key in trial})
    found = judge_tasks(start, arms, tasks, seeds=held["seeds"], training=training, head=_solved)
    for arm, reason in found.left_out.items():
        say(f"arm left out: {arm}: {reason}", error=True)
    for i, theta in enumerate(unstack(found.drawn)[: config["samples"]]):
        about = {"spec": str(zoo.spec), "architecture": json.dumps(zoo.architecture)}
        write_checkpoint(folder / f"{name}-{i:02d}.safetensors", theta, about | _told(wanted, i))
    return found


def _solved(arm: Initializer) -> Initializer:
    """The same start, its last layer as leaving each example out once chooses it."""
    return RidgeHead(arm, ridge=None)


def _told(wanted: TaskVariants, i: int) -> dict[str, str]:
    """What task a network was drawn for."""
    return {
        "classes": ",".join(map(str, wanted.classes[i].tolist())),
        "turn": f"{90 * float(wanted.turns[i]):g}",
        "inverted": str(bool(wanted.invert[i])),
    }


def _scores(judged: Mapping[str, TaskJudgement]) -> dict[str, float | None]:
    """The generator's own, of each family."""
    kept = ("accuracy_as_drawn", "accuracy_tuned", "target_accuracy", "steps_to_target")
    kept += ("steps_to_target_from_default_init", "accuracy_of_nearest_class_mean")
    kept += ("accuracy_of_ridge_on_inputs",)
    return {
        f"{family}: {name}": _number(each.scores[name])
        for family, each in judged.items()
        for name in kept
        if name in each.scores
    }


def _document(judged: TaskJudgement, best: int | None) -> dict[str, Any]:
    return {
        "target": judged.target,
        "scores": {name: _number(value) for name, value in judged.scores.items()},
        "floors": {name: float(values.mean()) for name, values in judged.floors.items()},
        "arms": {name: _arm(each, judged.target, best) for name, each in judged.trials.items()},
    }


def _arm(trial: TaskTrial, target: float, best: int | None) -> dict[str, Any]:
    return {
        "drawn": float(trial.drawn.mean()),
        **({} if best is None else {"drawn_best": float(trial.best(best).mean())}),
        "tuned": float(trial.tuned.mean()),
        "lr": trial.lr,
        "steps": list(trial.steps),
        "curve": trial.curve.tolist(),
        "steps_to_target": _number(trial.steps_to(target)),
    }


def _number(value: float) -> float | None:
    """JSON has no infinity: a target that was never reached has no step."""
    return None if math.isinf(value) else value


def _table(judged: Mapping[str, TaskJudgement]) -> dict[str, list[Any]]:
    """Columns family, arm, task, drawn, tuned."""
    table: dict[str, list[Any]] = {n: [] for n in ("family", "arm", "task", "drawn", "tuned")}
    for family, each in judged.items():
        for arm, trial in each.trials.items():
            count = len(trial.drawn)
            table["family"] += [family] * count
            table["arm"] += [arm] * count
            table["task"] += range(count)
            table["drawn"] += trial.drawn.tolist()
            table["tuned"] += trial.tuned.tolist()
    return table
