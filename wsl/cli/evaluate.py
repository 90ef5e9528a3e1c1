"""``wsl evaluate RUN``: what a functional that ``wsl train`` left is worth, or says of a network.

wsl evaluate RUN [--zoo FILE]              its scores on a split of its zoo or of another
wsl evaluate RUN new.pt ... [--zoo FILE]   what it says of checkpoints
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from wsl.cli.parsers import verb_parser
from wsl.cli.population import default_path
from wsl.cli.results import result, write_json
from wsl.cli.targets import ConfigError
from wsl.cli.terminal import answer, numbers, say, shown
from wsl.cli.train import build_network, build_objective
from wsl.nn import Columns
from wsl.params import Params
from wsl.training import Objective, evaluate
from wsl.zoo import Zoo, open_checkpoint


def run(arguments: Sequence[str]) -> None:
    """Load, score and write ``evaluation-SPLIT.json``, or predict."""
    options = _parser().parse_args(arguments)
    folder = Path(options.run)
    if not (folder / "result.json").exists():
        raise ConfigError(f"{folder}: no result.json; name a folder that wsl train has finished")
    trained = json.loads((folder / "result.json").read_text())
    zoo = _zoo(options, trained["config"])
    objective = build_objective(trained["config"], zoo, options.data_root)
    network = _network(folder, trained, zoo, objective=objective)
    if not options.file:
        return _score(options, zoo, objective, network=network)
    if "columns" in trained or objective.out_features is None:
        what = "reads columns beside weights" if "columns" in trained else "gives weights"
        raise ConfigError(f"{folder}: {what}, so it says nothing of a file; leave the files out")
    _predict(options, zoo, objective, network=network)
    if trained["test"].get("r2", 0) < 0:
        say(
            f"note: on its own test split this functional has r2 {trained['test']['r2']:.2f}: the "
            "mean of its training networks tells more",
            error=True,
        )


def _zoo(options: argparse.Namespace, config: Mapping[str, Any]) -> Zoo:
    """The zoo that is named, or that of the recipe."""
    if options.zoo is None and not config.get("datasets"):
        own = f"{options.run} was trained on a zoo of your own"
        raise ConfigError(f"{own}; name it with --zoo FILE")
    return Zoo(options.zoo or default_path(config))


def _network(run: Path, trained: Mapping[str, Any], zoo: Zoo, *, objective: Objective) -> nn.Module:
    """The functional as training left it."""
    columns = Columns.parse(trained["columns"]) if "columns" in trained else None
    network = build_network(trained["config"], zoo, objective, columns=columns)
    load_weights(network, run / "network.safetensors")
    return network


def _score(
    options: argparse.Namespace, zoo: Zoo, objective: Objective, *, network: nn.Module
) -> None:
    """Write and say the scores of a split."""
    folder, weights = Path(options.run), Path(options.run) / "network.safetensors"
    scores, _ = evaluate(network, zoo, objective, split=options.split)
    head = result("evaluate", {"split": options.split}, {"zoo": zoo.path, "network": weights})
    document = {**head, "scores": scores}
    write_json(folder / f"evaluation-{options.split}.json", document)
    answer(document)
    say(f"{folder}: {options.split} {numbers(scores)}")


@torch.no_grad()
def _predict(options: argparse.Namespace, zoo: Zoo, objective: Any, *, network: nn.Module) -> None:
    """Say of each file what the functional says of its weights."""
    told = {}
    for file in options.file:
        params, notes = open_checkpoint(file).choose(options.entry)
        for note in notes:
            say(f"note: {note}", error=True)
        said = float(objective.predict(network.eval()(_one(file, params, zoo))))
        told[file] = said if objective.out_features == 1 else int(said)
        say(f"{file}: {objective.column} {told[file]:.4g}")
    answer({"run": options.run, "column": objective.column, "predictions": told})


def _one(file: str, params: Params, zoo: Zoo) -> Params:
    """The tensors of one network as a batch of one; raises `ConfigError` for another architecture.

    Tensors that the zoo does not have are left out, as its import has left them out.
    """
    try:
        theta = zoo.spec.align_keys(params)
        theta = {name: theta[name] for name in zoo.shapes if name in theta}
        zoo.spec.validate(theta)
    except ValueError as error:
        raise ConfigError(
            f"{file} is of another architecture than {shown(Path(zoo.path))}: {error}"
        ) from None
    return {n: (t.float() if t.is_floating_point() else t)[None] for n, t in theta.items()}


def _parser() -> argparse.ArgumentParser:
    parser = verb_parser(
        "evaluate", "Score a trained functional on a split of a zoo, or ask it about checkpoints."
    )
    parser.add_argument("run", help="folder that wsl train wrote")
    parser.add_argument(
        "file", nargs="*", help="checkpoints of its architecture; it says of each what it predicts"
    )
    parser.add_argument("--zoo", help="zoo file; default: the recipe's own")
    parser.add_argument("--split", default="test", choices=["train", "val", "test"])
    parser.add_argument(
        "--entry", metavar="NAME", help="the set of weights to read, where a file holds several"
    )
    parser.add_argument(
        "--data-root", help="folder of the task's files, such as MNIST's, for an edit"
    )
    return parser


def load_weights(network: nn.Module, path: Path) -> None:
    """Load what ``wsl train`` left; raises `ConfigError` where it is of another architecture."""
    try:
        network.load_state_dict(load_file(path))
    except RuntimeError as error:
        raise ConfigError(
            f"{path} does not fit this zoo: the network was trained for another architecture "
            f"({error})"
        ) from None
