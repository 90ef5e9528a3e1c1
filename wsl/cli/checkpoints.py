"""Checkpoints on the command line: their weights, their specification, the network and the task
they belong to.

A checkpoint is whatever `wsl.zoo.open_checkpoint` reads: a file, a folder with shards, a hub
snapshot. What it is of is found in this order:

    --model ADDRESS        a network by address, or module:callable (`wsl.cli.addresses`)
    a folder's config.json hf: or diffusers:, without any flag
    its own metadata       files that wsl wrote carry specification, architecture and task
    --spec FILE            a specification, instead of discovering one

Weights are brought to the network's names, and every step that changes or leaves out something is
said on stderr.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from wsl.cli.addresses import Addressed, address_of, converted, is_address
from wsl.cli.networks import (
    Inputs,
    add_network_arguments,
    addressed,
    discover,
    inputs_for,
    read_spec,
)
from wsl.cli.targets import ConfigError
from wsl.cli.terminal import say
from wsl.params import Params
from wsl.populations import Classification, build_architecture, task
from wsl.symmetry import PermutationSpec
from wsl.zoo import Expected, FoundCheckpoint, ZooError, fit, open_checkpoint


@dataclasses.dataclass(frozen=True)
class Loaded:
    """Checkpoints of one architecture under one set of names, in the order they were given.

    ``abouts``: what each file says of itself. ``address``: of the network, if it has one.
    ``inputs``: on which the network runs, if they are known.
    """

    paths: tuple[str, ...]
    members: tuple[Params, ...]
    abouts: tuple[Mapping[str, Any], ...]
    spec: PermutationSpec
    model: nn.Module | None
    address: str | None = None
    data_root: str | None = None
    inputs: Inputs | None = None

    @property
    def a(self) -> Params:
        """The first checkpoint: the reference."""
        return self.members[0]

    @property
    def b(self) -> Params:
        """The second checkpoint."""
        return self.members[1]

    def network(self) -> nn.Module:
        """The network the weights belong to."""
        if self.model is None:
            raise ConfigError(
                "the checkpoints do not say their architecture; add --model module:callable"
            )
        return self.model

    def task(self) -> Classification:
        """The task that the files name in their metadata."""
        if (found := self.named_task()) is None:
            raise ConfigError(
                "the checkpoints do not say what they were trained on; give --data, --evaluate or "
                "--inputs-data, or export them with wsl zoo export"
            )
        return task(found, self.data_root)

    def named_task(self) -> Mapping[str, Any] | None:
        """The description of a task in the files' metadata, the first one's before the others'."""
        return next(filter(None, (described(about, "task") for about in self.abouts)), None)

    def shared_metadata(self) -> dict[str, Any]:
        """What a network made of all of them may say of itself: what it is, not who."""
        kept = ("spec", "architecture", "task", "buffers")
        found: dict[str, Any] = {}
        for about in reversed(self.abouts):
            found |= {name: about[name] for name in kept if name in about}
        return found


def add_arguments(parser: argparse.ArgumentParser, *, many: bool = False) -> None:
    """The flags by which a user names two checkpoints, or two and ``many`` more."""
    parser.add_argument("a", help="checkpoint A: a file, a folder with shards, or a hub snapshot")
    parser.add_argument("b", help="checkpoint B")
    if many:
        parser.add_argument("more", nargs="*", help="further checkpoints")
    parser.add_argument(
        "--model",
        help="the network, if the files do not say: module:callable, timm:NAME, torchvision:NAME, "
        "hf:FOLDER, diffusers:FOLDER or zoo:FILE",
    )
    add_network_arguments(parser)
    add_reading_arguments(parser)
    parser.add_argument("--spec", help="file with a specification, as text or JSON")
    parser.add_argument("--data-root", help="folder of the task's files, such as MNIST's")
    parser.add_argument("--seed", type=int, default=0)


def add_reading_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags that say how a file's content is read."""
    parser.add_argument(
        "--entry", metavar="NAME", help="the set of weights to read, where a file holds several"
    )
    parser.add_argument(
        "--prefix",
        default="",
        help="removed from the names of all tensors, or added where none has it, such as model.",
    )
    parser.add_argument(
        "--drop",
        action="append",
        default=[],
        metavar="NAME",
        help="leave out a tensor, or all of a module, that the network lacks",
    )


def load(options: argparse.Namespace) -> Loaded:
    """Read the files and bring them to the names of one specification."""
    paths = (options.a, options.b, *getattr(options, "more", ()))
    found = [_opened(path) for path in paths]
    abouts = tuple(each.metadata for each in found)
    check_same_words(paths, abouts)
    address = _address(options)
    network = _network(options, address, abouts[0])
    spec = _spec(options, network, abouts[0])
    model = network.model if network else None
    expected = Expected.of(spec, model)
    members = tuple(
        _fitted(path, each, expected, options=options, address=address)
        for path, each in zip(paths, found, strict=True)
    )
    inputs = _inputs(options, network)
    return Loaded(paths, members, abouts, spec, model, address, options.data_root, inputs)


def structure(options: argparse.Namespace, about: Mapping[str, Any]) -> Expected:
    """What weights named on the command line must be: found without any weights in memory."""
    address = _address(options)
    network = _network(options, address, about, meta=True)
    return Expected.of(_spec(options, network, about), network.model if network else None)


def _inputs(options: argparse.Namespace, network: Addressed | None) -> Inputs | None:
    known = network is not None and (network.inputs or options.input_shape or options.inputs)
    return inputs_for(options, network) if network is not None and known else None


def described(about: Mapping[str, Any], name: str) -> Mapping[str, Any] | None:
    """The description with ``_target_`` that a file holds under ``name``; a stranger's text under
    that name is none.
    """
    value = about.get(name)
    try:
        value = json.loads(value) if isinstance(value, str) else value
    except ValueError:
        return None
    return value if isinstance(value, Mapping) and "_target_" in value else None


def _opened(path: str) -> FoundCheckpoint:
    try:
        return open_checkpoint(path)
    except ZooError as error:
        raise ConfigError(str(error)) from None


def _address(options: argparse.Namespace) -> str | None:
    if options.model:
        return options.model if is_address(options.model) else None
    return None if options.spec else address_of(options.a)


def _network(
    options: argparse.Namespace,
    address: str | None,
    about: Mapping[str, Any],
    *,
    meta: bool = False,
) -> Addressed | None:
    """The network, with inputs for it where its address knows them."""
    if address is not None or options.model:
        return addressed(address or options.model, options.kwargs, meta=meta)
    if (architecture := described(about, "architecture")) is None:
        return None
    with torch.device("meta") if meta else contextlib.nullcontext():
        return Addressed(build_architecture(architecture), None)


def _spec(
    options: argparse.Namespace, network: Addressed | None, about: Mapping[str, Any]
) -> PermutationSpec:
    if options.spec:
        return read_spec(options.spec)
    if network is not None and (options.model or network.inputs is not None):
        return discover(network.model, inputs_for(options, network))
    if "spec" not in about:
        raise ConfigError(
            f"{options.a} carries no specification; add --model module:callable --input-shape ... "
            "or --spec FILE"
        )
    return PermutationSpec.parse(about["spec"])


def _fitted(
    path: str,
    found: FoundCheckpoint,
    expected: Expected,
    *,
    options: argparse.Namespace,
    address: str | None,
) -> Params:
    params, notes = found.choose(options.entry)
    how = {"prefix": options.prefix, "drop": options.drop}
    try:
        fitted = fit(params, expected, path, **how)
    except ZooError as error:
        # Newer versions of transformers rename tensors on loading: its own loader knows how.
        theta = converted(address, path)
        if theta is None:
            raise ConfigError(str(error)) from None
        fitted = fit(theta, expected, path)
    for note in (*notes, *fitted.notes):
        say(f"note: {note}", error=True)
    check_finite(path, fitted.params)
    return fitted.params


def check_same_words(paths: Sequence[str], abouts: Sequence[Mapping[str, Any]]) -> None:
    """Equal shapes may hide another activation: what both files say of it must agree."""
    first = described(abouts[0], "architecture")
    for path, about in zip(paths[1:], abouts[1:], strict=True):
        other = described(about, "architecture")
        if first is not None and other is not None and dict(first) != dict(other):
            differ = sorted(k for k in {*first, *other} if first.get(k) != other.get(k))
            raise ConfigError(
                f"{paths[0]} and {path} are of different architectures: {differ[0]} is "
                f"{first.get(differ[0])} in the one and {other.get(differ[0])} in the other"
            )
    configs = [_config(path) for path in paths]
    for path, config in zip(paths[1:], configs[1:], strict=True):
        differ = sorted(k for k in {*configs[0], *config} if configs[0].get(k) != config.get(k))
        if configs[0] and config and differ:
            say(
                f"note: config.json of {paths[0]} and {path} differ in {', '.join(differ[:5])}; "
                f"networks are built as the first says",
                error=True,
            )


def _config(path: str) -> dict[str, Any]:
    """A snapshot's configuration, without what changes from save to save."""
    file = Path(path) / "config.json"
    try:
        content = json.loads(file.read_text()) if file.is_file() else {}
    except ValueError:
        return {}
    changing = ("_name_or_path", "transformers_version", "torch_dtype", "dtype")
    return {k: v for k, v in content.items() if k not in changing and not k.startswith("_diff")}


def check_finite(path: str, theta: Params) -> None:
    """Raise `ConfigError` for NaN or infinity, naming the tensor."""
    for name, tensor in theta.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ConfigError(
                f"{path}: {name} holds NaN or infinity; a diverged checkpoint cannot be used"
            )


__all__ = [
    "Loaded",
    "add_arguments",
    "add_reading_arguments",
    "check_finite",
    "check_same_words",
    "described",
    "load",
    "structure",
]
