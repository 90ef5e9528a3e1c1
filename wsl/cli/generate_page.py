"""The page of a judged generator: what is said of every arm, as figures with their tables."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from wsl.generative import Judgement
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


def write_page(path: Path, judged: Judgement, *, best: int | None = None) -> None:
    """One HTML file that loads nothing, and a CSV beside it for each figure.

    best: of the networks of each arm by validation images, told beside the mean of all.
    """
    figures = {
        "arms": _arms_and_table(judged, best),
        **_points(judged),
        "good_and_new": _shares(judged),
    }
    notes = {"arms": "\n".join([*judged.verdict.summary, *_left_out(judged)]), **NOTES}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_page(path, TITLE.format(judged.bar), figures, notes=notes)


def arm_bars(
    judged: Judgement, best: int | None = None
) -> tuple[dict[str, float], dict[str, float]]:
    """Mean accuracy of each arm as drawn, of its best few, and tuned, with standard deviations."""
    few = {} if best is None else judged.best(best)
    values, errors = {}, {}
    for name, t in judged.trials.items():
        kinds = {"drawn": t.drawn, "tuned": t.tuned}
        if name in few:
            kinds[f"best {best} of {len(t.drawn)} drawn"] = few[name]
        for kind, found in kinds.items():
            label = f"{name.replace('_', ' ')}, {kind}"
            values[label], errors[label] = float(found.mean()), spread(found)
    return values, errors


def _arms_and_table(judged: Judgement, best: int | None) -> Any:
    values, errors = arm_bars(judged, best)
    return arm_figure(judged, best=best), bar_table(values, errors=errors)


def arm_figure(judged: Judgement, *, best: int | None = None) -> Figure:
    """Bars of all arms."""
    values, errors = arm_bars(judged, best)
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
