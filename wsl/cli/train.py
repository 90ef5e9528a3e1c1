"""``wsl train models=NAME datasets=NAME``: train a neural functional on a zoo and score it on the
test members.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save_file
from torch import nn

from wsl.cli.config import compose, recipes
from wsl.cli.population import open_or_build, part
from wsl.cli.results import finished, result, write_figure, write_json, write_table, write_with
from wsl.cli.targets import ConfigError, instantiate, locate
from wsl.cli.terminal import numbers, say
from wsl.nn import Columns, Conditioned
from wsl.plots import bar_figure, histogram_figure, scatter_figure
from wsl.populations import build_architecture
from wsl.training import Objective, evaluate, fit, learn_columns
from wsl.zoo import Zoo

if TYPE_CHECKING:
    from wsl.plots import Figure

FEATURES = 32
"""Numbers that a functional gives to where columns meet them."""


def run(arguments: Sequence[str]) -> None:
    """Train, keep the best epoch by the validation members, report the test members."""
    if not arguments or set(arguments) & {"-h", "--help"}:
        say(
            "usage: wsl train models=NAME datasets=NAME [seed=0] [settings.epochs=30] "
            "[network.KEY=VALUE] [columns=[NAME,...]] "
            "[zoo=FILE]\n"
            f"models: {', '.join(recipes('models'))}\ndatasets: {', '.join(recipes('datasets'))}"
        )
        return
    config = compose("train", arguments)
    config = {**config, "objective": config.get("edit") or config.get("objective")}
    for need in ("network", "objective"):
        part(config, need, verb="wsl train")
    _check_outputs(config)
    _check_columns(config)
    zoo = open_or_build(config)
    folder = Path(
        config["output"] or f"runs/train/{config['datasets']}-{config['models']}-{config['seed']}"
    )
    kept = {
        key: config[key]
        for key in ("models", "datasets", "seed", "network", "objective", "settings", "variety")
    }
    kept |= {"columns": config["columns"]} if config["columns"] else {}
    head = result("train", kept, {"zoo": zoo.path})
    done = finished(folder, head) or _train(config, zoo, folder, head)
    say(
        f"{folder}: test {numbers(done['test'])} (best of {done['epochs']} epochs: "
        f"{done['best_epoch']}, seed {config['seed']})"
    )


def build_network(
    config: Mapping[str, Any], zoo: Zoo, objective: Objective, columns: Columns | None = None
) -> nn.Module:
    """The network of a recipe for a zoo, initialised from the configuration's seed; it is told
    ``columns``, if there are any.

    Raises `ConfigError` for one that runs the networks of a zoo which does not say how to build
    them.
    """
    kind = locate(config["network"]["_target_"])
    reads = _base_network(config["network"], zoo) if getattr(kind, "reads_function", False) else {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config["seed"])
        width = {} if objective.out_features is None else {"out_features": objective.out_features}
        described = {**config["network"], **reads}
        if columns is None or getattr(kind, "takes_columns", False):
            told = {} if columns is None else {"columns": columns}
            return instantiate(described, spec=zoo.spec, **told, **width)
        features = instantiate(described, spec=zoo.spec, out_features=FEATURES)
        return Conditioned(features, columns, features=FEATURES, **width)


def build_objective(config: Mapping[str, Any], zoo: Zoo, data_root: str | None) -> Objective:
    """The objective of a recipe; one that reads the zoo's own images finds their files in
    ``data_root``.
    """
    reads = getattr(locate(config["objective"]["_target_"]), "reads_zoo", False)
    return instantiate(
        config["objective"], **({"zoo": zoo, "data_root": data_root} if reads else {})
    )


def _check_outputs(config: Mapping[str, Any]) -> None:
    network, objective = (locate(config[name]["_target_"]) for name in ("network", "objective"))
    if getattr(network, "gives_weights", False) != (objective.out_features is None):
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


def _base_network(network: Mapping[str, Any], zoo: Zoo) -> dict[str, Any]:
    """The architecture of the zoo's members and the shape of their input, for a functional that
    runs them.
    """
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
    config: Mapping[str, Any], zoo: Zoo, folder: Path, head: Mapping[str, Any]
) -> dict[str, Any]:
    objective = build_objective(config, zoo, config["data_root"])
    columns = learn_columns(config["columns"], zoo, objective) if config["columns"] else None
    network = build_network(config, zoo, objective, columns)
    how = {"settings": instantiate(config["settings"]), "variety": instantiate(config["variety"])}
    trained = fit(network, zoo, objective, **how, folder=folder, progress=True)
    scores, table = evaluate(network, zoo, objective)
    unchanged, before = (
        evaluate(nn.Identity(), zoo, objective) if objective.out_features is None else ({}, {})
    )
    table |= {
        f"{name}_unchanged": column
        for name, column in before.items()
        if name not in ("row", objective.column)
    }
    done = {
        **head,
        **({"columns": columns.describe()} if columns else {}),
        "parameters": sum(p.numel() for p in network.parameters()),
        "epochs": len(trained.history),
        "best_epoch": trained.best_epoch,
        "val": {objective.monitor: trained.best_score},
        "test": scores,
        **({"unchanged": unchanged} if unchanged else {}),
    }
    write_table(
        folder / "history.csv",
        {name: [row[name] for row in trained.history] for name in trained.history[0]},
    )
    write_table(
        folder / "predictions.csv", {name: column.tolist() for name, column in table.items()}
    )
    write_with(
        folder / "network.safetensors",
        lambda path: save_file(_weights(network), path, metadata={"hash": head["hash"]}),
    )
    write_figure(folder / "predictions.png", _figure(objective.column, table))
    write_json(folder / "result.json", done)
    (folder / "last.pt").unlink(missing_ok=True)
    return done


def _weights(network: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.contiguous() for name, tensor in network.state_dict().items()}


def _figure(column: str, table: Mapping[str, torch.Tensor]) -> Figure:
    """Predicted against true for a score, accuracy by class for a label, errors before and after
    for an edit.
    """
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
