"""``wsl evaluate RUN``: score a functional that ``wsl train`` left, on its zoo or another."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from safetensors.torch import load_file
from torch import nn

from wsl.cli.parsers import verb_parser
from wsl.cli.population import default_path
from wsl.cli.results import result, write_json
from wsl.cli.targets import ConfigError
from wsl.cli.terminal import answer, numbers, say
from wsl.cli.train import build_network, build_objective
from wsl.nn import Columns
from wsl.training import evaluate
from wsl.zoo import Zoo


def run(arguments: Sequence[str]) -> None:
    """Load, score, write ``evaluation-SPLIT.json``."""
    options = _parser().parse_args(arguments)
    folder = Path(options.run)
    if not (folder / "result.json").exists():
        raise ConfigError(f"{folder}: no result.json; name a folder that wsl train has finished")
    trained = json.loads((folder / "result.json").read_text())
    config = trained["config"]
    columns = Columns.parse(trained["columns"]) if "columns" in trained else None
    if options.zoo is None and not config.get("datasets"):
        raise ConfigError(f"{folder} was trained on a zoo of your own; name it with --zoo FILE")
    zoo = Zoo(options.zoo or default_path(config))
    objective = build_objective(config, zoo, options.data_root)
    network = build_network(config, zoo, objective, columns=columns)
    weights = folder / "network.safetensors"
    load_weights(network, weights)
    scores, _ = evaluate(network, zoo, objective, split=options.split)
    head = result("evaluate", {"split": options.split}, {"zoo": zoo.path, "network": weights})
    document = {**head, "scores": scores}
    write_json(folder / f"evaluation-{options.split}.json", document)
    answer(document)
    say(f"{folder}: {options.split} {numbers(scores)}")


def _parser() -> argparse.ArgumentParser:
    parser = verb_parser("evaluate", "Score a trained functional on a split of a zoo.")
    parser.add_argument("run", help="folder that wsl train wrote")
    parser.add_argument("--zoo", help="zoo file; default: the recipe's own")
    parser.add_argument("--split", default="test", choices=["train", "val", "test"])
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
