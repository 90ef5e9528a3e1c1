"""``wsl spec MODEL``: the symmetry of a network's weights, found or read from a file, and proved.

It is compared with a checkpoint on request, and written as text, JSON or Git Re-Basin's dictionary.
"""

from __future__ import annotations

import argparse
import contextlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import torch
from torch import Tensor, nn

from wsl.cli.addresses import Addressed
from wsl.cli.networks import (
    CODE_FAILS,
    Inputs,
    add_network_arguments,
    addressed,
    align,
    discover,
    inputs_for,
    read_spec,
)
from wsl.cli.outputs import check_document
from wsl.cli.parsers import verb_parser
from wsl.cli.results import write_text
from wsl.cli.targets import ConfigError
from wsl.cli.terminal import answer, say
from wsl.symmetry import PermutationSpec, verify
from wsl.zoo import open_checkpoint, with_prefix

_DTYPES = {name: getattr(torch, name) for name in ("float32", "float64", "bfloat16", "float16")}
_PROOFS = {
    "training": "also in training mode: outputs, and the statistics that are updated",
    "gradients": "also that gradients move as the weights do",
    "controls": "also that no occurrence of a group could have stayed where it was",
    "unions": "also that no group falls into parts which move on their own",
}


def run(arguments: Sequence[str]) -> None:
    """Print the specification and what it amounts to.

    Files are written only if everything that was asked for holds.
    """
    options = _parser().parse_args(arguments)
    _refuse_one_file_twice([options.output, options.json, options.axes_to_perm])
    if options.json:
        check_document(Path(options.json))
    proves = options.verify or options.spec or any(getattr(options, name) for name in _PROOFS)
    network = _build(options)
    model = network.model
    own = next((t.dtype for t in model.parameters() if t.is_floating_point()), torch.float32)
    inputs = inputs_for(options, network, own)
    spec = (
        _given(options.spec, model)
        if options.spec
        else discover(model, inputs, units=options.units)
    )
    _print(spec, pinned=options.pinned)
    if proves:
        _prove(spec, model, inputs, options=options)
    if options.checkpoint:
        _compare(spec, options)
    _write(spec, options)


def _refuse_one_file_twice(paths: Sequence[str | None]) -> None:
    outputs = [path for path in paths if path]
    if len(set(outputs)) < len(outputs):
        raise ConfigError(
            f"{outputs[-1]} would be written twice; give -o, --json and --axes-to-perm files of "
            "their own"
        )


def _parser() -> argparse.ArgumentParser:
    parser = verb_parser("spec", "Print the permutation symmetry of a network's weights.")
    parser.add_argument(
        "model",
        help="module:callable that returns the network, for example torchvision.models:resnet18, "
        "an address such as timm:resnet18, or a folder with a config.json",
    )
    add_network_arguments(parser)
    parser.add_argument(
        "--dtype", choices=_DTYPES, help="type of weights and inputs; default: the network's own"
    )
    parser.add_argument(
        "--meta", action="store_true", help="build the network without memory for its weights"
    )
    _add_proofs(parser)
    _add_outputs(parser)
    return parser


def _add_proofs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--spec",
        metavar="FILE",
        help="prove this specification, text or JSON, instead of discovering one",
    )
    parser.add_argument(
        "--verify",
        action="store_true",
        help="check in float64 that its elements leave the function as it is",
    )
    for name, what in _PROOFS.items():
        parser.add_argument(f"--{name}", action="store_true", help=f"{what} (implies --verify)")
    parser.add_argument(
        "--pinned",
        action="store_true",
        help="say why other axes cannot move; with --verify, try whether it is so",
    )
    parser.add_argument(
        "--units",
        action="store_true",
        help="also find scales, signs, phases and linear maps of the units",
    )


def _add_outputs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--checkpoint",
        metavar="FILE",
        help="compare names and shapes of a checkpoint with the specification",
    )
    parser.add_argument(
        "--entry", metavar="NAME", help="the set of weights of the checkpoint that is compared"
    )
    parser.add_argument(
        "--prefix",
        default="",
        help="removed from all names of the checkpoint, or added where none has it",
    )
    parser.add_argument("-o", "--output", metavar="FILE", help="write the specification's text")
    parser.add_argument(
        "--json",
        metavar="FILE",
        help="write the specification as JSON, with the reasons of fixed axes",
    )
    parser.add_argument(
        "--axes-to-perm", metavar="FILE", help="write Git Re-Basin's dictionary as JSON"
    )


def _build(options: argparse.Namespace) -> Addressed:
    with torch.device("meta") if options.meta else contextlib.nullcontext():
        network = addressed(options.model, options.kwargs)
    model = network.model
    real = [
        name for name, t in model.state_dict().items() if isinstance(t, Tensor) and not t.is_meta
    ]
    if options.meta and real:
        raise ConfigError(
            f"--meta: {options.model} puts {real[0]} on a real device; leave --meta out"
        )
    return network._replace(model=model.to(_DTYPES[options.dtype]) if options.dtype else model)


def _given(path: str, model: nn.Module) -> PermutationSpec:
    spec = read_spec(path)
    try:
        spec.validate({name: t for name, t in model.state_dict().items() if isinstance(t, Tensor)})
    except ValueError as error:
        raise ConfigError(f"{path} does not fit the network: {error}") from None
    return spec


def _print(spec: PermutationSpec, *, pinned: bool) -> None:
    members = (
        f", {spec.copies} permutations with every member of a family"
        if spec.copies > len(spec.groups)
        else ""
    )
    say(str(spec))
    say(
        f"\n{len(spec.groups)} group{'s' * (len(spec.groups) != 1)}{members}, log10 of the "
        f"group's order {spec.log10_order:.1f}"
    )
    say(f"{spec.movable:.1%} of the weights lie on movable axes")
    answer(
        {
            "specification": str(spec),
            "groups": dict(spec.groups),
            "log10_order": spec.log10_order,
            "movable": spec.movable,
            "pinned": dict(spec.pinned),
        }
    )
    if pinned:
        say("\n".join(f"{axis}: {reason}" for axis, reason in spec.pinned.items()))


def _prove(
    spec: PermutationSpec, model: nn.Module, inputs: Inputs, *, options: argparse.Namespace
) -> None:
    more = {name: getattr(options, name) for name in _PROOFS}
    args, kwargs = inputs
    try:
        proof = verify(
            spec,
            model,
            *args,
            kwargs=kwargs,
            pinned=options.pinned,
            materialize=options.meta,
            **more,
        )
    except CODE_FAILS as error:
        raise ConfigError(f"{options.model} cannot be verified: {error}") from None
    say(str(proof))
    answer({"verified": proof.ok, "error": proof.whole, "tolerance": proof.tolerance})
    if not proof.ok:
        _refuse(options)


def _refuse(options: argparse.Namespace) -> NoReturn:
    where = options.spec or f"the specification of {options.model}"
    raise ConfigError(
        f"{where} does not preserve the function"
        + ("" if options.spec else "; please report this network")
    )


def _compare(spec: PermutationSpec, options: argparse.Namespace) -> None:
    path = options.checkpoint
    params, notes = open_checkpoint(path).choose(options.entry)
    for note in notes:
        say(f"note: {note}", error=True)
    theta = align(path, with_prefix(params, options.prefix, path), spec)
    report = spec.compare(theta)
    for what, names in (("missing in", report.missing), ("unknown in", report.unknown)):
        for name in names:
            say(f"{what} {path}: {name}")
    try:
        spec.validate(theta)
    except ValueError as error:
        raise ConfigError(f"{path} does not fit the specification: {error}") from None
    say(f"{path}: all {len(theta)} tensors fit")


def _write(spec: PermutationSpec, options: argparse.Namespace) -> None:
    """Every text is made before the first file is written."""
    texts = [
        (options.output, f"{spec}\n"),
        (options.json, f"{spec.to_json()}\n"),
        (options.axes_to_perm, json.dumps(spec.to_axes_to_perm(), indent=1) + "\n"),
    ]
    for path, text in texts:
        if path:
            write_text(Path(path), text)
            say(f"wrote {path}")
