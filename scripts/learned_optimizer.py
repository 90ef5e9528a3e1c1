"""Learn update rules on small classifiers and race them against SGD with momentum and AdamW:
`docs/learned_optimizers.md`.

    python scripts/learned_optimizer.py --out runs/learned_optimizer [--seeds 3] [--iterations 200]
    [--data-root DATA]

Zhou, Finn, Harrison (2024), arXiv 2402.05232: a universal neural functional and a DeepSets rule,
each meta-trained from ``--seeds`` seeds on an MLP 64-16-10 on digits; the learning rates of the
hand-written ones are chosen on the same problem for the same objective, the mean training loss over
the horizon. All race on networks that no rule was trained on: on the same problem, a wider network,
and with ``--data-root`` on MNIST averaged to 7x7 pixels. Writes table.csv, rows.csv, curves.csv and
curves.png; meta-training is resumed from the folder. Times are processor time of this process.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import time
from collections import defaultdict
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn import functional as F

from wsl.learned_optimizers.meta import MetaSettings, meta_train
from wsl.learned_optimizers.problem import Problem, start, unroll
from wsl.learned_optimizers.rule import HandWritten, LearnedOptimizer
from wsl.params import Params
from wsl.plots import COLORS, save_figure, write_csv
from wsl.populations import SGD, AdamW, Classification, digits, mnist
from wsl.populations.architectures import networks as architectures
from wsl.symmetry import permutation_spec

HAND = {"SGD-momentum": (SGD(momentum=0.9), 0.0), "AdamW": (AdamW(), 0.01)}
GRIDS = {
    "SGD-momentum": (0.03, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6),
    "AdamW": (0.003, 0.005, 0.01, 0.02, 0.03, 0.05, 0.07, 0.1),
}
SETTINGS = {
    "iterations": 200,
    "pairs": 8,
    "window": 5,
    "horizon": 100,
    "sigma": 0.01,
    "lr": 0.003,
    "cap": 2.5,
}
RULES = {"UNF": True, "DeepSets": False}
TUNING, HELD_OUT = 10**7, 2 * 10**7
"""First seeds of the networks for tuning and of those for the race; meta-training draws its own."""


@dataclasses.dataclass(frozen=True)
class Task:
    """A problem and the images that judge the networks trained on it."""

    problem: Problem
    data: Classification

    @classmethod
    def mlp(cls, widths: list[int], data: Classification) -> Task:
        return cls(Problem(lambda: architectures.mlp(widths), *data.train), data)

    def rule(self, name: str, *, lr: float, hidden: int = 32, share: float = 0.1) -> nn.Module:
        if name in HAND:
            optimizer, decay = HAND[name]
            return HandWritten(optimizer, lr=lr, weight_decay=decay)
        spec = permutation_spec(self.problem.make(), self.problem.inputs[:2])
        return LearnedOptimizer.from_spec(
            spec, mixing=RULES[name], hidden=hidden, lr=lr, share=share
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/learned_optimizer"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--networks", type=int, default=4, help="held-out networks for each seed and task"
    )
    parser.add_argument(
        "--hidden", type=int, default=4, help="channels of the functionals; the paper has 32"
    )
    parser.add_argument("--data-root", type=Path)
    parser.add_argument(
        "--share", type=float, default=0.1, help="where the functional's share of an update starts"
    )
    for field, default in SETTINGS.items():
        parser.add_argument(f"--{field}", type=type(default), default=default)
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    tasks = load_tasks(options.data_root)
    rates = {name: tune(tasks["digits"], name, steps=options.horizon, networks=16) for name in HAND}
    print("learning rates", rates)
    learned = {
        (name, seed): learn(
            tasks["digits"], name, seed, lr=5 * rates["SGD-momentum"], options=options
        )
        for seed in range(options.seeds)
        for name in RULES
    }
    race(tasks, rates, learned, options)


def load_tasks(data_root: Path | None) -> dict[str, Task]:
    tasks = {"digits": Task.mlp([64, 16, 10], digits()), "wider": Task.mlp([64, 32, 10], digits())}
    if data_root is not None:
        tasks["mnist"] = Task.mlp([49, 32, 10], small_mnist(data_root))
    return tasks


def small_mnist(data_root: Path) -> Classification:
    """5,000 training and 2,000 test images of 7x7 pixels."""
    full = mnist(data_root=data_root)
    parts = ((full.train, 5000), (full.val, 500), (full.test, 2000))
    return Classification(
        *(type(part)(F.avg_pool2d(part.images[:n], 4), part.labels[:n]) for part, n in parts)
    )


def tune(task: Task, name: str, *, steps: int, networks: int) -> float:
    """The rate of the grid with the smallest mean training loss; every rate trains the same
    networks.
    """
    grid = torch.tensor(GRIDS[name])
    seeds = TUNING + torch.arange(networks).repeat(len(grid))
    _, losses = train(
        task,
        task.rule(name, lr=1.0),
        {"lr": grid.repeat_interleave(networks)},
        seeds,
        stops=(steps,),
    )
    means = losses.nan_to_num(5.0).clamp(max=5.0).view(len(grid), -1).mean(1)
    print(
        name, {rate: round(float(mean), 4) for rate, mean in zip(GRIDS[name], means, strict=True)}
    )
    return GRIDS[name][int(means.argmin())]


def learn(
    task: Task, name: str, seed: int, *, lr: float, options: argparse.Namespace
) -> tuple[Params, float]:
    """A meta-trained rule's parameters, and seconds. With averaged gradients, ``lr`` 5 is 0.5 of
    SGD's with momentum 0.9.
    """
    torch.manual_seed(seed)
    rule = task.rule(name, lr=lr, hidden=options.hidden, share=options.share)
    chosen = {field: getattr(options, field) for field in SETTINGS}
    begun = time.process_time()
    folder, settings = (
        options.out / f"{name}-{seed}",
        MetaSettings(seed=seed, save_every=25, **chosen),
    )
    history = meta_train(rule, task.problem, settings=settings, folder=folder, progress=True)
    seconds = time.process_time() - begun
    write_csv(
        folder / "history.csv", {column: [row[column] for row in history] for column in history[0]}
    )
    means = [part.mean() for part in torch.tensor([row["loss"] for row in history]).tensor_split(8)]
    print(name, seed, f"{seconds:.0f} s, loss", *(f"{mean:.3f}" for mean in means), flush=True)
    return {key: parameter.detach() for key, parameter in rule.named_parameters()}, seconds


def train(
    task: Task, rule: nn.Module, rules: Params, seeds: Tensor, *, stops: tuple[int, ...]
) -> tuple[list[Params], Tensor]:
    """Weights at every one of ``stops``, and losses (N, stops[-1]), of the networks with
    ``seeds``.
    """
    training, weights, losses = start(rule, task.problem.weights(seeds)), [], []
    for first, last in itertools.pairwise((0, *stops)):
        training, some = unroll(
            rule, rules, training, problem=task.problem, seeds=seeds, steps=range(first, last)
        )
        weights.append(training.weights)
        losses.append(some)
    return weights, torch.cat(losses, 1)


def race(
    tasks: dict[str, Task], rates: dict[str, float], learned: dict, options: argparse.Namespace
) -> None:
    """Every rule on the same held-out networks, for the horizon of meta-training and for twice as
    long.
    """
    rows: list[dict] = []
    curves: dict[str, dict[str, list[Tensor]]] = {name: defaultdict(list) for name in tasks}
    for task_name, task in tasks.items():
        for name in (*RULES, *HAND):
            rule = task.rule(name, lr=rates.get(name, 1.0), hidden=options.hidden)
            for seed in range(options.seeds):
                own, seconds = learned.get(
                    (name, seed), ({k: p.detach() for k, p in rule.named_parameters()}, 0.0)
                )
                rules = {
                    key: value.expand(options.networks, *value.shape) for key, value in own.items()
                }
                seeds = HELD_OUT + 1000 * seed + torch.arange(options.networks)
                stops = (options.horizon, 2 * options.horizon)
                weights, losses = train(task, rule, rules, seeds, stops=stops)
                shared = {
                    "task": task_name,
                    "rule": name,
                    "seed": seed,
                    "seconds": seconds,
                    "parameters": sum(p.numel() for p in rule.parameters()),
                }
                for steps, reached in zip(stops, weights, strict=True):
                    loss = float(losses[:, :steps].mean())
                    rows.append(
                        {**shared, "steps": steps, "mean_loss": loss, **judge(task, reached)}
                    )
                curves[task_name][name].append(losses)
    write_csv(
        options.out / "rows.csv", {column: [row[column] for row in rows] for column in rows[0]}
    )
    summarise(rows, options.out)
    draw(curves, options)


def judge(task: Task, weights: Params) -> dict[str, float]:
    model = task.problem.make()
    on_train, on_test = (task.data.evaluate(model, weights, split) for split in ("train", "test"))
    return {
        "train_loss": float(on_train["loss"].mean()),
        "test_accuracy": float(on_test["accuracy"].mean()),
    }


def summarise(rows: list[dict], out: Path) -> None:
    """Mean and standard deviation over seeds, each seed being the mean over its networks."""
    groups = defaultdict(list)
    for row in rows:
        groups[row["task"], row["steps"], row["rule"]].append(row)
    table = defaultdict(list)
    for (task, steps, rule), group in groups.items():
        cells = {"task": task, "steps": steps, "rule": rule, "parameters": group[0]["parameters"]}
        for column in ("mean_loss", "train_loss", "test_accuracy", "seconds"):
            values = torch.tensor([row[column] for row in group], dtype=torch.float64)
            cells |= {
                column: float(values.mean()),
                f"{column}_sd": float(values.std()) if len(values) > 1 else 0.0,
            }
        for column, value in cells.items():
            table[column].append(value)
        shown = [
            f"{c} {cells[c]:.4f} +- {cells[c + '_sd']:.4f}"
            for c in ("mean_loss", "train_loss", "test_accuracy")
        ]
        print(f"{task:<8} {steps:>4} {rule:<13} {cells['parameters']:>5}", *shown)
    write_csv(out / "table.csv", table)


def draw(curves: dict[str, dict[str, list[Tensor]]], options: argparse.Namespace) -> None:
    """Minibatch loss per step: the mean of all networks, and the range of the seeds' means."""
    figure = Figure(figsize=(4 * len(curves), 3.6), layout="constrained")
    table = defaultdict(list)
    for axes, (task, rules) in zip(
        figure.subplots(1, len(curves), squeeze=False)[0], curves.items(), strict=True
    ):
        for color, (name, losses) in zip(COLORS, rules.items(), strict=False):
            means = torch.stack([each.mean(0) for each in losses])
            steps = range(means.shape[1])
            axes.plot(steps, means.mean(0), color=color, label=name, linewidth=1)
            axes.fill_between(
                steps, means.amin(0), means.amax(0), color=color, alpha=0.15, linewidth=0
            )
            for column, values in {
                "task": [task] * len(steps),
                "rule": [name] * len(steps),
                "step": steps,
                "loss": means.mean(0).tolist(),
                "low": means.amin(0).tolist(),
                "high": means.amax(0).tolist(),
            }.items():
                table[column] += values
        axes.axvline(options.horizon, color="0.7", linewidth=1, linestyle=":")
        axes.set(
            title=task,
            xlabel="step",
            ylabel="training loss of the batch",
            yscale="log",
            ylim=(0.02, 4),
        )
        axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    save_figure(options.out / "curves.png", figure, table)


if __name__ == "__main__":
    main()
