"""``wsl merge --report out.html``: one page of a merge, every figure with its CSV beside it.

scores         metrics of the parents, of their plain average, and of the result
path           losses from the result to each parent, as it was aligned
interference   cosines, sign conflicts and right overlap of the task vectors, with --base
gradients      distances of the parents' input gradients, with --data
the card       method, fields, seed, files with their hashes
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from wsl.cli.checkpoints import Loaded
from wsl.cli.evaluation import LOSSES, read_data
from wsl.cli.outputs import check_writable
from wsl.cli.terminal import say
from wsl.merging import input_gradient_distances, merge_report
from wsl.params import Params, call

_SAMPLES = 64
"""Inputs for gradients: the distances of ten and of two hundred nearly agree."""
_NOTES = {
    "scores": "Parents as they were given, naive: their plain average without alignment.",
    "path": "Loss and accuracy on the lines from the merged network to each parent, as it was "
    "aligned. The barrier is the largest excess over the line between the losses of the ends.",
    "interference": "Of the changes from the base: cosines; the share of entries that two change "
    "in opposite directions; how far the inputs that they act on overlap (1: the same, by the "
    "leading right singular vectors). Among pairs of one task, more overlap foretells a better "
    "merge; between tasks it does not.",
    "layers": "Mean cosine and mean conflict of all pairs, tensor by tensor.",
    "gradients": "Mean distance of the gradients of the loss by the inputs. Among pairs of one "
    "task, less distance foretells a better merge.",
}


@dataclasses.dataclass(frozen=True, eq=False)
class Made:
    """A merge that was done: the members as they were aligned, and the result."""

    members: Sequence[Params]
    base: Params | None
    merged: Params


def check_report(options: argparse.Namespace) -> None:
    """Raise `ConfigError` unless the page can be written."""
    if options.report:
        check_writable(Path(options.report).parent)


def write_report(
    options: argparse.Namespace,
    loaded: Loaded,
    made: Made,
    *,
    head: Mapping[str, Any],
    scores: Mapping[str, Mapping[str, float]],
    evaluate: Callable[[Params], Mapping[str, float]] | None,
) -> None:
    """The page and its tables, and a line that says what it holds."""
    from wsl.plots import merge_figures, save_page

    names = [chr(ord("a") + i) for i in range(len(made.members))]
    found = merge_report(
        dict(zip(names, made.members, strict=True)),
        made.merged,
        base=made.base,
        evaluate=_pair(evaluate, scores),
        scores=scores,
        gradients=_gradients(options, loaded, made.members),
    )
    figures, page = merge_figures(found), Path(options.report)
    page.parent.mkdir(parents=True, exist_ok=True)
    title = f"Merge of {', '.join(Path(path).name for path in loaded.paths)}"
    save_page(page, title, figures, notes=_NOTES, facts=_card(head))
    say(f"{page}: the card{''.join(f', {name}' for name in figures)}")


def _pair(
    evaluate: Callable[[Params], Mapping[str, float]] | None,
    scores: Mapping[str, Mapping[str, float]],
) -> Callable[[Params], tuple[float, float]] | None:
    """Loss and accuracy, where networks have a loss."""
    if evaluate is None or "loss" not in scores["merged"]:
        return None

    def both(theta: Params) -> tuple[float, float]:
        told = evaluate(theta)
        return told["loss"], told.get("accuracy", float("nan"))

    return both


def _gradients(
    options: argparse.Namespace, loaded: Loaded, members: Sequence[Params]
) -> Tensor | None:
    """Distances of input gradients on some of --data; None without labelled data of real inputs."""
    data = read_data(options.data, options.normalize) if options.data else None
    if data is None or data.labels is None or not data.inputs.is_floating_point():
        return None
    kind, y, model = LOSSES[options.loss], data.labels[:_SAMPLES], loaded.network().eval()
    y = y.float() if options.loss == "mse" else y

    def loss(theta: Params, x: Tensor) -> Tensor:
        outputs = call(model, theta, x)
        outputs = outputs.view_as(y) if options.loss == "mse" else outputs
        return kind(outputs, y, reduction="sum")

    return input_gradient_distances(members, loss, data.inputs[:_SAMPLES])


def _card(head: Mapping[str, Any]) -> dict[str, str]:
    """What the result file says of the merge, as lines of text."""
    told = {"made by": f"wsl {head['wsl']}", "hash": head["hash"]}
    for name, each in head["inputs"].items():
        told[name] = f"{each['file']}, sha256 {each['sha256']}"
    told |= {name: _text(value) for name, value in head["config"].items()}
    rest = ("hash", "verb", "wsl", "config", "inputs")
    return told | {name: _text(value) for name, value in head.items() if name not in rest}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
