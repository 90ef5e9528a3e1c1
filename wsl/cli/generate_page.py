"""The page of a judged generator: what is said of every arm, as figures with their tables."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from wsl.generative import Judgement, Trial
from wsl.plots import (
    bar_figure,
    bar_table,
    lines_figure,
    lines_table,
    points_figure,
    points_table,
    save_page,
)

if TYPE_CHECKING:
    from wsl.plots import Figure

NOTES = {
    "errors": "Accuracy against the largest overlap of errors (intersection over union) with any "
    "training member. A copy of a member lies at 1; the members' own points leave each out once.",
    "distances": "Accuracy against the distance to the nearest training member after alignment; "
    "the members' own points leave each out once. Noise buys distance with accuracy.",
    "good_and_new": "Share of networks above the bar of accuracy and further from every member "
    "than tau times the members' own distance.",
}


TITLE = "Generated networks, and what they have to beat (bar {:.3f})"

LABEL = "test accuracy, mean and standard deviation"


def write_page(path: Path, judged: Judgement) -> None:
    """One HTML file that loads nothing, and a CSV beside it for each figure."""
    figures = {
        "arms": _arms_and_table(judged.trials),
        **_points(judged),
        "good_and_new": _shares(judged),
    }
    notes = {"arms": " | ".join([*judged.verdict.lines, *_left_out(judged)]), **NOTES}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_page(path, TITLE.format(judged.bar), figures, notes=notes)


def arm_bars(trials: Mapping[str, Trial]) -> tuple[dict[str, float], dict[str, float]]:
    """Mean accuracy of each arm as drawn and tuned, and its standard deviation."""
    values, errors = {}, {}
    for name, t in trials.items():
        for kind in ("drawn", "tuned"):
            label = f"{name.replace('_', ' ')}, {kind}"
            found = getattr(t, kind)
            values[label], errors[label] = float(found.mean()), spread(found)
    return values, errors


def _arms_and_table(trials: Mapping[str, Trial]) -> Any:
    values, errors = arm_bars(trials)
    return arm_figure(trials), bar_table(values, errors=errors)


def arm_figure(trials: Mapping[str, Trial]) -> Figure:
    """Bars of all arms."""
    values, errors = arm_bars(trials)
    return bar_figure(values, label=LABEL, errors=errors)


def spread(values: Tensor) -> float:
    """Standard deviation; 0 of a single network, as an arm of one starting network has."""
    return float(values.std()) if len(values) > 1 else 0.0


def novelty_document(judged: Judgement) -> dict[str, dict[str, Any]]:
    """What a result file keeps of the novelty of each arm, means and medians over networks."""
    return {
        name: {
            "accuracy": float(each.accuracy.mean()),
            "nearest_member_distance": float(each.distance.median()),
            "max_iou": float(each.iou.mean()),
            "disagreement": float(each.disagreement.mean()),
            "ensemble_gain": float(each.gain.mean()),
            "dispersion_ratio": each.dispersion,
            "good_and_new": {f"{tau:g}": share for tau, share in judged.shares[name].items()},
        }
        for name, each in judged.novelty.items()
    }


def _points(judged: Judgement) -> dict[str, Any]:
    found = {}
    for figure, field, label in (
        ("errors", "iou", "largest IoU of errors with a member"),
        ("distances", "distance", "distance to the nearest member"),
    ):
        points = {n: (getattr(each, field), each.accuracy) for n, each in judged.novelty.items()}
        names = {"x": label, "y": "test accuracy"}
        found[figure] = (points_figure(points, **names), points_table(points))
    return found


def _shares(judged: Judgement) -> Any:
    """Shares over tau, with the standard error of a share of so many networks."""
    lines = {}
    for name, share in judged.shares.items():
        n, heights = len(judged.novelty[name].accuracy), list(share.values())
        lines[name] = (list(share), heights, [(p * (1 - p) / n) ** 0.5 for p in heights])
    return lines_figure(lines, x="tau", y="share good and new"), lines_table(lines)


def _left_out(judged: Judgement) -> list[str]:
    return [f"left out: {name}: {reason}" for name, reason in judged.left_out.items()]
