"""A network named on the command line, example inputs for it, and a specification from a file.

module:callable --kwargs '{"num_classes": 10}' --input-shape 2,3,32,32
my_networks:bert --input-shape int:2,16:30522 --input-shape attention_mask=bool:2,16
"""

from __future__ import annotations

import argparse
import importlib
import json
import operator
import re
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wsl.cli.targets import ConfigError
from wsl.cli.terminal import say
from wsl.params import Params
from wsl.symmetry import PermutationSpec, SpecWarning, permutation_spec, symmetry_spec

Inputs = tuple[tuple[Tensor, ...], dict[str, Tensor]]
"""Positional inputs, and those given by name."""

CODE_FAILS = (
    ImportError,
    AttributeError,
    TypeError,
    ValueError,
    RuntimeError,
    LookupError,
    SyntaxError,
    AssertionError,
)
"""What a network's own code raises."""

_SHAPE = re.compile(r"(?:([A-Za-z_]\w*)=)?(?:(int|bool|float):)?(\d+(?:,\d+)*)(?::(\d+))?")
_BOUND = 2


def add_network_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags that say how a network is built and called."""
    parser.add_argument(
        "--kwargs",
        metavar="JSON",
        help='arguments of the callable, for example {"num_classes": 10}',
    )
    parser.add_argument(
        "--input-shape",
        action="append",
        metavar="[NAME=][TYPE:]SHAPE[:BOUND]",
        help="shape of an input, once for each: 2,3,32,32; int:2,16:1000 for integers below 1000 "
        "(default 2); mask=bool:2,16",
    )
    parser.add_argument(
        "--inputs",
        metavar="MODULE:CALLABLE",
        help="your own inputs, where shapes do not say enough: returns (args, kwargs)",
    )


def find(model: str, kwargs: str | None = None) -> nn.Module:
    """Import ``module:callable`` from the current folder or the installation, and call it."""
    made = import_from(model)
    arguments = _json_object(kwargs)
    try:
        network = made if isinstance(made, nn.Module) else made(**arguments)
    except CODE_FAILS as error:
        raise ConfigError(f"{model}: {error}") from None
    if not isinstance(network, nn.Module):
        raise ConfigError(f"{model} gives a {type(network).__name__}, but an nn.Module is needed")
    return network


def import_from(text: str) -> Any:
    """What ``module:name`` names, in the current folder or the installation."""
    module, _, name = text.partition(":")
    if not name:
        raise ConfigError(f"'{text}' is not module:callable, for example my_networks:resnet20")
    sys.path.insert(0, str(Path.cwd()))
    try:
        return operator.attrgetter(name)(importlib.import_module(module))
    except CODE_FAILS as error:
        raise ConfigError(f"{text}: {error}") from None
    finally:
        sys.path.pop(0)


def own_inputs(text: str) -> Inputs:
    """Inputs of one call from the user's ``module:callable``, which returns (args, kwargs)."""
    made = import_from(text)
    try:
        told = made()
    except CODE_FAILS as error:
        raise ConfigError(f"--inputs {text}: {error}") from None
    pair = isinstance(told, tuple) and len(told) == 2 and isinstance(told[1], Mapping)
    if not pair or not isinstance(told[0], tuple | list):
        raise ConfigError(
            f"--inputs {text} must return (args, kwargs), a tuple of inputs and a dict of those "
            f"given by name, got {type(told).__name__}"
        )
    return tuple(told[0]), dict(told[1])


def examples(shapes: Sequence[str] | None, dtype: torch.dtype = torch.float32) -> Inputs:
    """Random inputs of shapes written as ``2,3,32,32``, ``int:2,16:1000`` or ``mask=bool:2,16``."""
    if not shapes:
        raise ConfigError(
            "--input-shape is needed, for example 2,3,32,32: the shape of one input batch, once "
            "for each input"
        )
    generator = torch.Generator().manual_seed(0)
    args: list[Tensor] = []
    kwargs: dict[str, Tensor] = {}
    for text in shapes:
        found = _SHAPE.fullmatch(text.replace(" ", ""))
        sizes = [int(part) for part in found[3].split(",")] if found else [0]
        if not found or 0 in sizes or found[4] == "0" or (found[4] and found[2] != "int"):
            raise ConfigError(
                "--input-shape needs positive numbers with commas, for example 2,3,32,32, "
                "int:2,16:1000 or "
                f"mask=bool:2,16, got {text}"
            )
        made = _example(
            found[2] or "float", sizes, int(found[4] or _BOUND), dtype=dtype, generator=generator
        )
        if found[1]:
            kwargs[found[1]] = made
        else:
            args.append(made)
    return tuple(args), kwargs


def discover(model: nn.Module, inputs: Inputs, *, units: bool = False) -> PermutationSpec:
    """The specification of a network, if asked for with what its units allow; what limits it is
    said on stderr.
    """
    find_spec = symmetry_spec if units else permutation_spec
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", SpecWarning)
        spec = find_spec(model, *inputs[0], **inputs[1])
    for warning in caught:
        say(f"note: {' '.join(str(warning.message).split())}", error=True)
    return spec


def read_spec(path: str | Path) -> PermutationSpec:
    """A specification from a file, as text or as JSON."""
    try:
        text = Path(path).read_text(encoding="utf-8")
        return (
            PermutationSpec.from_json(text)
            if text.lstrip().startswith("{")
            else PermutationSpec.parse(text)
        )
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from None


def align(path: str | Path, theta: Params, spec: PermutationSpec) -> Params:
    """Weights under the names of a specification; that a wrapper's names were changed is said on
    stderr.
    """
    aligned = spec.align_keys(theta)
    changed = [(old, new) for old, new in zip(theta, aligned, strict=True) if old != new]
    if changed:
        old, new = changed[0]
        say(
            f"note: {path}: {len(changed)} names carry a wrapper's prefix and are read without "
            f"it, {old} as {new}",
            error=True,
        )
    return aligned


def _json_object(text: str | None) -> dict[str, Any]:
    try:
        value = json.loads(text or "{}")
    except (ValueError, RecursionError) as error:
        raise ConfigError(
            f'--kwargs: {error}; write JSON, for example {{"num_classes": 10}}'
        ) from None
    if not isinstance(value, dict):
        raise ConfigError(
            f'--kwargs must be a JSON object, for example {{"num_classes": 10}}, got {text}'
        )
    return value


def _example(
    kind: str, sizes: list[int], bound: int, *, dtype: torch.dtype, generator: torch.Generator
) -> Tensor:
    if kind == "float":
        return torch.randn(sizes, generator=generator).to(dtype)
    integers = torch.randint(bound, sizes, generator=generator)
    return integers.bool() if kind == "bool" else integers
