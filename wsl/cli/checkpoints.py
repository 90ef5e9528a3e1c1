"""Two checkpoints on the command line: their weights, their specification, the network and the task they belong to.

A file that ``wsl zoo export`` wrote carries specification, architecture and task in its metadata. For other files the
user names the network (``--model module:callable --input-shape 3,32,32``) or gives a specification's text (``--spec FILE``).
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from wsl.cli.config import ConfigError
from wsl.params import Params
from wsl.symmetry import PermutationSpec, permutation_spec
from wsl.zoo import Classification, build_architecture, read_checkpoint, task


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
            raise ConfigError("the checkpoints do not say what they were trained on; export them with wsl zoo export")
        return task(_json(self.metadata["task"]), self.data_root)

    def network(self) -> nn.Module:
        """The network the weights belong to."""
        if self.model is None:
            raise ConfigError("the checkpoints do not say their architecture; add --model module:callable")
        return self.model


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags by which a user names two checkpoints."""
    parser.add_argument("a", help="checkpoint A: .safetensors, .pt or .pth")
    parser.add_argument("b", help="checkpoint B")
    parser.add_argument("--model", help="module:callable that returns the network, if the files do not say")
    parser.add_argument("--input-shape", help="shape of one input batch for --model, for example 2,3,32,32")
    parser.add_argument("--spec", help="file with a specification's text")
    parser.add_argument("--data-root", help="folder of the task's files, such as MNIST's")
    parser.add_argument("--seed", type=int, default=0)


def load(options: argparse.Namespace) -> Pair:
    """Read both files and check that they fit one specification."""
    (a, about_a), (b, about_b) = read_checkpoint(options.a), read_checkpoint(options.b)
    model, spec = _structure(options, about_a)
    for path, theta in ((options.a, a), (options.b, b)):
        try:
            spec.validate(theta)
        except ValueError as error:
            raise ConfigError(f"{path} does not fit the specification of {options.a}: {error}") from None
        _check_finite(path, theta)
    return Pair(a, b, spec, model, {**about_b, **about_a}, options.data_root)


def find(model: str) -> nn.Module:
    """Import ``module:callable`` from the current folder or the installation, and call it."""
    module, _, name = model.partition(":")
    if not name:
        raise ConfigError(f"'{model}' is not module:callable, for example my_networks:resnet20")
    sys.path.insert(0, str(Path.cwd()))
    try:
        made = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"{model}: {error}") from None
    finally:
        sys.path.pop(0)
    network = made if isinstance(made, nn.Module) else made()
    if not isinstance(network, nn.Module):
        raise ConfigError(f"{model} gives a {type(network).__name__}, but an nn.Module is needed")
    return network


def example(shape: str | None) -> torch.Tensor:
    """Random inputs of a shape written as ``2,3,32,32``."""
    if not shape or not all(part.strip().isdigit() and int(part) > 0 for part in shape.split(",")):
        raise ConfigError(f"--input-shape needs positive numbers with commas, for example 2,3,32,32, got {shape}")
    return torch.randn([int(part) for part in shape.split(",")], generator=torch.Generator().manual_seed(0))


def evaluator(model: nn.Module, data: Classification, split: str = "test") -> Callable[[Params], tuple[float, float]]:
    """``params -> (loss, accuracy)`` on a split."""

    def evaluate(theta: Params) -> tuple[float, float]:
        scores = data.evaluate(model, {name: tensor.unsqueeze(0) for name, tensor in theta.items()}, split)
        return float(scores["loss"][0]), float(scores["accuracy"][0])

    return evaluate


def _structure(options: argparse.Namespace, about: Mapping[str, Any]) -> tuple[nn.Module | None, PermutationSpec]:
    model = find(options.model) if options.model else None
    if model is None and "architecture" in about:
        model = build_architecture(_json(about["architecture"]))
    if options.spec:
        return model, PermutationSpec.parse(Path(options.spec).read_text())
    if options.model:
        return model, permutation_spec(model, example(options.input_shape))  # type: ignore[arg-type]
    if "spec" not in about:
        raise ConfigError(f"{options.a} carries no specification; add --model module:callable --input-shape ... or --spec FILE")
    return model, PermutationSpec.parse(about["spec"])


def _check_finite(path: str, theta: Params) -> None:
    for name, tensor in theta.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ConfigError(f"{path}: {name} holds NaN or infinity; a diverged checkpoint cannot be used")


def _json(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) else value


__all__ = ["Pair", "add_arguments", "evaluator", "example", "find", "load"]
