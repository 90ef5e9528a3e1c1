"""The verb: flags, the screen, and the file of results."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from wsl.cli import checkpoints
from wsl.cli.check import words
from wsl.cli.check.expect import barriers, expected, needs
from wsl.cli.check.gather import GatheredFiles, gather
from wsl.cli.check.pairs import Findings, find
from wsl.cli.check.told import told
from wsl.cli.choices import add_matcher_arguments, described
from wsl.cli.evaluation import add_evaluation_arguments
from wsl.cli.outputs import check_document
from wsl.cli.parsers import verb_parser
from wsl.cli.results import result, write_json
from wsl.cli.targets import ConfigError
from wsl.cli.terminal import answer, numbers, say, wanted
from wsl.diagnostics import OriginEvidence

Scores = dict[str, dict[str, float]]


def run(arguments: Sequence[str]) -> None:
    """Print the screen, and write everything as JSON where that was asked for."""
    options = _parser().parse_args(arguments)
    if options.json:
        check_document(Path(options.json))
    if options.no_match and options.background:
        raise ConfigError("--background is looked at after alignment; leave out --no-match")
    gathered = gather(options)
    found = find(options, gathered)
    scored = options.evaluate or options.data
    scores = expected(options, gathered, found) if scored else {}
    for line in _screen(gathered, found, scores):
        say(line)
    if options.json or wanted():
        document = _document(options, gathered, found, scores=scores)
        answer(document)
        if options.json:
            write_json(Path(options.json), document)


def _parser() -> argparse.ArgumentParser:
    parser = verb_parser(
        "check", "Same architecture? A common origin? Aligned or not, and what merging needs."
    )
    checkpoints.add_arguments(parser, many=True)
    add_matcher_arguments(parser)
    add_evaluation_arguments(parser)
    parser.add_argument("--no-match", action="store_true", help="do not look at aligned weights")
    parser.add_argument(
        "--background",
        action="append",
        default=[],
        metavar="FILE",
        help="a network known to be unrelated to the first, or a zoo of them; once for each file",
    )
    parser.add_argument("--json", metavar="FILE", help="write every number as JSON")
    return parser


def _document(
    options: argparse.Namespace, gathered: GatheredFiles, found: Findings, *, scores: Scores
) -> dict[str, Any]:
    head = _head(options, gathered.paths)
    expects = {"expected": scores, "barriers": barriers(scores)} if scores else {}
    lacking = {"needs": list(needs(gathered, found))}
    return {**head, **told(gathered, found), **lacking, **expects}


def _head(options: argparse.Namespace, paths: Sequence[str]) -> dict[str, Any]:
    config = {"seed": options.seed, "no_match": options.no_match, **described(options, "matcher")}
    files = [*paths, *options.background]
    return result("check", config, {str(i): path for i, path in enumerate(files)})


def _screen(gathered: GatheredFiles, found: Findings, scores: Scores) -> Iterator[str]:
    names = _names(gathered.paths)
    for letter, path in zip(names, gathered.paths, strict=True):
        yield f"{letter}  {path}"
    yield ""
    yield from _pairs(found, names)
    yield from _together(found, names)
    if gathered.loaded is not None:
        yield from words.standing(gathered.loaded.spec)
    yield from _headed("merging needs", list(needs(gathered, found)))
    yield from _expects(scores)
    yield words.LIMITS


def _pairs(found: Findings, names: Sequence[str]) -> Iterator[str]:
    """All of a single pair; of more than two files a line for each pair that fits one network."""
    for (i, j), each in found.pairs.items():
        if len(names) > 2:
            yield f"{f'{names[i]}, {names[j]}':<13} {words.in_short(each)}"
        elif isinstance(each, OriginEvidence):
            yield from words.difference(each.tensors)
            yield f"origin        {words.verdict(each)}"
            if each.origin.groups or each.origin.left_out:
                yield f"              {words.groups(each)}"
            yield from words.alignment(each)
        else:
            yield from words.difference(each)
            yield f"origin        {words.untested(each)}"
    yield ""


def _together(found: Findings, names: Sequence[str]) -> Iterator[str]:
    """Families and recipes of more than two files."""
    if len(names) < 3:
        return
    several = [family for family in found.families if len(family.members) > 1]
    yield from _headed("families", [words.descended(each, names) for each in several])
    called = [each for each in found.recipes if each.recipe.called]
    yield from _headed("merges", [words.mixed(each, names) for each in called])


def _expects(scores: Scores) -> Iterator[str]:
    above = barriers(scores) if scores else {}
    lines = [
        f"{name}: {numbers(each)}" + (f", barrier {above[name]:.4f}" if name in above else "")
        for name, each in scores.items()
    ]
    yield from _headed("expect", lines)


def _headed(head: str, lines: Sequence[str]) -> Iterator[str]:
    for i, line in enumerate(lines):
        yield f"{'' if i else head:<13} {line}"


def _names(paths: Sequence[str]) -> list[str]:
    """A, B, C and so on; numbers after Z."""
    return [chr(ord("A") + i) if i < 26 else f"#{i + 1}" for i in range(len(paths))]
