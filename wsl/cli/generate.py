"""``wsl generate models=NAME datasets=NAME``: train a weight generator, draw networks, try them
beside every baseline.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from wsl.cli.config import compose, recipes
from wsl.cli.population import open_or_build, part
from wsl.cli.results import finished, result, write_figure, write_json, write_table, write_with
from wsl.cli.targets import ConfigError, instantiate
from wsl.cli.terminal import progress, say
from wsl.generative import (
    Behaviour,
    Trial,
    WeightDiffusion,
    aligned_nearest,
    dispersion_ratio,
    gaussian_baseline,
    leave_one_out,
    mean_baseline,
    noise_baseline,
    retrieval_baseline,
    round_trip,
    trial,
)
from wsl.params import Params, unstack
from wsl.plots import bar_figure
from wsl.populations import Classification, build_architecture, initial_population, task
from wsl.zoo import Zoo, write_checkpoint

SHORTLIST = 32
"""Members that a sample is matched with, the closest after both are brought to the generator's
reference.
"""


class Population(NamedTuple):
    """What a generator learns from and is tried on."""

    zoo: Zoo
    model: nn.Module
    data: Classification
    params: Params
    condition: Tensor
    member: Tensor


def run(arguments: Sequence[str]) -> None:
    """Fit on the training members, sample, score, write."""
    if not arguments or set(arguments) & {"-h", "--help"}:
        say(
            "usage: wsl generate models=NAME datasets=NAME [samples=16] [seed=0] [zoo=FILE] "
            "[output=DIR]\nmodels: "
            f"{', '.join(recipes('models'))}\ndatasets: {', '.join(recipes('datasets'))}"
        )
        return
    config = compose("generate", arguments)
    part(config, "generator", verb="wsl generate")
    zoo = open_or_build(config)
    folder = Path(
        config["output"]
        or f"runs/generate/{config['datasets']}-{config['models']}-{config['seed']}"
    )
    kept = {
        key: config[key]
        for key in ("models", "datasets", "seed", "samples", "generator", "fit", "trial")
    }
    head = result("generate", kept, {"zoo": zoo.path})
    done = finished(folder, head) or _generate(config, zoo, folder, head)
    for name, score in done["scores"].items():
        say(f"{name.replace('_', ' ')}: {score if isinstance(score, int) else f'{score:.4f}'}")


def _generate(
    config: Mapping[str, Any], zoo: Zoo, folder: Path, head: Mapping[str, Any]
) -> dict[str, Any]:
    population = _population(config, zoo)
    generator = _fit(config, population)
    wanted = float(population.condition.quantile(config["fit"]["quantile"]))
    rng = torch.Generator().manual_seed(config["seed"])
    drawn = generator.sample(config["samples"], condition=wanted, generator=rng)
    arms = {"generated": drawn, **_baselines(config, population, generator, rng)}
    trials = trial(population.model, arms, population.data, seed=config["seed"], **config["trial"])
    done = {
        **head,
        "wanted": wanted,
        "scores": _scores(population, generator, trials, arms, steps=config["trial"]["steps"]),
        "arms": _arms(trials),
    }
    about = {
        "spec": str(zoo.spec),
        "architecture": json.dumps(zoo.architecture),
        "task": json.dumps(zoo.provenance["task"]),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for i, theta in enumerate(unstack(drawn)):
        write_checkpoint(folder / f"sample-{i:02d}.safetensors", theta, about)
    write_with(folder / "generator.safetensors", generator.save)
    write_table(folder / "generated.csv", _table(trials))
    write_figure(folder / "generated.png", _figure(trials))
    write_json(folder / "result.json", done)
    return done


def _population(config: Mapping[str, Any], zoo: Zoo) -> Population:
    """Training members, with their accuracy on the validation images as condition: the test images
    only score.
    """
    if zoo.architecture is None or "task" not in zoo.provenance:
        raise ConfigError(
            f"{zoo.path} does not say its architecture and task, so generated weights could not "
            "be tried"
        )
    data = task(zoo.provenance["task"], config["data_root"])
    if not isinstance(data, Classification):
        raise ConfigError(
            f"{zoo.path} holds no classifiers; wsl generate scores networks by their accuracy"
        )
    params, metadata = zoo.__getitems__(zoo.indices("train"))
    model = build_architecture(zoo.architecture)
    return Population(
        zoo,
        model,
        data,
        params,
        data.evaluate(model, params, "val")["accuracy"],
        metadata["member"],
    )


def _fit(config: Mapping[str, Any], population: Population) -> WeightDiffusion:
    generator = instantiate(config["generator"], spec=population.zoo.spec, seed=config["seed"])
    options = config["fit"]
    total = options["code_steps"] + options["steps"]
    bar = progress("step")
    return generator.fit(
        population.params,
        population.condition[:, None],
        reference=int(population.condition.argmax()),
        member=population.member,
        behaviour=Behaviour(
            population.model, population.data.train.images, weight=options["behaviour"]
        ),
        code_steps=options["code_steps"],
        steps=options["steps"],
        seed=config["seed"],
        progress=lambda step, _: bar(step, total),
    )


def _baselines(
    config: Mapping[str, Any],
    population: Population,
    generator: WeightDiffusion,
    rng: torch.Generator,
) -> dict[str, Params]:
    """Arms that learn nothing, each of as many networks; good members are those that reach the
    wanted condition.
    """
    count, good = config["samples"], _good(population, config["fit"]["quantile"])
    aligned = generator.canonicalizer(good)
    seeds = [config["seed"] * 1_000_003 + i for i in range(count)]
    description = population.zoo.architecture or {}
    held_out, _ = population.zoo.__getitems__(population.zoo.indices("val"))
    best = population.data.evaluate(population.model, held_out, "val")["accuracy"].argsort(
        descending=True
    )[:count]
    return {
        "default_init": initial_population(lambda: build_architecture(description), seeds),
        "retrieval": retrieval_baseline(good, count, generator=rng),
        "noise": noise_baseline(good, count, scale=0.5, generator=rng),
        "gaussian": gaussian_baseline(aligned, count, generator=rng),
        "mean": mean_baseline(aligned, count, generator=rng),
        "round_trip": round_trip(
            generator, {name: tensor[best] for name, tensor in held_out.items()}
        ),
    }


def _good(population: Population, quantile: float) -> Params:
    rows = population.condition >= population.condition.quantile(quantile)
    return {name: tensor[rows] for name, tensor in population.params.items()}


def _scores(
    population: Population,
    generator: WeightDiffusion,
    trials: Mapping[str, Trial],
    arms: Mapping[str, Params],
    *,
    steps: int,
) -> dict[str, float]:
    spec, member = population.zoo.spec, population.member
    drawn = generator.canonicalizer(arms["generated"])
    real = generator.canonicalizer(population.params, member=member)
    near = aligned_nearest(spec, drawn, real, shortlist=SHORTLIST).distance
    rows = population.condition.argsort(descending=True)[: len(near)]
    own = leave_one_out(spec, real, rows=rows, member=member, shortlist=SHORTLIST).distance
    good = {name: tensor[rows] for name, tensor in real.items()}
    return {
        "networks": len(near),
        "fine_tuning_steps": steps,
        "accuracy_as_drawn": float(trials["generated"].drawn.mean()),
        "accuracy_as_drawn_spread": float(trials["generated"].drawn.std()),
        "accuracy_tuned": float(trials["generated"].tuned.mean()),
        "accuracy_tuned_from_default_init": float(trials["default_init"].tuned.mean()),
        "accuracy_tuned_from_retrieval": float(trials["retrieval"].tuned.mean()),
        "nearest_member_distance": float(near.median()),
        "nearest_member_distance_min": float(near.min()),
        "distance_between_good_members": float(own.median()),
        "dispersion_ratio": dispersion_ratio(drawn, good),
    }


def _arms(trials: Mapping[str, Trial]) -> dict[str, dict[str, float]]:
    return {
        name: {
            "drawn": float(t.drawn.mean()),
            "drawn_spread": float(t.drawn.std()),
            "tuned": float(t.tuned.mean()),
            "tuned_spread": float(t.tuned.std()),
            "lr": t.lr,
        }
        for name, t in trials.items()
    }


def _table(trials: Mapping[str, Trial]) -> dict[str, list]:
    table: dict[str, list] = {"arm": [], "network": [], "drawn": [], "tuned": []}
    for name, t in trials.items():
        table["arm"] += [name] * len(t.drawn)
        table["network"] += range(len(t.drawn))
        table["drawn"] += t.drawn.tolist()
        table["tuned"] += t.tuned.tolist()
    return table


def _figure(trials: Mapping[str, Trial]) -> Any:
    values, errors = {}, {}
    for name, t in trials.items():
        for kind in ("drawn", "tuned"):
            label = f"{name.replace('_', ' ')}, {kind}"
            values[label], errors[label] = (
                float(getattr(t, kind).mean()),
                float(getattr(t, kind).std()),
            )
    return bar_figure(values, label="test accuracy, mean and standard deviation", errors=errors)
