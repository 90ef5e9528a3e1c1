"""The page of a generator judged on held-out tasks: for each family, arms as drawn and curves."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from wsl.generative import TaskJudgement, TaskTrial
from wsl.plots import bar_figure, bar_table, lines_figure, lines_table, save_page

HEAD = " with a solved head"
CURVES = ("generated", "default_init", "reptile", "nearest", "nearest_mean")
"""Arms whose training is drawn, as they are and with a solved head; the tables have all."""


def write_tasks_page(path: Path, judged: Mapping[str, TaskJudgement], *, members: int) -> None:
    """One HTML file that loads nothing, and a CSV beside it for each figure."""
    figures, notes = {}, {}
    for family, each in judged.items():
        figures[f"{family}_as_drawn"] = _bars(each)
        figures[f"{family}_training"] = _curves(each)
        notes[f"{family}_as_drawn"] = "\n".join(each.verdict.summary)
        notes[f"{family}_training"] = (
            f"Each arm at its best rate on the examples of the task; target {each.target:.3f}. "
            "Bands are standard errors over tasks."
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    facts = {"members to learn from": str(members), "families held out": ", ".join(judged)}
    title = "Networks for held-out tasks, and what they have to beat"
    save_page(path, title, figures, notes=notes, facts=facts)


def _bars(judged: TaskJudgement) -> Any:
    """Accuracy as drawn of floors and arms, with the standard error over tasks."""
    scores = dict(judged.floors) | {name: each.drawn for name, each in judged.trials.items()}
    values = {name.replace("_", " "): float(each.mean()) for name, each in scores.items()}
    errors = {name.replace("_", " "): _error(each) for name, each in scores.items()}
    label = "accuracy as drawn ± standard error"
    return bar_figure(values, label=label, errors=errors), bar_table(values, errors=errors)


def _curves(judged: TaskJudgement) -> Any:
    names = [name + head for name in CURVES for head in ("", HEAD)]
    lines = {
        name.replace("_", " "): _line(judged.trials[name])
        for name in names
        if name in judged.trials
    }
    return lines_figure(lines, x="steps of training", y="accuracy"), lines_table(lines)


def _line(trial: TaskTrial) -> tuple[list[int], list[float], list[float]]:
    """Steps, accuracies, and their standard errors over tasks."""
    errors = [_error(trial.accuracy[..., k].mean(0)) for k in range(len(trial.steps))]
    return list(trial.steps), trial.curve.tolist(), errors


def _error(scores: Tensor) -> float:
    return float(scores.std() / len(scores) ** 0.5) if len(scores) > 1 else 0.0
