"""``wsl merge ADAPTER ... -o OUT``: low-rank adapters, summed exactly or merged by a method.

    wsl merge A B --weights 0.6 -0.4 -o OUT         the exact sum, a PEFT folder
    wsl merge A B -o OUT --rank 8                   cut to a rank, with the norm of what is lost
    wsl merge A B -o OUT --method ties --space knots
    wsl merge A B -o OUT --apply-to BASE            the base with the adapter in it

With ``--apply-to`` and ``--data`` or ``--evaluate`` the result is scored beside null arms: the
base, the mean of the adapters, and random ones of equal norms.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from wsl.cli import checkpoints
from wsl.cli.evaluation import add_evaluation_arguments, scorer
from wsl.cli.networks import add_network_arguments
from wsl.cli.outputs import beside, check_elsewhere, check_output, names_file, write_result
from wsl.cli.parsers import epilog
from wsl.cli.results import result, write_json
from wsl.cli.targets import ConfigError, choose
from wsl.cli.terminal import answer, numbers, say
from wsl.merging import METHODS, adapters
from wsl.params import Params
from wsl.zoo import open_checkpoint

SPACES = {
    "core": adapters.CoreSpace,
    "knots": adapters.KnOTS,
    "compress": adapters.CompressThenMerge,
}
"""The spaces in which a method can run, by the names of ``--space``."""


def names_adapters(arguments: Sequence[str]) -> bool:
    """Whether the command line gives adapters in the place of checkpoints.

    Raises `ConfigError` if it gives both.
    """
    before = ["", *arguments]
    given = [
        word
        for last, word in zip(before, arguments, strict=False)
        if not last.startswith("-") and not word.startswith("-") and Path(word).exists()
    ]
    found = [word for word in given if adapters.is_adapter(word)]
    if found and len(found) < len(given):
        other = next(word for word in given if word not in found)
        raise ConfigError(
            f"{found[0]} is an adapter and {other} is none: adapters are merged with adapters; "
            "give the network to --apply-to"
        )
    return bool(found)


def run_adapters(arguments: Sequence[str]) -> None:
    """Write an adapter, or with ``--apply-to`` a network, and its result file."""
    options = _parser().parse_args(arguments)
    out = _checked(options)
    members = _read(options)
    merged, told = _merged(options, members)
    if options.rank is not None:
        merged, told = _cut(merged, options.rank, told)
    _say(options, members, merged, told=told)
    told |= _applied(options, out, members, merged=merged) if options.apply_to else {}
    if not options.apply_to:
        merged.save(out)
        say(f"{out}: written, an adapter of {len(merged.changes)} weights")
    document = _head(options) | told
    write_json(beside(out, "result"), document)
    answer(document)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="wsl merge ADAPTER ...",
        description="Sum low-rank adapters of one base exactly, or merge them by a method.",
        epilog=epilog("merge"),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("adapters", nargs="+", help="PEFT folders, or safetensors in known styles")
    parser.add_argument("-o", "--output", required=True, help="a PEFT folder, or a checkpoint")
    parser.add_argument("--weights", type=float, nargs="+", help="one for each; of any sign")
    parser.add_argument("--method", metavar="TEXT", help=f"{', '.join(METHODS)}, in --space")
    parser.add_argument("--space", metavar="TEXT", help=f"{', '.join(SPACES)}; core unless told")
    parser.add_argument("--rank", type=int, help="cut the result to this rank")
    parser.add_argument("--initial", nargs="+", help="adapters before training, for PiSSA")
    parser.add_argument("--apply-to", metavar="BASE", help="write this network with the adapter")
    parser.add_argument("--model", help="the network of BASE, if the files do not say")
    add_network_arguments(parser)
    checkpoints.add_reading_arguments(parser)
    parser.add_argument("--spec", help="file with a specification, as text or JSON")
    parser.add_argument("--data-root", help="folder of the task's files, such as MNIST's")
    parser.add_argument("--seed", type=int, default=0, help="of the random adapter")
    add_evaluation_arguments(parser)
    return parser


def _checked(options: argparse.Namespace) -> Path:
    """The place of the result; raises `ConfigError` for flags that do not go together."""
    count = len(options.adapters)
    for flag in ("weights", "initial"):
        given = getattr(options, flag)
        if given is not None and len(given) != count:
            raise ConfigError(f"--{flag}: {len(given)} for {count} adapters; one each is needed")
    if options.weights is not None and options.method is not None:
        raise ConfigError("--weights are of the exact sum; give weights to the --method")
    if options.space is not None and options.method is None:
        raise ConfigError("--space is where a --method runs; name one, such as ties")
    if options.rank is not None and options.rank < 1:
        raise ConfigError(f"--rank is {options.rank}; at least 1 is needed")
    if (options.data or options.evaluate) and not options.apply_to:
        raise ConfigError("an adapter alone has no score; give its network by --apply-to BASE")
    out = check_output(options.output, folder=True)
    if names_file(out) and not options.apply_to:
        raise ConfigError(f"-o {out}: adapters are written as a PEFT folder; leave out the suffix")
    check_elsewhere(out, *options.adapters, *([options.apply_to] if options.apply_to else []))
    return out


def _read(options: argparse.Namespace) -> list[adapters.Adapter]:
    starts = options.initial or [None] * len(options.adapters)
    pairs = zip(options.adapters, starts, strict=True)
    return [adapters.Adapter.load(path, initial=start) for path, start in pairs]


def _merged(
    options: argparse.Namespace, members: Sequence[adapters.Adapter]
) -> tuple[adapters.Adapter, dict[str, Any]]:
    if options.method is None:
        return adapters.combine(members, options.weights), {}
    method = choose(options.method, METHODS, what="method")
    if missing := sorted(method.needs - {"base"}):
        raise ConfigError(
            f"--method {options.method}: needs {', '.join(missing)}, which adapters do not have"
        )
    space = choose(options.space or "core", SPACES, what="space")
    return adapters.merge_adapters(members, method, space=space), {"space": repr(space)}


def _cut(
    merged: adapters.Adapter, rank: int, told: Mapping[str, Any]
) -> tuple[adapters.Adapter, dict[str, Any]]:
    """The adapter at a rank, and what that has lost."""
    size = merged.norm()
    cut, lost = merged.compress(rank)
    say(f"rank {rank}: loses {lost:.6g} of the norm {size:.6g} ({lost / size if size else 0:.3%})")
    return cut, {**told, "norm": size, "lost": lost}


def _say(
    options: argparse.Namespace,
    members: Sequence[adapters.Adapter],
    merged: adapters.Adapter,
    *,
    told: dict[str, Any],
) -> None:
    """What was read and how alike it is; cosines go into ``told``."""
    for path, each in zip(options.adapters, members, strict=True):
        ranks = sorted({change.rank for change in each.changes.values()})
        shown = f"{ranks[0]}" if len(ranks) == 1 else f"{ranks[0]} to {ranks[-1]}"
        say(f"{path}: {each.kind}, {len(each.changes)} weights, rank {shown}")
    if len(members) > 1 and not any(each.magnitudes for each in members):
        told["cosines"] = adapters.cosines(members).tolist()
        rows = ("  ".join(f"{value:6.3f}" for value in row) for row in told["cosines"])
        say("cosines  " + "\n         ".join(rows))
    ranks = [change.rank for change in merged.changes.values()]
    say(f"merged: {len(ranks)} weights, rank at most {max(ranks, default=0)}")


def _applied(
    options: argparse.Namespace,
    out: Path,
    members: Sequence[adapters.Adapter],
    *,
    merged: adapters.Adapter,
) -> dict[str, Any]:
    """Write the base with the adapter in it; the cast's error, and scores beside the null arms."""
    loaded, base = _base(options)
    applied = merged.apply(base)
    say(f"{out}: relative error of the cast to the base's types {applied.cast_error:.3g}")
    told: dict[str, Any] = {"cast_error": applied.cast_error}
    if loaded is not None:
        told["scores"] = _scores(options, loaded, _arms(options, members, merged, base=base))
    about = {"wsl_merge": json.dumps(_head(options))}
    address = None if loaded is None else loaded.address
    write_result(out, applied.params, about, like=options.apply_to, address=address)
    say(f"{out}: written, {options.apply_to} with the adapter")
    return told


def _base(options: argparse.Namespace) -> tuple[checkpoints.Loaded | None, Params]:
    """The base, and what it is of where networks are to be scored."""
    if not (options.data or options.evaluate):
        found, notes = open_checkpoint(options.apply_to).choose(options.entry)
        for note in notes:
            say(f"note: {note}", error=True)
        return None, dict(found)
    twice = argparse.Namespace(**{**vars(options), "a": options.apply_to, "b": options.apply_to})
    loaded = checkpoints.load(twice)
    return loaded, loaded.a


def _arms(
    options: argparse.Namespace,
    members: Sequence[adapters.Adapter],
    merged: adapters.Adapter,
    *,
    base: Params,
) -> dict[str, Params]:
    """The networks that are scored: the result, every adapter by itself, and the null arms."""
    rng = torch.Generator().manual_seed(options.seed)
    arms = {"merged": merged}
    if len(members) > 1:
        arms |= dict(zip(options.adapters, members, strict=True))
        arms |= {"null: mean": adapters.mean_adapter(members)}
    arms |= {"null: random": adapters.random_like(merged, rng)}
    return {name: each.apply(base).params for name, each in arms.items()} | {"null: zero": base}


def _scores(
    options: argparse.Namespace, loaded: checkpoints.Loaded, arms: Mapping[str, Params]
) -> dict[str, dict[str, float]]:
    evaluate = scorer(options, loaded)
    if evaluate is None:
        raise ConfigError("nothing says what the networks are worth; give --data or --evaluate")
    told = {name: dict(evaluate(theta)) for name, theta in arms.items()}
    width = max(map(len, told))
    for name, scores in told.items():
        say(f"{name:<{width}}  {numbers(scores)}")
    return told


def _head(options: argparse.Namespace) -> dict[str, Any]:
    inputs = {chr(ord("a") + i): path for i, path in enumerate(options.adapters)}
    inputs |= {"base": options.apply_to} if options.apply_to else {}
    kept = ("weights", "method", "space", "rank", "seed")
    config = {name: getattr(options, name) for name in kept}
    return result("merge", config, inputs)
