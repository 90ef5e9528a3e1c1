"""``wsl zoo build|info|verify|export``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np

from wsl.cli.config import compose, recipes
from wsl.cli.population import build
from wsl.cli.terminal import say
from wsl.zoo import Zoo, export


def run(arguments: Sequence[str]) -> None:
    """Dispatch to the verb's second word."""
    parser = argparse.ArgumentParser(prog="wsl zoo", description="Build, inspect, check and export populations of checkpoints.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    text = f"train a population into one file; recipes: {', '.join(recipes('datasets'))}"
    making = verbs.add_parser("build", help=text, description=text)
    making.add_argument("overrides", nargs=argparse.REMAINDER, help="datasets=NAME output=FILE key=value ...")
    for verb, what in {
        "info": "describe a zoo file",
        "verify": "check every byte of a zoo file",
        "export": "rows to safetensors",
    }.items():
        sub = verbs.add_parser(verb, help=what, description=what)
        sub.add_argument("file")
        if verb == "export":
            sub.add_argument("-o", "--output", required=True, help="folder for one safetensors file per row, and table.csv")
            sub.add_argument("--rows", type=int, nargs="+", help="row numbers; default: all")
    options = parser.parse_args(arguments)
    {"build": _build, "info": _info, "verify": _verify, "export": _export}[options.verb](options)


def _build(options: argparse.Namespace) -> None:
    config = compose("zoo", options.overrides)
    zoo = build(config, config["output"])
    say(f"{zoo.path}: {len(zoo)} checkpoints of {len(np.unique(zoo.table['member']))} members")


def _info(options: argparse.Namespace) -> None:
    zoo = Zoo(options.file)
    table = zoo.table
    say(f"{zoo.path}\n{len(zoo)} checkpoints of {len(np.unique(table['member']))} members, {_weights(zoo)} weights each")
    say(f"\nspecification, log10 of the group's order {zoo.spec.log10_order:.1f}\n{zoo.spec}\n")
    say(f"{'column':<20} {'min':<10} {'median':<10} {'max':<10}")
    for name in table.dtype.names or ():
        if np.issubdtype(table.dtype[name], np.number):
            low, middle, high = np.min(table[name]), np.median(table[name]), np.max(table[name])
            say(f"{name:<20} {low:<10.4g} {middle:<10.4g} {high:<10.4g}")
    counts = {str(split): int(np.sum(table["split"] == split)) for split in np.unique(table["split"])}
    say(f"\nsplits: {', '.join(f'{name} {count}' for name, count in counts.items())}")


def _weights(zoo: Zoo) -> int:
    return sum(shape.numel() for shape in zoo.shapes.values())


def _verify(options: argparse.Namespace) -> None:
    zoo = Zoo(options.file)
    zoo.verify()
    say(f"{zoo.path}: {len(zoo)} checkpoints, every checksum holds")


def _export(options: argparse.Namespace) -> None:
    zoo = Zoo(options.file)
    rows = range(len(zoo)) if options.rows is None else options.rows
    files = export(zoo, rows, options.output)
    for file in files:
        say(str(file))
