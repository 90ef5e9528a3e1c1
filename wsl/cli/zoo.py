"""``wsl zoo build|info|look|verify|export|import|convert``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from wsl.cli.config import compose, recipes
from wsl.cli.contents import describe, is_zoo
from wsl.cli.imports import report, tell, tell_epochs, tell_left_out
from wsl.cli.look import add_arguments, look
from wsl.cli.networks import add_network_arguments, addressed, discover, inputs_for, read_spec
from wsl.cli.outputs import check_writable
from wsl.cli.parsers import RECIPE_FLAGS, verb_parser
from wsl.cli.population import build
from wsl.cli.results import write_json
from wsl.cli.targets import ConfigError, choose
from wsl.cli.terminal import answer, say, shown
from wsl.symmetry import PermutationSpec
from wsl.zoo import (
    Checkpoints,
    CodedZoo,
    Expected,
    Imported,
    codecs,
    export,
    fit,
    import_architectures,
    import_checkpoints,
    open_checkpoint,
    save,
    save_coded,
    sources,
)
from wsl.zoo import open as open_zoo

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
KINDS = {
    "folder": sources.folder,
    "hub": sources.hub,
    "ray-tune": sources.ray_tune,
    "small-cnn-zoo": sources.small_cnn_zoo,
    "flat-hdf5": sources.flat_hdf5,
    "mixed": sources.mixed,
}
"""Names of the importers on the command line."""


def run(arguments: Sequence[str]) -> None:
    """Dispatch to the verb's second word."""
    options = _parser().parse_args(arguments)
    {
        "build": _build,
        "info": _info,
        "look": look,
        "verify": _verify,
        "export": _export,
        "import": _import,
        "convert": _convert,
    }[options.verb](options)


def _parser() -> argparse.ArgumentParser:
    parser = verb_parser("zoo", "Build, inspect, check and convert populations of checkpoints.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    text = f"train a population into one file; recipes: {', '.join(recipes('datasets'))}"
    flags = "; ".join(f"{flag}: {what}" for flag, (_, what) in RECIPE_FLAGS.items())
    _add_build(verbs.add_parser("build", help=text, description=text, epilog=flags))
    _add_files(
        verbs.add_parser(
            "info", help="describe zoo files of one kind, or what any checkpoint holds"
        )
    )
    text = "one page to look at a population in: maps, columns, distributions, health"
    page = verbs.add_parser("look", help=text, description=text)
    _add_files(page)
    add_arguments(page)
    verify = verbs.add_parser("verify", help="check every byte of zoo files")
    verify.add_argument("file", nargs="+")
    _add_export(verbs.add_parser("export", help="rows to safetensors and a table"))
    _add_convert(
        verbs.add_parser(
            "convert",
            help="rewrite: other type, archive, selection, several files into one, older versions",
        )
    )
    _add_import(verbs.add_parser("import", help="checkpoints from elsewhere to a zoo file"))
    return parser


def _add_build(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "overrides", nargs=argparse.REMAINDER, help="datasets=NAME output=FILE key=value ..."
    )


def _add_files(parser: argparse.ArgumentParser) -> None:
    """The zoo files to read, and which of their rows."""
    parser.add_argument("file", nargs="+")
    parser.add_argument(
        "--where",
        help="only rows that fulfil a condition, for example 'test_accuracy > 0.8 & epoch == 20'",
    )


def _add_export(parser: argparse.ArgumentParser) -> None:
    _add_files(parser)
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        help="folder for one safetensors file per row, and table.csv",
    )
    parser.add_argument("--rows", type=int, nargs="+", help="row numbers; default: all")


def _add_convert(parser: argparse.ArgumentParser) -> None:
    _add_files(parser)
    parser.add_argument("-o", "--output", required=True, help="zoo file to write")
    parser.add_argument(
        "--codec",
        metavar="TEXT",
        help=f"rows as differences from --base: {', '.join(codecs.CODECS)}, with arguments as in "
        "'compeft: {density: 0.05}'; read like any zoo",
    )
    parser.add_argument("--base", metavar="FILE", help="what all rows were fine-tuned from")
    parser.add_argument(
        "--archive", action="store_true", help="compress in blocks: smaller, slow at random"
    )
    parser.add_argument(
        "--dtype", choices=DTYPES, help="type of the weights in the file; default: as they are"
    )


def _add_import(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", help="folder or file")
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        help="zoo file to write; a folder (FOLDER/) gets one for each architecture",
    )
    parser.add_argument(
        "--architecture",
        metavar="NAME",
        help="the one to import, by name or number, where the source holds several",
    )
    parser.add_argument("--report", metavar="FILE", help="JSON that tells what became of each file")
    _add_source(parser)
    _add_weights(parser)
    parser.add_argument("--seed", type=int, default=0, help="of the split by members")


def _add_source(parser: argparse.ArgumentParser) -> None:
    """What is read from where, and of which network it is."""
    parser.add_argument(
        "--entry", metavar="NAME", help="the set of weights to read, where files hold several"
    )
    parser.add_argument(
        "--kind", choices=KINDS, help="what the source is; default: seen from its files"
    )
    parser.add_argument(
        "--pattern",
        help=r"for folders: regular expression such as 'run(?P<member>\d+)/ep(?P<epoch>\d+)'",
    )
    parser.add_argument("--spec", help="file with a specification, as text or JSON")
    parser.add_argument(
        "--model", help="module:callable that returns the network, to discover the specification"
    )
    add_network_arguments(parser)


def _add_weights(parser: argparse.ArgumentParser) -> None:
    """What is done to weights, and which are left out."""
    parser.add_argument(
        "--prefix", default="", help="removed from the names of tensors, for example module."
    )
    parser.add_argument("--cast", choices=DTYPES, help="cast floating tensors to this type first")
    parser.add_argument(
        "--dtype", choices=DTYPES, help="type of the weights in the file; default: float32"
    )
    parser.add_argument(
        "--skip",
        action="store_true",
        help="leave out what cannot be read or does not fit, and report it",
    )
    parser.add_argument(
        "--allow-nonfinite",
        action="store_true",
        help="keep checkpoints with NaN or infinite weights",
    )


def _build(options: argparse.Namespace) -> None:
    if set(options.overrides) & {"-h", "--help"}:
        _parser().parse_args(["build", "--help"])
    config = compose("zoo", options.overrides)
    zoo = build(config, config["output"])
    answer(_document(zoo))
    say(f"{shown(zoo.path)}: {len(zoo)} checkpoints of {_members(zoo)} members")


def _info(options: argparse.Namespace) -> None:
    if not is_zoo(options.file[0]):
        _describe(options.file)
        return
    zoo = _opened(options)
    answer(_document(zoo) | {"columns": _summary(zoo.table), "splits": _splits(zoo.table)})
    say(
        f"{shown(zoo.path)}\n{len(zoo)} checkpoints of {_members(zoo)} members, {_weights(zoo)} "
        "weights each"
    )
    say(f"\nspecification, log10 of the group's order {zoo.spec.log10_order:.1f}\n{zoo.spec}\n")
    _tell_columns(zoo.table)


def _tell_columns(table: np.ndarray) -> None:
    """A line for each column of numbers, and one for the splits."""
    say(f"{'column':<20} {'min':<10} {'median':<10} {'max':<10}")
    for name, numbers in _summary(table).items():
        say(f"{name:<20} " + " ".join(f"{number:<10.4g}" for number in numbers.values()))
    told = ", ".join(f"{name} {count}" for name, count in _splits(table).items())
    say(f"\nsplits: {told}")


def _describe(paths: Sequence[str]) -> None:
    """What files hold that are no zoos."""
    lines = {path: list(describe(path)) for path in paths}
    answer({"checkpoints": lines})
    for each in lines.values():
        for line in each:
            say(line)


def _document(zoo: Checkpoints) -> dict[str, Any]:
    """What a zoo holds, as a document."""
    about = {"file": shown(zoo.path), "checkpoints": len(zoo), "members": _members(zoo)}
    return about | {"weights": _weights(zoo), "specification": str(zoo.spec)}


def _summary(table: np.ndarray) -> dict[str, dict[str, float]]:
    """Smallest, middle and largest value of each column of numbers."""
    numeric = [n for n in table.dtype.names or () if np.issubdtype(table.dtype[n], np.number)]
    how = {"min": np.min, "median": np.median, "max": np.max}
    return {name: {key: float(f(table[name])) for key, f in how.items()} for name in numeric}


def _splits(table: np.ndarray) -> dict[str, int]:
    names, counts = np.unique(table["split"], return_counts=True)
    return {str(name): int(count) for name, count in zip(names, counts, strict=True)}


def _verify(options: argparse.Namespace) -> None:
    checked: dict[str, int] = {}
    answer({"verified": checked})
    for file in options.file:
        zoo = open_zoo(file)
        zoo.verify()
        checked[file] = len(zoo)
        say(f"{shown(zoo.path)}: {len(zoo)} checkpoints, every checksum holds")


def _export(options: argparse.Namespace) -> None:
    zoo = _opened(options)
    rows = range(len(zoo)) if options.rows is None else options.rows
    files = export(zoo, rows, options.output)
    answer({"files": [str(file) for file in files]})
    for file in files:
        say(str(file))


def _convert(options: argparse.Namespace) -> None:
    source = _opened(options)
    if options.codec or options.base:
        zoo = _coded(options, source)
    else:
        dtype = DTYPES.get(options.dtype)
        zoo = save(source, options.output, dtype=dtype, archive=options.archive)
    answer(_document(zoo))
    say(
        f"{shown(zoo.path)}: {len(zoo)} checkpoints of {_members(zoo)} members, "
        f"{zoo.path.stat().st_size} bytes"
    )


def _coded(options: argparse.Namespace, source: Checkpoints) -> CodedZoo:
    """The rows as codes against --base, and what that costs."""
    if not (options.codec and options.base) or options.archive or options.dtype:
        raise ConfigError(
            "--codec and --base go together, the codes being differences from the base; they have "
            "a type of their own, so leave out --archive and --dtype"
        )
    codec = choose(options.codec, codecs.CODECS, what="codec")
    params, notes = open_checkpoint(options.base).choose(None)
    fitted = fit(params, Expected.of(source.spec, None), options.base)
    for note in (*notes, *fitted.notes):
        say(f"note: {note}", error=True)
    zoo = save_coded(source, options.output, base=fitted.params, codec=codec)
    told = zoo.provenance["codec"]
    say(f"{told['bits_per_weight']:.4f} bits for a weight, relative error {told['error']:.4f}")
    return zoo


def _import(options: argparse.Namespace) -> None:
    for place in filter(None, (options.output, options.report)):
        check_writable(Path(place).absolute().parent)
    reader = KINDS[options.kind] if options.kind else sources.detect(options.source)
    kind = next(name for name, known in KINDS.items() if known is reader)
    results = _imported(options, reader(options.source, **_single_files(options, reader)), kind)
    files = sources.account(options.source, results)
    tell_left_out(results, files)
    _tell_imports(options, results, kind)
    answer(report(options.source, kind, results=results, files=files))
    if options.report:
        write_json(
            Path(options.report),
            report(options.source, kind, results=results, files=files),
        )


def _tell_imports(options: argparse.Namespace, results: Sequence[Imported], kind: str) -> None:
    """What each zoo holds, and where its specification is from."""
    for result in results:
        tell(result, several=len(results) > 1)
        if kind in ("folder", "mixed") and not options.pattern:
            tell_epochs(result)
        left_out = len(result.refused) + len(result.skipped)
        say(
            f"{shown(result.zoo.path)}: {len(result.zoo)} checkpoints of {_members(result.zoo)} "
            f"members from {options.source} ({kind}); {left_out} left out"
        )
    for origin in dict.fromkeys(result.specification for result in results):
        say(f"specification: {f'discovered from {options.model}' if options.model else origin}")


def _imported(
    options: argparse.Namespace, source: sources.Source, kind: str
) -> tuple[Imported, ...]:
    """What came of it: one zoo, or one for each architecture where the output is a folder."""
    how = _import_options(options, kind)
    if options.output.endswith("/") or Path(options.output).is_dir():
        return import_architectures(source, options.output, **how)
    return (import_checkpoints(source, options.output, **how),)


def _import_options(options: argparse.Namespace, kind: str) -> dict[str, Any]:
    """The flags as fields of `wsl.zoo.ImportOptions`."""
    model, spec = _structure(options)
    return {
        "spec": spec,
        "model": model,
        "prefix": options.prefix,
        "cast": DTYPES.get(options.cast),
        "dtype": DTYPES.get(options.dtype),
        "skip": options.skip,
        "only": options.architecture,
        "seed": options.seed,
        "allow_nonfinite": options.allow_nonfinite,
        "provenance": {
            "kind": kind,
            "source": Path(options.source).name,
            "model": options.model,
        },
    }


def _single_files(options: argparse.Namespace, reader: object) -> dict[str, str]:
    """The flags that say how single files are read, for the readers that know them."""
    given = {name: getattr(options, name) for name in ("pattern", "entry")}
    given = {name: value for name, value in given.items() if value}
    if given and reader not in (sources.folder, sources.mixed):
        raise ConfigError(f"--{next(iter(given))} is for folders of checkpoints; add --kind folder")
    return given


def _structure(
    options: argparse.Namespace,
) -> tuple[nn.Module | None, PermutationSpec | None]:
    """The network that was named, if one was, and the specification."""
    if options.spec and options.model:
        raise ConfigError("--spec and --model both give a specification; choose one")
    if options.spec or not options.model:
        return None, read_spec(options.spec) if options.spec else None
    network = addressed(options.model, options.kwargs)
    return network.model, discover(network.model, inputs_for(options, network))


def _opened(options: argparse.Namespace) -> Checkpoints:
    zoo = open_zoo(options.file)
    return zoo.where(options.where) if options.where else zoo


def _members(zoo: Checkpoints) -> int:
    return len(np.unique(zoo.table["member"]))


def _weights(zoo: Checkpoints) -> int:
    return sum(shape.numel() for shape in zoo.shapes.values())
