"""``wsl train models=NAME datasets=NAME``: train a neural functional on a zoo and score it.

``wsl train models=NAME zoo=FILE target=COLUMN`` does so on a zoo that no recipe describes.

With ``settings.devices`` above 1 the same command runs in as many processes, which meet in `fit`.
"""

from __future__ import annotations

import argparse
import inspect
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save_file
from torch import nn

import wsl.cli
from wsl.base import did_you_mean
from wsl.cli.config import compose
from wsl.cli.parsers import recipe_parser
from wsl.cli.population import default_path, open_or_build, part, population_name
from wsl.cli.results import finished, result, write_figure, write_json, write_table, write_with
from wsl.cli.targets import ConfigError, instantiate, locate
from wsl.cli.terminal import answer, numbers, say
from wsl.nn import Columns, Conditioned
from wsl.plots import bar_figure, histogram_figure, scatter_figure
from wsl.populations import build_architecture
from wsl.training import (
    Fit,
    Hardware,
    Objective,
    Ranks,
    alongside,
    evaluate,
    fit,
    is_first,
    learn_columns,
)
from wsl.zoo import Checkpoints, Zoo

if TYPE_CHECKING:
    from wsl.plots import Figure

FEATURES = 32
"""Numbers that a functional gives to where columns meet them."""

_FEW = 10
"""Networks in a split below which a score is said to mean little."""


def run(arguments: Sequence[str]) -> None:
    """Train, keep the best epoch by the validation members, report the test members."""
    if not arguments or set(arguments) & {"-h", "--help"}:
        _parser().print_help()
        return
    config = _config(arguments)
    hardware = instantiate(config["settings"]).hardware
    zoo = _zoo(config, hardware)
    data = population_name(config)
    folder = Path(config["output"] or f"runs/train/{data}-{config['models']}-{config['seed']}")
    head = result("train", _kept(config), {"zoo": zoo.path})
    done = finished(folder, head)
    if done is None:
        with alongside(hardware, wsl.cli.main, ["train", *arguments]):
            done = _train(config, zoo, folder, head=head)
    if is_first(hardware):
        answer(done)
        if not config.get("datasets"):
            _say_few(zoo)
        say(
            f"{folder}: test {numbers(done['test'])} (best of {done['epochs']} epochs: "
            f"{done['best_epoch']}, seed {config['seed']}{_floor(zoo, config)})"
        )


def _floor(zoo: Zoo, config: Mapping[str, Any]) -> str:
    """In words, the error of saying the training networks' mean of all, of a score."""
    if not str(config["objective"]["_target_"]).endswith("ScoreRegression"):
        return ""
    name = config["objective"].get("column", "test_accuracy")
    train, test = (zoo.split(part).table[name] for part in ("train", "test"))
    error = abs(test - train.mean()).mean()
    return f"; the training networks' mean of all: mean_absolute_error {error:.4f}"


def _say_few(zoo: Zoo) -> None:
    """Say where there are too few networks to choose an epoch by, or to score."""
    counts = {part: len({*zoo.split(part).table["member"]}) for part in ("train", "val", "test")}
    if min(counts["val"], counts["test"]) < _FEW:
        say(
            f"note: {counts['train']} networks to learn from, {counts['val']} to choose the epoch "
            f"by, {counts['test']} to test on: too few for these scores to mean much; some hundred "
            "networks are a population",
            error=True,
        )


def _parser() -> argparse.ArgumentParser:
    """For its help: overrides are read by Hydra."""
    return recipe_parser(
        "train",
        "Train a neural functional on a population of networks.",
        keys="seed, zoo, output, settings.epochs, network.KEY, columns=[NAME,...] and all that the "
        "recipes hold",
    )


def _config(arguments: Sequence[str]) -> dict[str, Any]:
    """The recipe that is asked for, checked."""
    config = compose("train", arguments)
    config = {**config, "objective": config.get("edit") or _objective(config)}
    for need in ("network", "objective"):
        part(config, need, verb="wsl train")
    _check_outputs(config)
    _check_columns(config)
    # what they refuse is said before a zoo is built
    instantiate(config["settings"]).hardware.check()
    instantiate(config["variety"])
    return config


def _objective(config: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The recipe's objective; of a ``target``, a score or, for a column of integers, a label."""
    if config["target"] is None:
        return config.get("objective")
    if config["zoo"] is None:
        raise ConfigError("target is of a zoo of your own; name it with zoo=FILE")
    zoo, name = Zoo(config["zoo"]), config["target"]
    table = zoo.table
    known = [each for each in table.dtype.names or () if table.dtype[each].kind in "iuf"]
    if name not in known:
        raise ConfigError(
            f"target={name}: {config['zoo']} has no such column of numbers"
            f"{did_you_mean(str(name), known)}; it has {', '.join(known)}"
        )
    if table.dtype[name].kind == "f":
        few = len({*zoo.split("val").table["member"]}) < _FEW
        chosen = {"monitor": "r2"} if few else {}
        return {"_target_": "wsl.training.ScoreRegression", "column": name, **chosen}
    classes = int(table[name].max()) + 1
    return {"_target_": "wsl.training.LabelClassification", "column": name, "classes": classes}


def _zoo(config: Mapping[str, Any], hardware: Hardware) -> Zoo:
    """The zoo to train on; of processes that were started together, the first builds it."""
    if not is_first(hardware) and not config["zoo"]:
        while not default_path(config).exists():
            time.sleep(1.0)
    return open_or_build(config)


def _kept(config: Mapping[str, Any]) -> dict[str, Any]:
    """What a result says of its configuration: not on how many machines it was found."""
    names = ("models", "datasets", "seed", "network", "objective", "settings", "variety")
    kept = {name: config[name] for name in names if name in config}
    kept["settings"] = {k: v for k, v in config["settings"].items() if k != "nodes"}
    return kept | ({"columns": config["columns"]} if config["columns"] else {})


def build_network(
    config: Mapping[str, Any],
    zoo: Checkpoints,
    objective: Objective,
    *,
    columns: Columns | None = None,
) -> nn.Module:
    """The network of a recipe for a zoo, initialised from the configuration's seed.

    It is told ``columns``, if there are any. Raises `ConfigError` for one that runs the networks of
    a zoo which does not say how to build them.
    """
    kind = locate(config["network"]["_target_"])
    reads = _base_network(config["network"], zoo) if _declares(kind, "reads_function") else {}
    described = {**config["network"], **reads, "spec": zoo.spec}
    width = {} if objective.out_features is None else {"out_features": objective.out_features}
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Initializing zero-element tensors")  # refused below
        torch.manual_seed(config["seed"])
        try:
            network = _network(kind, described, columns, width=width)
        except ZeroDivisionError:
            zero = ", ".join(_zero_sizes(kind, described)) or config["network"]["_target_"]
            raise ConfigError(f"{zero}: a size must be at least 1") from None
    _check_sizes(network, _zero_sizes(kind, described))
    return network


def _zero_sizes(kind: type, description: Mapping[str, Any]) -> list[str]:
    """The whole numbers among a network's arguments that are 0, as words of the command line."""
    declared = inspect.signature(kind).parameters
    whole = [k for k in description if k in declared and declared[k].annotation in ("int", int)]
    return [f"network.{key}=0" for key in whole if description[key] == 0]


def _network(
    kind: type, described: Mapping[str, Any], columns: Columns | None, *, width: Mapping[str, int]
) -> nn.Module:
    """The network itself, or features of weights that meet the columns after it."""
    if columns is None:
        return instantiate(described, **width)
    if _declares(kind, "takes_columns"):
        return instantiate(described, columns=columns, **width)
    features = instantiate(described, out_features=FEATURES)
    return Conditioned(features, columns, features=FEATURES, **width)


def _check_sizes(network: nn.Module, zero: Sequence[str]) -> None:
    """Raise `ConfigError` for a size of 0, by the parameters without entries that it leaves."""
    empty = [name for name, tensor in network.named_parameters() if not tensor.numel()]
    if zero and empty:
        raise ConfigError(
            f"{', '.join(zero)}: the network's {empty[0]} has no entries then; a size must be at "
            "least 1"
        )


def build_objective(
    config: Mapping[str, Any], zoo: Checkpoints, data_root: str | None
) -> Objective:
    """The objective of a recipe; one that reads the zoo's images finds them in ``data_root``."""
    reads = locate(config["objective"]["_target_"]).reads_zoo
    told = {"zoo": zoo, "data_root": data_root} if reads else {}
    return instantiate(config["objective"], **told)


def _declares(network: type, what: str) -> bool:
    """What a functional says of itself."""
    return getattr(network, what, False)


def _check_outputs(config: Mapping[str, Any]) -> None:
    network, objective = (locate(config[name]["_target_"]) for name in ("network", "objective"))
    if _declares(network, "gives_weights") != (objective.out_features is None):
        raise ConfigError(
            f"models={config['models']}: {network.__name__} and {objective.__name__} do not fit: "
            "networks "
            "that give weights take an edit, {_target_: wsl.training.ImageEdit}, and others none"
        )


def _check_columns(config: Mapping[str, Any]) -> None:
    names, objective = config["columns"], locate(config["objective"]["_target_"])
    if (
        not isinstance(names, list)
        or not all(isinstance(name, str) for name in names)
        or len(set(names)) < len(names)
    ):
        raise ConfigError(
            f"columns is {names}, but it must be a list of different names, such as "
            "columns=[activation]"
        )
    if names and objective.out_features is None:
        raise ConfigError(
            f"models={config['models']} gives weights, and columns are for functionals that give "
            "numbers; leave "
            "columns out"
        )


def _base_network(network: Mapping[str, Any], zoo: Checkpoints) -> dict[str, Any]:
    """What a functional that runs a zoo's members is told: architecture and shape of an input."""
    if zoo.architecture is None:
        raise ConfigError(
            f"{zoo.path} does not say how to build its networks, but {network['_target_']} runs "
            "them; choose a "
            "functional that reads weights alone, such as models=unf"
        )
    shape = network.get("input_shape") or zoo.provenance.get("input_shape")
    if shape is None:
        raise ConfigError(
            f"{zoo.path} does not say what shape an input has; add network.input_shape=[...], "
            "without batch"
        )
    return {"base": build_architecture(zoo.architecture), "input_shape": shape}


def _train(
    config: Mapping[str, Any], zoo: Zoo, folder: Path, *, head: Mapping[str, Any]
) -> dict[str, Any]:
    """Train and score on all processes; the first writes the folder."""
    objective = build_objective(config, zoo, config["data_root"])
    columns = learn_columns(config["columns"], zoo, objective) if config["columns"] else None
    network = build_network(config, zoo, objective, columns=columns)
    how = {"settings": instantiate(config["settings"]), "variety": instantiate(config["variety"])}
    trained = fit(network, zoo, objective, **how, folder=folder, progress=True)
    scores, table = evaluate(network, zoo, objective, ranks=Ranks.current())
    unchanged, before = _unchanged(zoo, objective)
    told = {**head, **({"columns": columns.describe()} if columns else {})}
    done = told | _evidence(network, trained, objective.monitor)
    done |= {"test": scores, **({"unchanged": unchanged} if unchanged else {})}
    if Ranks.current().first:
        figure = _figure(objective.column, table | before)
        _write(folder, done, network, history=trained.history, table=table | before, figure=figure)
    return done


def _evidence(network: nn.Module, trained: Fit, monitor: str) -> dict[str, Any]:
    """What a result says of the training itself."""
    return {
        "parameters": sum(p.numel() for p in network.parameters()),
        "epochs": len(trained.history),
        "best_epoch": trained.best_epoch,
        "val": {monitor: trained.best_score},
    }


def _unchanged(zoo: Zoo, objective: Objective) -> tuple[dict[str, float], dict[str, torch.Tensor]]:
    """What an edit scores that leaves the weights as they are, and its columns by row."""
    if objective.out_features is not None:
        return {}, {}
    scores, before = evaluate(nn.Identity(), zoo, objective, ranks=Ranks.current())
    same = ("row", objective.column)
    return scores, {f"{name}_unchanged": t for name, t in before.items() if name not in same}


def _write(
    folder: Path,
    done: Mapping[str, Any],
    network: nn.Module,
    *,
    history: list[dict[str, float]],
    table: Mapping[str, torch.Tensor],
    figure: Figure,
) -> None:
    """The files of a finished run; what it would have gone on from is no longer needed."""
    write_table(
        folder / "history.csv", {name: [row[name] for row in history] for name in history[0]}
    )
    write_table(folder / "predictions.csv", {name: t.tolist() for name, t in table.items()})
    weights = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    write_with(
        folder / "network.safetensors",
        lambda path: save_file(weights, path, metadata={"hash": done["hash"]}),
    )
    write_figure(folder / "predictions.png", figure)
    write_json(folder / "result.json", done)
    (folder / "last.pt").unlink(missing_ok=True)


def _figure(column: str, table: Mapping[str, torch.Tensor]) -> Figure:
    """Predictions against targets, accuracy by class, or errors before and after an edit."""
    if "mse" in table:
        return histogram_figure(
            {"edited": table["mse"], "unchanged": table["mse_unchanged"]},
            label="mean squared error",
        )
    prediction, target = table["prediction"], table["target"]
    if prediction.is_floating_point():
        return scatter_figure(prediction, target, label=column.replace("_", " "))
    hits = {
        int(label): (prediction == label)[target == label].double().mean()
        for label in target.unique()
    }
    return bar_figure(
        {f"{column} {label}": float(rate) for label, rate in hits.items()}, label="accuracy"
    )
