"""Two checkpoints on the command line: their weights, their specification, the network and the task
they belong to.

A file that ``wsl zoo export`` wrote carries specification, architecture and task in its metadata.
For other files the user names the network (``--model module:callable --input-shape 2,3,32,32``) or
gives a specification (``--spec FILE``). Names that a wrapper put into a checkpoint (``module.``,
``_orig_mod.``) are read without it.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from wsl.cli.networks import add_network_arguments, align, discover, examples, find, read_spec
from wsl.cli.targets import ConfigError
from wsl.params import Params
from wsl.populations import Classification, build_architecture, task
from wsl.symmetry import PermutationSpec
from wsl.zoo import read_checkpoint


@dataclasses.dataclass(frozen=True)
class Pair:
    """Checkpoints A and B of one architecture."""

    a: Params
    b: Params
    spec: PermutationSpec
    model: nn.Module | None
    metadata: Mapping[str, Any]
    data_root: str | None = None

    def task(self) -> Classification:
        """The task named in the files' metadata."""
        if "task" not in self.metadata:
            raise ConfigError(
                "the checkpoints do not say what they were trained on; export them with wsl zoo "
                "export"
            )
        return task(_json(self.metadata["task"]), self.data_root)

    def network(self) -> nn.Module:
        """The network the weights belong to."""
        if self.model is None:
            raise ConfigError(
                "the checkpoints do not say their architecture; add --model module:callable"
            )
        return self.model


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags by which a user names two checkpoints."""
    parser.add_argument("a", help="checkpoint A: .safetensors, .pt or .pth")
    parser.add_argument("b", help="checkpoint B")
    parser.add_argument(
        "--model", help="module:callable that returns the network, if the files do not say"
    )
    add_network_arguments(parser)
    parser.add_argument("--spec", help="file with a specification, as text or JSON")
    parser.add_argument("--data-root", help="folder of the task's files, such as MNIST's")
    parser.add_argument("--seed", type=int, default=0)


def load(options: argparse.Namespace) -> Pair:
    """Read both files and check that they fit one specification."""
    (a, about_a), (b, about_b) = read_checkpoint(options.a), read_checkpoint(options.b)
    model, spec = _structure(options, about_a)
    a, b = align(options.a, a, spec), align(options.b, b, spec)
    for path, theta in ((options.a, a), (options.b, b)):
        try:
            spec.validate(theta)
        except ValueError as error:
            raise ConfigError(
                f"{path} does not fit the specification of {options.a}: {error}"
            ) from None
        _check_finite(path, theta)
    return Pair(a, b, spec, model, {**about_b, **about_a}, options.data_root)


def evaluator(
    model: nn.Module, data: Classification, split: str = "test"
) -> Callable[[Params], tuple[float, float]]:
    """``params -> (loss, accuracy)`` on a split."""

    def evaluate(theta: Params) -> tuple[float, float]:
        scores = data.evaluate(
            model, {name: tensor.unsqueeze(0) for name, tensor in theta.items()}, split
        )
        return float(scores["loss"][0]), float(scores["accuracy"][0])

    return evaluate


def _structure(
    options: argparse.Namespace, about: Mapping[str, Any]
) -> tuple[nn.Module | None, PermutationSpec]:
    model = find(options.model, options.kwargs) if options.model else None
    if model is None and "architecture" in about:
        model = build_architecture(_json(about["architecture"]))
    if options.spec:
        return model, read_spec(options.spec)
    if options.model and model is not None:
        return model, discover(model, examples(options.input_shape))
    if "spec" not in about:
        raise ConfigError(
            f"{options.a} carries no specification; add --model module:callable --input-shape ... "
            "or --spec FILE"
        )
    return model, PermutationSpec.parse(about["spec"])


def _check_finite(path: str, theta: Params) -> None:
    for name, tensor in theta.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ConfigError(
                f"{path}: {name} holds NaN or infinity; a diverged checkpoint cannot be used"
            )


def _json(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) else value


__all__ = ["Pair", "add_arguments", "evaluator", "load"]
