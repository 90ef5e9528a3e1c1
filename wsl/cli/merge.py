"""``wsl merge A B ... -o OUT``: align all to A, merge, repair batch-norm statistics, score.

The file carries its provenance and says what it is, not whose: member, epoch and accuracy of A are
A's. Without ``--method`` two checkpoints are averaged on the line between them, more than two
uniformly.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from wsl import matching, merging
from wsl.cli import checkpoints
from wsl.cli.choices import (
    add_matcher_arguments,
    chosen_many,
    chosen_matcher,
    described,
    with_inputs,
)
from wsl.cli.connect import resetter
from wsl.cli.evaluation import add_evaluation_arguments, scorer
from wsl.cli.mergeable import check_mergeable
from wsl.cli.outputs import beside, check_output, write_result
from wsl.cli.results import result, write_json
from wsl.cli.targets import ConfigError, choose
from wsl.cli.terminal import numbers, say
from wsl.matching import ManyMatcher, Matcher
from wsl.params import Params

HALF = 0.5
_MUCH = 0.05
"""Accuracy below the worse parent from which the last line says that merging has lost it."""


def run(arguments: Sequence[str]) -> None:
    """Write OUT and OUT.result.json."""
    options = _parser().parse_args(arguments)
    _check(options)
    matcher, method = chosen_many(options) or chosen_matcher(options), _method(options)
    out = check_output(options.output, folder=True)
    loaded = checkpoints.load(options)
    check_mergeable(loaded)
    evaluate = scorer(options, loaded)
    repair = resetter(options, loaded) if options.reset_batch_norm or options.inputs_data else None
    if not options.no_match:
        matcher = with_inputs(matcher, options, loaded)
    merged = _merged(options, _masked(loaded), method, matcher=matcher)
    # The ends of the line are the checkpoints themselves.
    merged = merging.renewed(merged, loaded.members) if 0 < options.weight < 1 else merged
    merged = repair(merged) if repair else merged
    head = _head(options, loaded)
    scores = {} if evaluate is None else _scores(loaded, merged, evaluate)
    about = {**loaded.shared_metadata(), "wsl_merge": json.dumps(head)}
    write_result(out, merged, about, like=options.a, address=loaded.address)
    write_json(beside(out, "result"), {**head, **_told(scores)})
    _say(str(out), scores)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="wsl merge", description="Align checkpoints to the first and merge them."
    )
    checkpoints.add_arguments(parser, many=True)
    add_matcher_arguments(parser)
    add_evaluation_arguments(parser)
    parser.add_argument(
        "-o", "--output", required=True, help="merged checkpoint, .safetensors, or a folder"
    )
    parser.add_argument(
        "-t", "--weight", type=float, default=HALF, help="weight of B in [0, 1], of two checkpoints"
    )
    parser.add_argument(
        "--method",
        metavar="TEXT",
        help=f"how to merge: {', '.join(merging.METHODS)}, with arguments as in "
        "'average: {weights: [1, 2]}', or {_target_: package.Class}, or a file .yaml",
    )
    parser.add_argument(
        "--match-all",
        metavar="TEXT",
        help=f"align all to each other and not each to the first: {', '.join(matching.MANY)}, with "
        "arguments as for --matcher",
    )
    parser.add_argument(
        "--no-match", action="store_true", help="average as they are, without alignment"
    )
    parser.add_argument(
        "--reset-batch-norm",
        action="store_true",
        help="recompute batch-norm statistics on training data",
    )
    return parser


def _check(options: argparse.Namespace) -> None:
    if not 0 <= options.weight <= 1:
        raise ConfigError(f"--weight must lie in [0, 1], got {options.weight}")
    if options.weight != HALF and (options.method is not None or options.more):
        raise ConfigError("--weight is of the plain average of two; give weights to the --method")
    if options.matcher is not None and options.no_match:
        raise ConfigError("--matcher says how to align, and --no-match not to; leave out one")
    if options.match_all is not None and options.no_match:
        raise ConfigError("--match-all says how to align, and --no-match not to; leave out one")
    if options.match_all is not None and options.matcher is not None:
        raise ConfigError("--match-all and --matcher both say how to align; leave out one")


def _method(options: argparse.Namespace) -> merging.MergeMethod | None:
    if options.method is None:
        return None
    return choose(options.method, merging.METHODS, what="method", trusted=options.trust_config)


def _head(options: argparse.Namespace, loaded: checkpoints.Loaded) -> dict[str, Any]:
    names = ("weight", "no_match", "reset_batch_norm", "seed")
    kept = {name: getattr(options, name) for name in names}
    kept |= {**described(options, "matcher"), **described(options, "method")}
    kept |= described(options, "match_all")
    inputs = {chr(ord("a") + i): path for i, path in enumerate(loaded.paths)}
    return result("merge", kept, inputs)


def _merged(
    options: argparse.Namespace,
    loaded: checkpoints.Loaded,
    method: merging.MergeMethod | None,
    *,
    matcher: Matcher | ManyMatcher,
) -> Params:
    """Two without a method lie on a line, whose ends are exact; everything else is a method's."""
    spec = None if options.no_match else loaded.spec
    if method is None and len(loaded.members) == 2:
        members = loaded.members
        b = loaded.b if spec is None else merging.align(spec, members, matcher=matcher)[1]
        return merging.lerp(loaded.a, b, options.weight)
    how = {} if spec is None else {"spec": spec, "matcher": matcher}
    return merging.merge(loaded.members, method or merging.Average(), **how).params


def _masked(loaded: checkpoints.Loaded) -> checkpoints.Loaded:
    """The checkpoints with their masks of pruning applied."""
    return dataclasses.replace(loaded, members=tuple(map(merging.masked, loaded.members)))


def _scores(
    loaded: checkpoints.Loaded, merged: Params, evaluate: Callable[[Params], Mapping[str, float]]
) -> dict[str, dict[str, float]]:
    """Of the merged network, of every parent, and of their plain average without alignment."""
    told = {"merged": dict(evaluate(merged))}
    for i, member in enumerate(loaded.members):
        told[chr(ord("a") + i)] = dict(evaluate(member))
    told["naive"] = dict(evaluate(merging.average(loaded.members)))
    return told


def _told(scores: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    """Scores as the result file holds them: those of the merged network first, flat."""
    if not scores:
        return {}
    parents = {
        f"{name}_{who}": value
        for who, told in scores.items()
        if who != "merged"
        for name, value in told.items()
        if name == "accuracy"
    }
    return {**scores["merged"], **parents, "scores": scores, "lost": _lost(scores)}


def _lost(scores: Mapping[str, Mapping[str, float]]) -> bool:
    """Whether the merged network is clearly worse than the worst of its parents."""
    parents = [told for who, told in scores.items() if who not in ("merged", "naive")]
    if not all("accuracy" in told for told in scores.values()):
        return False
    return scores["merged"]["accuracy"] < min(told["accuracy"] for told in parents) - _MUCH


def _say(out: str, scores: Mapping[str, Mapping[str, float]]) -> None:
    if not scores:
        say(f"{out}: written; the files name no task, so nothing was scored")
        return
    merged = scores["merged"]
    parents = [(who, told) for who, told in scores.items() if who not in ("merged", "naive")]
    if "accuracy" in merged:
        shown = ", ".join(f"{who.upper()} {told['accuracy']:.4f}" for who, told in parents)
        naive = scores["naive"]["accuracy"]
        say(f"{out}: test accuracy {merged['accuracy']:.4f} ({shown}), not aligned {naive:.4f}")
    else:
        for who, told in scores.items():
            say(f"{out}: {who:<8} {numbers(told)}")
    if _lost(scores):
        say(f"{out}: the merged network is much worse than its parents; merging has lost it")
