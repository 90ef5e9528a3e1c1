"""Weights for architectures never seen, by a hyper-network on graphs: as drawn, and trained on.

    python scripts/table_graph.py --output runs/graph

The recipe ``models/graph_hyper_network.yaml`` on 8x8 digits, three seeds. Held out: widths between
and beyond those of the family, one more layer, narrower convolutions. Beside it the network's own
start, the last layer of either solved by ridge on the training images (`RidgeHead`), and for the
perceptron 64-48-10 `HyperNetwork`, which is made for one size and told 20 images of each class.
Test accuracy of 3 draws; then the accuracy after 50 steps of Adam, the rate chosen on the
validation images.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn

from wsl import permutation_spec
from wsl.generative import (
    Budget,
    DefaultStart,
    GraphHyperNetwork,
    HyperNetwork,
    RidgeHead,
    Start,
    TrainingMembers,
    VariantTasks,
    compare_starts,
    starting_weights,
)
from wsl.params import Params
from wsl.populations import Classification, build_architecture, digits

RECIPE = Path(__file__).parents[1] / "models" / "graph_hyper_network.yaml"
DRAWS = 3
BUDGET = Budget(steps=50, lrs=(3e-3, 1e-2, 3e-2), batch_size=32, points=3)


def perceptron(*hidden: int) -> dict[str, Any]:
    """A description of one."""
    return {"_target_": "wsl.zoo.architectures.mlp", "widths": [64, *hidden, 10]}


def convolutions(*channels: int) -> dict[str, Any]:
    """A description of one."""
    strides = [2, 2, 1][: len(channels)]
    sizes = {"in_channels": 1, "channels": list(channels), "classes": 10, "strides": strides}
    return {"_target_": "wsl.zoo.architectures.cnn", **sizes}


ASKED = {
    "mlp 48": perceptron(48),
    "mlp 128 (wider than any)": perceptron(128),
    "mlp 12 (narrower than any)": perceptron(12),
    "mlp 48, 24": perceptron(48, 24),
    "mlp 32, 32, 32 (deeper than any)": perceptron(32, 32, 32),
    "cnn 10, 20": convolutions(10, 20),
    "cnn 8, 16, 16": convolutions(8, 16, 16),
    "cnn 8, 8, 8 (narrower than any)": convolutions(8, 8, 8),
}
"""Architectures that are in no training."""


def main() -> None:
    """Run the seeds that have no file yet, then print the table over all that have one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", required=True, type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, help="of the generator; default: the recipe's")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.output.mkdir(parents=True, exist_ok=True)
    for seed in range(options.seeds):
        path = options.output / f"{seed}.json"
        if not path.exists():
            path.write_text(json.dumps(run(seed, options.steps), indent=1))
    table([json.loads(path.read_text()) for path in sorted(options.output.glob("*.json"))])


def run(seed: int, steps: int | None) -> dict[str, dict[str, list[float]]]:
    """Of each architecture and arm: accuracy as drawn and tuned."""
    data, generator = digits(), trained(seed, steps)
    return {name: arms(how, generator, data, seed) for name, how in ASKED.items()}


def trained(seed: int, steps: int | None) -> GraphHyperNetwork:
    """The generator of the recipe."""
    recipe = yaml.safe_load(RECIPE.read_text())
    how = {key: value for key, value in recipe["generator"].items() if not key.startswith("_")}
    data = digits()
    spec = permutation_spec(build_architecture(perceptron(48)).eval(), data.train.images[:2])
    made = GraphHyperNetwork(spec, seed=seed, **how)
    fit = recipe["fit"] | ({} if steps is None else {"steps": steps})
    made.fit(
        TrainingMembers({}, inputs=data.train.images, labels=data.train.labels), seed=seed, **fit
    )
    return made


def arms(
    described: Mapping[str, Any], generator: GraphHyperNetwork, data: Classification, seed: int
) -> dict[str, list[float]]:
    """Mean accuracy as drawn, and after the budget, of every arm."""
    model = build_architecture(described).eval()
    spec = permutation_spec(model, data.train.images[:2])

    def make() -> nn.Module:
        return build_architecture(described)

    fitted = generator.at(spec)
    start = Start(model, spec=spec, seed=seed, make=make, fitted=fitted, data=data)
    rng = torch.Generator().manual_seed(seed)
    drawn = {
        "default start": starting_weights(DefaultStart(), start, DRAWS, generator=rng),
        "default start + ridge": starting_weights(RidgeHead(), start, DRAWS, generator=rng),
        "predicted": fitted.sample(DRAWS, generator=rng),
    }
    if described == perceptron(48):
        drawn["hyper-network of this size"] = told(model, spec, data, seed)
    curves = compare_starts(model, drawn, data, budget=BUDGET, seed=seed)
    found = {
        name: [float(c.accuracy[:, 0].mean()), float(c.accuracy[:, -1].mean())]
        for name, c in curves.items()
    }
    print(described, found, flush=True)
    return found


def told(model: nn.Module, spec: Any, data: Classification, seed: int) -> Params:
    """Of a `HyperNetwork` trained on tasks of all ten digits, told images of the training part."""
    tasks = VariantTasks(data, classes=10, angles=(0,), invert=False)
    made = HyperNetwork(spec, seed=seed)
    made.fit(TrainingMembers({}, model=model, tasks=tasks), steps=300, tasks=8, seed=seed)
    ordered = VariantTasks(data, classes=10, angles=(0,), invert=False, query=1)
    rng = torch.Generator().manual_seed(seed)
    variants = ordered.variants(DRAWS, generator=rng)
    variants.classes[:] = torch.arange(10)
    support = ordered.episodes(variants, generator=rng).support
    return made.sample(DRAWS, condition=support)


def table(found: list[dict[str, dict[str, list[float]]]]) -> None:
    """Means and deviations over seeds, in points, as markdown: as drawn, then tuned."""
    names = list(dict.fromkeys(arm for one in found for family in one.values() for arm in family))
    print(f"\n| architecture | {' | '.join(names)} |\n|---|{'---|' * len(names)}")
    for asked in found[0]:
        cells = [cell([one[asked][arm] for one in found if arm in one[asked]]) for arm in names]
        print(f"| {asked} | {' | '.join(cells)} |")


def cell(values: list[list[float]]) -> str:
    """As drawn with its deviation over seeds; tuned in brackets."""
    if not values:
        return ""
    drawn, tuned = (100 * torch.tensor(values)).unbind(1)
    spread = f" ± {drawn.std():.1f}" if len(drawn) > 1 else ""
    return f"{drawn.mean():.1f}{spread} ({tuned.mean():.1f})"


if __name__ == "__main__":
    main()
