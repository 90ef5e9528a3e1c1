"""A network named on the command line, example inputs for it, and a specification from a file.

module:callable --kwargs '{"num_classes": 10}' --input-shape 2,3,32,32
my_networks:bert --input-shape int:2,16:30522 --input-shape attention_mask=bool:2,16
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import operator
import re
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from wsl.cli.addresses import Addressed, address_of, is_address, resolve
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
_SHOWN = 8


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


def addressed(text: str, kwargs: str | None = None, *, meta: bool = False) -> Addressed:
    """The network at an address, of a folder with a config.json, or of ``module:callable``; only
    addresses may know inputs.

    With ``meta`` its weights take no memory.
    """
    address = text if is_address(text) else address_of(text)
    if address is not None:
        return resolve(address, arguments=_json_object(kwargs), meta=meta)
    with torch.device("meta") if meta else contextlib.nullcontext():
        return Addressed(find(text, kwargs).eval() if meta else find(text, kwargs), None)


def inputs_for(
    options: argparse.Namespace, network: Addressed, dtype: torch.dtype = torch.float32
) -> Inputs:
    """Inputs for one call: the user's own, of the shapes given, or those of the address."""
    if options.inputs:
        return own_inputs(options.inputs)
    if network.inputs is not None and not options.input_shape:
        return network.inputs
    return examples(options.input_shape, dtype)


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
    made = [(shape.name, shape.draw(dtype, generator)) for shape in map(_parse_shape, shapes)]
    return tuple(t for name, t in made if not name), {name: t for name, t in made if name}


def discover(model: nn.Module, inputs: Inputs, *, units: bool = False) -> PermutationSpec:
    """The specification of a network; ``units`` finds also what its units allow.

    What limits it is said on stderr: branches that were not seen, and weights that were not used.
    """
    find_spec = symmetry_spec if units else permutation_spec
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", SpecWarning)
        spec = find_spec(model, *inputs[0], **inputs[1])
    for warning in caught:
        say(f"note: {' '.join(str(warning.message).split())}", error=True)
    if unused := _unused(spec, model):
        say(f"note: {unused}", error=True)
    return spec


def _unused(spec: PermutationSpec, model: nn.Module) -> str:
    """What to know of weights that the call did not use: heads that only training uses, say."""
    fixed = {axis.rpartition(" axis ")[0] for axis, why in spec.pinned.items() if why == "unused"}
    sizes = {name: tensor.numel() for name, tensor in model.named_parameters()}
    names = [name for name in sizes if name in fixed]
    if not names:
        return ""
    share = sum(sizes[name] for name in names) / max(1, sum(sizes.values()))
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return (
        f"{', '.join(names[:_SHOWN])}{more} ({share:.1%} of the weights) are not used by this call "
        "and stay as they are; if training uses them, they do not fit units that move"
    )


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
    """Weights under the names of a specification.

    That the names of a wrapper were changed is said on stderr.
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


class _InputShape(NamedTuple):
    """``[NAME=][TYPE:]SHAPE[:BOUND]``, read."""

    name: str
    kind: str
    sizes: list[int]
    bound: int

    def draw(self, dtype: torch.dtype, generator: torch.Generator) -> Tensor:
        """Normal numbers of a type, integers below the bound, or fair coins."""
        if self.kind == "float":
            return torch.randn(self.sizes, generator=generator).to(dtype)
        integers = torch.randint(self.bound, self.sizes, generator=generator)
        return integers.bool() if self.kind == "bool" else integers


def _parse_shape(text: str) -> _InputShape:
    found = _SHAPE.fullmatch(text.replace(" ", ""))
    sizes = [int(part) for part in found[3].split(",")] if found else [0]
    if not found or 0 in sizes or found[4] == "0" or (found[4] and found[2] != "int"):
        raise ConfigError(
            "--input-shape needs positive numbers with commas, for example 2,3,32,32, "
            f"int:2,16:1000 or mask=bool:2,16, got {text}"
        )
    return _InputShape(found[1] or "", found[2] or "float", sizes, int(found[4] or _BOUND))
