"""``wsl generate models=NAME datasets=NAME``: train a weight generator and judge what it draws.

The generator is the recipe's, any class with the protocol `wsl.generative.Generator`; it is tried
beside the recipe's ``arms``, each an `wsl.generative.Initializer`. Writes the networks, the
generator, ``result.json``, ``report.html`` with a CSV for each figure, and says the verdict.
``zoo=FILE model=MODULE:CALLABLE data=FILE.npz`` takes networks and data of the user's own.
A population of many tasks, with a generator asked by examples, is judged on tasks held out:
`generate_tasks`. ``--from RUN`` draws more networks from a generator that is there already:
`generate_from`.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from wsl.cli.config import compose, defaults
from wsl.cli.generate_fit import fitted, losses, made
from wsl.cli.generate_from import add_from_arguments, run_from
from wsl.cli.generate_page import arm_figure, novelty_document, spread, write_page
from wsl.cli.generate_tasks import generate_for_tasks, has_tasks
from wsl.cli.parsers import recipe_parser, verb_parser
from wsl.cli.population import open_or_build, part, population_name
from wsl.cli.results import finished, result, write_figure, write_json, write_table, write_with
from wsl.cli.served import Served, files_of, good_members, served, training_members
from wsl.cli.targets import ConfigError, flatten, instantiate
from wsl.cli.terminal import answer, say
from wsl.generative import (
    GENERATED,
    Generator,
    Judgement,
    Start,
    TrainingMembers,
    Trial,
    judge,
    reads_examples,
)
from wsl.params import Params, unstack
from wsl.populations import Classification
from wsl.zoo import Zoo, write_checkpoint

SHORTLIST = 32
"""Members that a sample is matched with: the closest after both are brought to one reference."""

QUANTILE = 0.95
"""Of the training members' accuracy, asked of the generator unless the recipe says otherwise."""


def run(arguments: Sequence[str]) -> None:
    """Fit on the training members, sample, score, write."""
    if not arguments or set(arguments) & {"-h", "--help"}:
        _parser().print_help()
        return
    if any(word == "--from" or word.startswith("--from=") for word in arguments):
        run_from(_from_parser().parse_args(arguments))
        return
    config = compose("generate", arguments)
    part(config, "generator", verb="wsl generate")
    _check_ranges(config)
    zoo = open_or_build(config)
    name = f"{population_name(config)}-{config['models']}-{config['seed']}"
    folder = Path(config["output"] or f"runs/generate/{name}")
    head = result("generate", _kept(config), files_of(config, zoo))
    done = finished(folder, head) or _generate(config, zoo, folder, head=head)
    answer(done)
    for name, score in done["scores"].items():
        say(f"{name.replace('_', ' ')}: {_said(score)}")
    for line in done.get("summary", done.get("verdict", [])):
        say(line)


def _said(score: float | None) -> str:
    if score is None:
        return "never"
    return str(score) if isinstance(score, int) else f"{score:.4f}"


def _parser() -> argparse.ArgumentParser:
    """For its help: overrides are read by Hydra."""
    parser = recipe_parser(
        "generate",
        "Train a generator of weights, draw from it and judge what it draws; or draw again from "
        "one that is there (--from).",
        keys="samples=16, seed=0, zoo=FILE, output=DIR and all that the recipes hold",
    )
    add_from_arguments(parser)
    return parser


def _from_parser() -> argparse.ArgumentParser:
    parser = verb_parser("generate", "Draw networks from a generator that is trained already.")
    add_from_arguments(parser)
    return parser


def _check_ranges(config: Mapping[str, Any]) -> None:
    """Raise `ConfigError` for counts and sizes of 0, by their key, before a zoo is built."""
    given = dict(flatten(config))
    counted = ["samples", "generator.latent", "generator.hidden", "trial.batch_size"]
    counted += ["tasks.shots", "tasks.query", "held_out.tasks", "held_out.seeds"]
    counted += [key for key in given if key.startswith("fit.") and key.endswith("steps")]
    for key in counted:
        if given.get(key, 1) < 1:
            raise ConfigError(f"{key} is {given[key]}, but it must be at least 1")
    if given.get("trial.lrs") == []:
        raise ConfigError("trial.lrs is empty, but at least one learning rate is needed")
    if not 0 <= given.get("fit.quantile", QUANTILE) <= 1:
        raise ConfigError(f"fit.quantile is {given['fit.quantile']}, but it must lie in [0, 1]")


def _kept(config: Mapping[str, Any]) -> dict[str, Any]:
    """What the result depends on; what the verb has a default for is named where it differs."""
    keys = ["models", "datasets", "seed", "samples", "generator", "fit", "trial"]
    usual = defaults("generate")
    keys += [
        key
        for key in (
            "arms",
            "best",
            "task_arms",
            "tasks",
            "held_out",
            "model",
            "kwargs",
            "normalize",
        )
        if config[key] != usual[key]
    ]
    return {key: config[key] for key in keys if key in config}


def _generate(
    config: Mapping[str, Any], zoo: Zoo, folder: Path, *, head: Mapping[str, Any]
) -> dict[str, Any]:
    known = served(config, zoo)
    data, generator = known.data, made(config, zoo, known)
    _check_best(config, "held_out.seeds" if has_tasks(zoo) else "samples")
    if has_tasks(zoo):
        _check_asked(generator, config)
        return generate_for_tasks(config, zoo, data, generator=generator, folder=folder, head=head)
    members = training_members(zoo, known)
    report = fitted(config, generator, members)
    quantile = config.get("fit", {}).get("quantile", QUANTILE)
    start = _start(zoo, known, members, quantile=quantile)
    start = dataclasses.replace(start, fitted=generator, seed=config["seed"])
    judged = _judge(config, start, data)
    _write(folder, {"spec": zoo.spec, **known.about}, judged, best=config["best"])
    write_with(folder / "generator.safetensors", generator.save)
    write_table(folder / "fit.csv", losses(report))
    write_page(folder / "report.html", judged, best=config["best"])
    scores = {"scores": _scores(judged, config["best"]), "arms": _arms(judged, config["best"])}
    asked = {"wanted": start.condition, "members": _range(members.quality)}
    done = {**head, **asked, **scores, **_judged(judged), **known.about}
    write_json(folder / "result.json", done)
    return done


def _range(values: Tensor) -> list[float]:
    """The least and the largest."""
    return [float(values.min()), float(values.max())]


def _check_best(config: Mapping[str, Any], drawn: str) -> None:
    """Raise `ConfigError` where fewer are drawn, under the key ``drawn``, than the best are of."""
    best, most = config["best"], dict(flatten(config))[drawn]
    if best is not None and not 1 <= best <= most:
        raise ConfigError(f"best is {best}, but it must lie in [1, {most}], see {drawn}")


def _check_asked(generator: Generator, config: Mapping[str, Any]) -> None:
    if not reads_examples(generator):
        raise ConfigError(
            f"models={config['models']}: {type(generator).__name__} is not asked by examples, but "
            "each of these networks has a task of its own; use models=hyper_network"
        )


def _judged(judged: Judgement) -> dict[str, Any]:
    """What is new and good, and the verdict, as a document."""
    return {
        "bar": judged.bar,
        "novelty": novelty_document(judged),
        "summary": judged.verdict.summary,
        "verdict": judged.verdict.lines,
        "flags": dict(judged.verdict.flags),
        "left_out": dict(judged.left_out),
    }


def _judge(config: Mapping[str, Any], start: Start, data: Classification) -> Judgement:
    arms = {name: instantiate(arm) for name, arm in config["arms"].items()}
    how = {"n": config["samples"], "shortlist": SHORTLIST, "training": config.get("trial")}
    judged = judge(start, arms, data, **how)
    for name, reason in judged.left_out.items():
        say(f"arm left out: {name}: {reason}", error=True)
    return judged


def _start(zoo: Zoo, known: Served, members: TrainingMembers, *, quantile: float) -> Start:
    """What the arms may know; good members are those that reach what the generator is asked for."""
    wanted = members.quality.quantile(quantile)
    return Start(
        model := known.make(),
        spec=zoo.spec,
        make=known.make,
        members=members,
        good=good_members(members, quantile),
        held_out=_best_first(zoo, known.data, model),
        condition=float(wanted),
    )


def _best_first(zoo: Zoo, data: Classification, model: nn.Module) -> Params:
    """The validation members, in the order of their accuracy."""
    held_out, _ = zoo.__getitems__(zoo.indices("val"))
    order = data.evaluate(model, held_out, "val")["accuracy"].argsort(descending=True)
    return {name: tensor[order] for name, tensor in held_out.items()}


def _write(folder: Path, known: Mapping[str, Any], judged: Judgement, *, best: int | None) -> None:
    """The networks, with what is ``known`` of them in each file, and how all arms have done."""
    told = {name: value for name, value in known.items() if value is not None}
    about = {n: str(v) if n == "spec" else json.dumps(v) for n, v in told.items()}
    folder.mkdir(parents=True, exist_ok=True)
    for i, theta in enumerate(unstack(judged.drawn)):
        write_checkpoint(folder / f"sample-{i:02d}.safetensors", theta, about)
    write_table(folder / "generated.csv", _table(judged.trials))
    write_figure(folder / "generated.png", arm_figure(judged, best=best))


def _scores(judged: Judgement, best: int | None) -> dict[str, float]:
    """Those of the judgement, and what the best few by validation images come to, if asked for."""
    if best is None:
        return dict(judged.scores)
    name = f"accuracy_as_drawn_best_{best}_of_{judged.scores['networks']}_by_validation"
    return {**judged.scores, name: float(judged.best(best)[GENERATED].mean())}


def _arms(judged: Judgement, best: int | None) -> dict[str, dict[str, float]]:
    few = {} if best is None else judged.best(best)
    return {
        name: {
            "drawn": float(t.drawn.mean()),
            "drawn_spread": spread(t.drawn),
            "tuned": float(t.tuned.mean()),
            "tuned_spread": spread(t.tuned),
            "lr": t.lr,
            **({"drawn_best": float(few[name].mean())} if name in few else {}),
        }
        for name, t in judged.trials.items()
    }


def _table(trials: Mapping[str, Trial]) -> dict[str, list[Any]]:
    columns = ("arm", "network", "drawn", "tuned", "validation")
    table: dict[str, list[Any]] = {name: [] for name in columns}
    for name, t in trials.items():
        table["arm"] += [name] * len(t.drawn)
        table["network"] += range(len(t.drawn))
        table["drawn"] += t.drawn.tolist()
        table["tuned"] += t.tuned.tolist()
        table["validation"] += [""] * len(t.drawn) if t.validated is None else t.validated.tolist()
    return table
