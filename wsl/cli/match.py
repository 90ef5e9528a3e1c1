"""``wsl match A B -o OUT``: permute the units of B so that it comes as close to A as it can.

    wsl match A B -o OUT                              found, applied, written with its evidence
    wsl match --apply OUT.permutation.json C -o OUT2  applied to another file of B's family
    wsl match --apply OUT.permutation.json OUT -o B2 --undo

A specification with rotary phases is matched by circuits unless ``--matcher`` says otherwise; its
element, OUT.element.safetensors, is applied like a permutation. Safetensors files of 4 GiB and more
together, or of any size with ``--stream``, are matched where they lie (`wsl.cli.streamed`).
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from wsl.cli import checkpoints
from wsl.cli.choices import add_matcher_arguments, chosen_matcher, described, suited, with_inputs
from wsl.cli.evaluation import add_evaluation_arguments, scorer
from wsl.cli.evidence import evidence, tell
from wsl.cli.outputs import beside, check_elsewhere, check_output, write_result
from wsl.cli.parsers import verb_parser
from wsl.cli.results import result, write_json, write_with
from wsl.cli.streamed import apply_element, is_large, match_large
from wsl.cli.terminal import answer, numbers, say
from wsl.cli.verified import check_function
from wsl.matching import Match, Matcher, aligned_tensors, match, squared_distance
from wsl.params import Params
from wsl.symmetry import Permutation, SymmetryElement


def run(arguments: Sequence[str]) -> None:
    """Match, write the aligned checkpoint, the permutation and the evidence."""
    if any(word.partition("=")[0] == "--apply" for word in arguments):
        return _apply(arguments)
    options = _parser().parse_args(arguments)
    matcher, out = chosen_matcher(options), check_output(options.output, folder=True)
    if is_large(options, matcher):
        check_elsewhere(out, options.a, options.b)
        return match_large(options, matcher, out)
    return _match(options, matcher, out)


def _match(options: argparse.Namespace, matcher: Matcher, out: Path) -> None:
    loaded = checkpoints.load(options)
    evaluate = scorer(options, loaded) if options.evaluate or options.data else None
    matcher = with_inputs(suited(matcher, options, loaded.spec), options, loaded)
    found = match(loaded.spec, loaded.a, loaded.b, matcher)
    aligned = found(loaded.b)
    head = _evidence(options, loaded, found)
    told = {**head, **_checked(options, loaded, aligned, found=found)}
    members = {"a": loaded.a, "b": loaded.b, "aligned": aligned}
    scores = {name: dict(evaluate(theta)) for name, theta in members.items()} if evaluate else {}
    write_result(out, aligned, loaded.abouts[1], like=options.b, address=loaded.address)
    _write_elements(out, found)
    document = {**told, **({"scores": scores} if scores else {})}
    write_json(beside(out, "result"), document)
    answer(document)
    _tell(out, told, scores)


def _checked(
    options: argparse.Namespace, loaded: checkpoints.Loaded, aligned: Params, *, found: Match
) -> Mapping[str, float]:
    """That the aligned checkpoint computes what B did, unless nobody wants to know."""
    if not options.verify:
        return {}
    pair = (loaded.b, aligned)
    error = check_function(loaded.model, loaded.inputs, pair, found=found)
    return {} if error is None else {"function_error": error}


def _tell(out: Path, told: Mapping[str, Any], scores: Mapping[str, Mapping[str, float]]) -> None:
    for name, numbers_of in scores.items():
        say(f"{out}: {name:<8} {numbers(numbers_of)}")
    tell(out, told)


def _write_elements(out: Path, found: Match) -> None:
    write_with(beside(out, "permutation"), cast("Permutation", found.permutation).save)
    if isinstance(found.element, SymmetryElement):
        write_with(beside(out, "element"), found.element.save)


def _apply(arguments: Sequence[str]) -> None:
    options = _apply_parser().parse_args(arguments)
    out = check_output(options.output, folder=True)
    check_elsewhere(out, options.b)
    apply_element(options, out)


def _evidence(
    options: argparse.Namespace, loaded: checkpoints.Loaded, found: Match
) -> dict[str, Any]:
    config = {"seed": options.seed, **described(options, "matcher")}
    before, after = (distance(loaded.a, b) for b in (loaded.b, found(loaded.b)))
    head = result("match", config, {"a": options.a, "b": options.b})
    return {**head, **evidence(found, before, after)}


def _parser() -> argparse.ArgumentParser:
    parser = verb_parser("match", "Bring checkpoint B to checkpoint A by permuting its units.")
    checkpoints.add_arguments(parser)
    add_matcher_arguments(parser)
    add_evaluation_arguments(parser)
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        help="aligned B as .safetensors, or a folder; the permutation and result.json beside it",
    )
    parser.add_argument(
        "--stream",
        action=argparse.BooleanOptionalAction,
        help="match safetensors where they lie, in the memory of a few of the largest tensors; by "
        "default from 4 GiB of both on. A run that was killed goes on where it was",
    )
    parser.add_argument(
        "--verify",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="run B before and after on random inputs, where the network can be built; on by "
        "default, not with --stream",
    )
    parser.add_argument(
        "--apply",
        metavar="ELEMENT",
        help="match nothing: move one checkpoint by an element that was found before (wsl match "
        "--apply --help)",
    )
    return parser


def _apply_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="wsl match --apply",
        description="Move a checkpoint of B's family by an element that was found before: weights, "
        "moving averages, moments of an optimiser, low-rank adapters.",
    )
    parser.add_argument(
        "--apply",
        required=True,
        metavar="ELEMENT",
        help="the file of a permutation, or of an element with rotary phases",
    )
    parser.add_argument("b", help="a safetensors file, or a folder with shards")
    parser.add_argument("-o", "--output", required=True, help="as .safetensors, or a folder")
    parser.add_argument("--undo", action="store_true", help="move by the inverse")
    parser.add_argument(
        "--drop", action="append", default=[], metavar="NAME", help="leave out a tensor, or more"
    )
    return parser


def distance(a: Params, b: Params) -> float:
    """L2 distance over the floating-point tensors; statistics of batch norm are not counted."""
    return squared_distance(a, b, aligned_tensors(a)) ** 0.5
