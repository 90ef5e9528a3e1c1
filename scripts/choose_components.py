"""Components and temperature of a flow of aligned weights, by validation images and members alone.

    python scripts/choose_components.py --zoo digits_mlp_seeds.h5 --output runs/components

For each number of components and each seed: the fit of `models/flow_matching.yaml`, networks drawn
from it at each temperature, their accuracy on the validation images, and their distance to the
nearest training member beside the members' own, each left out once. The rule, fixed before the test
images are looked at:

    of the choices whose draws are at most a point below the members, with a dispersion of 0.8,
    the one with the largest share of networks that are good and new

good: above a point below the mean of the members; new: further from every member than members are
from each other (median). Where none is within a point, the nearest to it is taken. The table
is printed as markdown and kept as CSV.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from wsl.base import write_csv
from wsl.cli.config import compose
from wsl.cli.generate_fit import fitted, made
from wsl.cli.served import Served, served
from wsl.generative import (
    FlowMatching,
    TrainingMembers,
    aligned_nearest,
    dispersion_ratio,
    leave_one_out,
)
from wsl.zoo import Zoo

RECIPE = ("models=flow_matching", "datasets=digits_mlp_seeds")
MARGIN = 0.01
"""How far below the members' mean a network may be, and so may be the mean of the draws."""


@dataclasses.dataclass(frozen=True, eq=False)
class Trialled:
    """The members, how they are run, and which of them are left out in turn."""

    zoo: Zoo
    known: Served
    members: TrainingMembers
    left_out: torch.Tensor

    @classmethod
    def of(cls, options: argparse.Namespace) -> Trialled:
        """The training members of a zoo, asked for nothing."""
        zoo = Zoo(options.zoo)
        known = served(compose("generate", [*RECIPE, f"zoo={options.zoo}"]), zoo)
        data, model = known.data, known.make().eval()
        params, table = zoo.__getitems__(zoo.indices("train"))
        accuracy = data.evaluate(model, params, "val")["accuracy"]
        best = int(accuracy.argmax())
        members = TrainingMembers(
            params,
            accuracy[:, None],
            table["member"],
            best,
            model,
            inputs=data.train.images,
            labels=data.train.labels,
        )
        left_out = torch.arange(0, len(members), -(-len(members) // options.left_out))
        return cls(zoo, known, members, left_out)

    def rows_of(
        self, components: int, seed: int, options: argparse.Namespace
    ) -> Iterator[dict[str, Any]]:
        """One fit: what its draws come to at each temperature."""
        words = [f"seed={seed}", f"generator.latent={components}", *options.set]
        config = compose("generate", [*RECIPE, *words])
        generator, members = made(config, self.zoo, self.known), self.members
        fitted(config, generator, members)
        align, data = generator.canonicalizer, self.known.data
        assert isinstance(generator, FlowMatching)
        assert align is not None
        assert members.model is not None
        known, spec = align(members.params, member=members.member), self.zoo.spec
        few = {"shortlist": options.shortlist}
        natural = leave_one_out(spec, known, rows=self.left_out, member=members.runs, **few)
        for temperature in options.temperatures:
            generator.temperature = temperature
            drawn = generator.sample(options.draws, generator=torch.Generator().manual_seed(seed))
            found = align(drawn)
            near = aligned_nearest(spec, found, known, **few).distance / natural.distance.median()
            accuracy = data.evaluate(members.model, drawn, "val")["accuracy"]
            good = accuracy > members.quality.mean() - MARGIN
            yield {
                "components": components,
                "temperature": temperature,
                "seed": seed,
                "below_members": float(members.quality.mean() - accuracy.mean()),
                "spread": float(accuracy.std()),
                "dispersion": dispersion_ratio(found, known),
                "novelty": float(near.median()),
                "good_and_new": float((good & (near > 1)).double().mean()),
            }


def main() -> None:
    """Print the table and the number that the rule takes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--zoo", required=True, help="built by: wsl zoo build")
    parser.add_argument("--output", required=True, type=Path)
    parser.add_argument("--components", type=int, nargs="+", default=[300, 350, 400])
    parser.add_argument("--temperatures", type=float, nargs="+", default=[1.0, 1.05])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--draws", type=int, default=64)
    parser.add_argument("--left-out", type=int, default=32)
    parser.add_argument("--shortlist", type=int, default=16)
    parser.add_argument("--set", nargs="*", default=[], help="words of the recipe, as for wsl")
    options = parser.parse_args()
    torch.set_num_threads(1)
    trialled, found = Trialled.of(options), []
    for components, seed in itertools.product(options.components, range(options.seeds)):
        for row in trialled.rows_of(components, seed, options):
            found.append(row)
            print("  ".join(f"{name} {value:.4g}" for name, value in row.items()), flush=True)
    options.output.mkdir(parents=True, exist_ok=True)
    write_csv(options.output / "components.csv", {n: [r[n] for r in found] for n in found[0]})
    told = ("components", "temperature", "below_members", "dispersion", "novelty", "good_and_new")
    means = [
        mean(found, *which) for which in itertools.product(options.components, options.temperatures)
    ]
    print(f"\n| {' | '.join(told)} |\n|{'---|' * len(told)}")
    for one in means:
        print(f"| {' | '.join(f'{one[name]:.4g}' for name in told)} |")
    best = chosen(means)
    print(f"\nby the rule: {best['components']:g} components at {best['temperature']:g}")


def mean(rows: list[dict[str, Any]], components: int, temperature: float) -> dict[str, float]:
    """Over the seeds of one choice."""
    which = (components, temperature)
    own = [row for row in rows if (row["components"], row["temperature"]) == which]
    return {name: sum(row[name] for row in own) / len(own) for name in own[0]}


def chosen(means: list[dict[str, float]]) -> dict[str, float]:
    """What the rule takes."""
    spread = [one for one in means if one["dispersion"] >= 0.8] or means
    near = [one for one in spread if one["below_members"] <= MARGIN]
    if near:
        return max(near, key=lambda one: one["good_and_new"])
    return min(spread, key=lambda one: one["below_members"])


if __name__ == "__main__":
    main()
