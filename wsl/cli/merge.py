"""``wsl merge A B ... -o OUT``: align all to A, merge, repair batch-norm statistics, score.

    wsl merge A B ... -o OUT             in memory
    wsl merge A B ... -o OUT --no-match  tensor by tensor from 4 GiB on (`wsl.cli.merge_streamed`)
    wsl merge CONFIG.yaml -o OUT         as mergekit's YAML says (`wsl.cli.merge_yaml`)
    wsl merge ADAPTER ... -o OUT         low-rank adapters, exactly (`wsl.cli.merge_adapters`)

The file carries its provenance and says what it is, not whose: member, epoch and accuracy of A are
A's. Without ``--method`` two checkpoints are averaged on the line between them, more than two
uniformly.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
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
from wsl.cli.evaluation import add_evaluation_arguments, data_files, scorer, unlabelled
from wsl.cli.merge_adapters import names_adapters, run_adapters
from wsl.cli.merge_gauge import (
    add_gauge_arguments,
    averaged,
    check_gauge_arguments,
    example_of,
    gauged,
)
from wsl.cli.merge_report import Made, check_report, write_report
from wsl.cli.merge_streamed import (
    add_streaming_arguments,
    merge_large,
    say_in_memory,
    streamed_method,
)
from wsl.cli.merge_yaml import is_yaml, run_yaml
from wsl.cli.mergeable import check_mergeable
from wsl.cli.methods import (
    add_method_arguments,
    check_method_arguments,
    chosen_method,
    tuned,
    tuned_field,
    without_base,
)
from wsl.cli.outputs import beside, check_output, write_result
from wsl.cli.parsers import grouped, verb_parser
from wsl.cli.results import result, write_json
from wsl.cli.targets import ConfigError
from wsl.cli.terminal import answer, numbers, say
from wsl.params import Params, is_running_statistic

HALF = 0.5
_BATCH = 256
_FREE = {"noise": "repair_on_noise", "closed-form": "repair_closed_form"}
_MUCH = 0.05
"""Accuracy below the worse parent from which the last line says that merging has lost it."""
_OTHERS = ("merged", "naive", "naive_repaired")
"""Scores of what is no parent."""


GROUPS: Mapping[str, Sequence[str]] = {
    "members and output": ["a", "b", "more", "output", "entry", "prefix", "drop"],
    "network": ["model", "kwargs", "input_shape", "inputs", "spec"],
    "alignment": [
        "matcher",
        "match_all",
        "no_match",
        "scales",
        "products",
        "match_data",
        "trust_config",
        "seed",
    ],
    "method": ["method", "base", "weight", "tune", "validation", "statistics"],
    "data and scores": ["data", "loss", "evaluate", "normalize", "inputs_data", "data_root"],
    "mending": [
        "reset_batch_norm",
        "repair",
        "least_squares",
        "repair_without_data",
        "samples",
    ],
    "streaming": ["stream", "threads", "dry_run"],
    "adapters": "PEFT folders in the place of checkpoints are summed exactly, with flags of their\n"
    "own (--weights, --rank, --space, --apply-to): wsl merge ADAPTER --help",
    "reports": ["report"],
}
"""How the help is cut; a flag that is in no group would stand above all of them."""


def run(arguments: Sequence[str]) -> None:
    """Write OUT and OUT.result.json."""
    if is_yaml(arguments):
        return run_yaml(arguments)
    if names_adapters(arguments):
        return run_adapters(arguments)
    options = _parser().parse_args(arguments)
    _check(options)
    out = check_output(options.output, folder=True)
    method = streamed_method(options)
    if method is not None:
        return merge_large(options, method, out, config=_config(options))
    if options.dry_run:
        return say_in_memory(options)
    return _run(options, out)


def _run(options: argparse.Namespace, out: Path) -> None:
    loaded, base = _loaded(options)
    evaluate = scorer(options, loaded)
    made, told = _merged(options, loaded, base)
    merged, head = made.merged, _head(options, loaded) | told
    scores = {} if evaluate is None else _scores(options, loaded, merged, evaluate=evaluate)
    about = {**loaded.shared_metadata(), "wsl_merge": json.dumps(head)}
    write_result(out, merged, about, like=options.a, address=loaded.address)
    document = {**head, **_told(scores)}
    write_json(beside(out, "result"), document)
    answer(document)
    _say(str(out), scores, _advice(options, merged))
    if options.report:
        write_report(options, loaded, made, head=head, scores=scores, evaluate=evaluate)


def _parser() -> argparse.ArgumentParser:
    parser = verb_parser("merge", "Align checkpoints to the first and merge them.")
    checkpoints.add_arguments(parser, many=True)
    add_matcher_arguments(parser)
    add_evaluation_arguments(parser)
    parser.add_argument(
        "-o", "--output", required=True, help="merged checkpoint, .safetensors, or a folder"
    )
    parser.add_argument(
        "-t", "--weight", type=float, default=HALF, help="weight of B in [0, 1], of two checkpoints"
    )
    add_method_arguments(parser)
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
        "--align", dest="no_match", action="store_false", help="align before, as without a flag"
    )
    parser.add_argument(
        "--reset-batch-norm",
        action="store_true",
        help="recompute batch-norm statistics on --inputs-data, which alone does so too, or on the "
        "training data of the task that the files name",
    )
    parser.add_argument(
        "--repair",
        action="store_true",
        help="REPAIR the merged network: the statistics of its units as in its parents, batch norm "
        "included",
    )
    parser.add_argument(
        "--least-squares",
        action="store_true",
        help="fit each layer of the merged network to what its parents compute; the strongest",
    )
    parser.add_argument(
        "--repair-without-data",
        choices=_FREE,
        help="the same from weights alone: on noise like images, or in closed form",
    )
    add_gauge_arguments(parser)
    parser.add_argument(
        "--samples",
        type=int,
        default=1000,
        help="inputs, without labels, that both work on (1000)",
    )
    parser.add_argument(
        "--report",
        metavar="FILE.html",
        help="one page: scores, paths to the parents, interference, and how it was made",
    )
    add_streaming_arguments(parser)
    grouped(parser, GROUPS)
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
    if options.repair_without_data and (options.repair or options.least_squares):
        raise ConfigError(
            "--repair-without-data is for where there are no inputs, on which --repair and "
            "--least-squares work; leave out one"
        )
    check_method_arguments(options)
    check_gauge_arguments(options)
    check_report(options)


def _loaded(options: argparse.Namespace) -> tuple[checkpoints.Loaded, Params | None]:
    """The members, and the base if there is one, under the same names."""
    if options.base is None:
        loaded, base = checkpoints.load(options), None
    else:
        options.more = [*options.more, options.base]
        loaded, base = without_base(checkpoints.load(options))
    check_mergeable(loaded)
    return dataclasses.replace(loaded, members=tuple(map(merging.masked, loaded.members))), base


def _config(options: argparse.Namespace) -> dict[str, Any]:
    names = ("weight", "no_match", "reset_batch_norm", "seed")
    kept = {name: getattr(options, name) for name in names}
    more = ("base", "validation", "tune", "statistics", "repair", "least_squares")
    more += ("repair_without_data", "scales", "products")
    kept |= {name: getattr(options, name) for name in more if getattr(options, name)}
    kept |= {**described(options, "matcher"), **described(options, "method")}
    return kept | described(options, "match_all")


def _head(options: argparse.Namespace, loaded: checkpoints.Loaded) -> dict[str, Any]:
    inputs = {chr(ord("a") + i): path for i, path in enumerate(loaded.paths)}
    inputs |= data_files(options)
    return result("merge", _config(options), inputs)


def _merged(
    options: argparse.Namespace, loaded: checkpoints.Loaded, base: Params | None
) -> tuple[Made, dict[str, Any]]:
    """The merged and mended network with the aligned members, and what a search found."""
    aligned = [dict(member) for member in loaded.members]
    if not options.no_match:
        matcher = chosen_many(options) or chosen_matcher(options)
        matcher = with_inputs(matcher, options, loaded)
        aligned = merging.align(loaded.spec, loaded.members, matcher=matcher, base=base)
    aligned = gauged(options, loaded, aligned, base=base)
    if options.method is None and len(aligned) == 2:
        return Made(aligned, base, _on_line(options, loaded, aligned)), {}
    method = merging.Average() if options.method is None else chosen_method(options, loaded)
    told: dict[str, Any] = {}
    if options.tune:
        found = tuned(options, method, aligned, base=base, loaded=loaded)
        fields = [name for name, _ in map(tuned_field, options.tune)]
        told = {"tuned": {name: getattr(found.method, name) for name in fields}}
        method, told["validation_score"] = found.method, found.score
    merged = merging.merge(aligned, method, base=base).params
    merged = averaged(options, loaded, merged, members=aligned)
    return Made(aligned, base, _mended(options, loaded, merged, members=aligned)), told


def _on_line(
    options: argparse.Namespace, loaded: checkpoints.Loaded, aligned: Sequence[Params]
) -> Params:
    """Two without a method lie on a line, whose ends are the checkpoints themselves."""
    merged = merging.lerp(aligned[0], aligned[1], options.weight)
    if not 0 < options.weight < 1:
        return merged
    merged = averaged(options, loaded, merging.renewed(merged, aligned), members=aligned)
    shares = (1 - options.weight, options.weight)
    return _mended(options, loaded, merged, members=aligned, shares=shares)


def _mended(
    options: argparse.Namespace,
    loaded: checkpoints.Loaded,
    merged: Params,
    *,
    members: Sequence[Params],
    shares: Sequence[float] | None = None,
) -> Params:
    """The merged network after the steps that were asked for."""
    if kind := options.repair_without_data:
        mend = merging.Mend(loaded.network(), [_FREE[kind]], example_of(options, loaded))
        return mend.apply(merged, members, weights=shares)
    if not (steps := _steps(options)):
        return merged
    inputs = unlabelled(options, loaded)
    inputs = inputs if steps == ["reset"] else inputs[: options.samples]
    mend = merging.Mend(loaded.network(), steps)
    return mend.apply(merged, members, inputs.split(_BATCH), weights=shares)


def _steps(options: argparse.Namespace) -> list[str]:
    """The steps of mending that were asked for, which need inputs without labels."""
    asked = {
        "reset": options.reset_batch_norm or options.inputs_data,
        "repair": options.repair,
        "least_squares": options.least_squares,
    }
    return [name for name, wanted in asked.items() if wanted]


def _scores(
    options: argparse.Namespace,
    loaded: checkpoints.Loaded,
    merged: Params,
    *,
    evaluate: Callable[[Params], Mapping[str, float]],
) -> dict[str, dict[str, float]]:
    """Of the merged network, of every parent, and of their plain average without alignment: as it
    is, and after the same repair, without which alignment would be given what repair has done.
    """
    told = {"merged": dict(evaluate(merged))}
    for i, member in enumerate(loaded.members):
        told[chr(ord("a") + i)] = dict(evaluate(member))
    naive = merging.average(loaded.members)
    told["naive"] = dict(evaluate(naive))
    if _steps(options) or options.repair_without_data:
        repaired = _mended(options, loaded, naive, members=loaded.members)
        told["naive_repaired"] = dict(evaluate(repaired))
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
    parents = [told for who, told in scores.items() if who not in _OTHERS]
    if not all("accuracy" in told for told in scores.values()):
        return False
    return scores["merged"]["accuracy"] < min(told["accuracy"] for told in parents) - _MUCH


def _beside(scores: Mapping[str, Mapping[str, float]]) -> str:
    """What the plain average reaches, and what it does after the same repair."""
    told = f"not aligned {scores['naive']['accuracy']:.4f}"
    if "naive_repaired" not in scores:
        return told
    return f"{told}, not aligned but repaired {scores['naive_repaired']['accuracy']:.4f}"


def _advice(options: argparse.Namespace, merged: Params) -> str:
    """What may bring a lost network back; nothing where it was done."""
    if options.least_squares:
        return ""
    if any(map(is_running_statistic, merged)) and not _steps(options):
        return "; its batch norm has averaged statistics: give --inputs-data, and --least-squares"
    return "; try --least-squares with --inputs-data"


def _say(out: str, scores: Mapping[str, Mapping[str, float]], advice: str) -> None:
    if not scores:
        say(f"{out}: written; the files name no task, so nothing was scored")
        return
    merged = scores["merged"]
    parents = [(who, told) for who, told in scores.items() if who not in _OTHERS]
    if "accuracy" in merged:
        shown = ", ".join(f"{who.upper()} {told['accuracy']:.4f}" for who, told in parents)
        say(f"{out}: test accuracy {merged['accuracy']:.4f} ({shown}), {_beside(scores)}")
    else:
        for who, told in scores.items():
            say(f"{out}: {who:<8} {numbers(told)}")
    if _lost(scores):
        lost = "the merged network is much worse than its parents; merging has lost it"
        say(f"{out}: {lost}{advice}")
