"""``wsl merge --no-match`` of checkpoints that do not fit into memory, and plans of merges.

    planned   from the headers of safetensors files: names, shapes and types must be the same
    written   tensor by tensor into the shards of A, each whole or not at all; the index last

A run that was killed is taken up again by the same command: shards that its journal knows are not
made twice, and the bytes are those of a run that was not killed. The journal knows inputs by their
names, sizes and times; their hashes, for the result file, are taken beside the merge.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

import wsl
from wsl import merging
from wsl.cli import checkpoints
from wsl.cli.mergeable import check_averaged
from wsl.cli.methods import chosen_method
from wsl.cli.outputs import as_text, beside, check_elsewhere, copy_companions, names_file
from wsl.cli.plans import say_plan
from wsl.cli.results import content_hash, result, write_json
from wsl.cli.streamed import LARGE, journal_of
from wsl.cli.targets import ConfigError
from wsl.cli.terminal import answer, say
from wsl.matching import large
from wsl.merging import MergeMethod, streamed
from wsl.params import Params
from wsl.symmetry import PermutationSpec

_NEED_MEMORY = (
    "data",
    "evaluate",
    "inputs_data",
    "reset_batch_norm",
    "repair",
    "least_squares",
    "repair_without_data",
    "scales",
    "products",
    "tune",
    "validation",
    "entry",
    "prefix",
    "drop",
    "report",
)
_KEPT = ("spec", "architecture", "task", "buffers", "format")
"""Text of A's file that is also true of what is made of it."""


@dataclasses.dataclass(frozen=True)
class _Line:
    """Two networks without a method: the point at ``weight`` between them."""

    needs: ClassVar[frozenset[str]] = frozenset()
    cut: ClassVar[str] = "entries"

    weight: float

    def solve(
        self,
        members: Sequence[Mapping[str, Tensor]],
        *,
        base: Mapping[str, Tensor] | None = None,  # noqa: ARG002 - one signature for all methods
        statistics: Any = None,  # noqa: ARG002
    ) -> Params:
        return merging.lerp(members[0], members[1], self.weight)


def add_streaming_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags that say how a merge is run."""
    parser.add_argument(
        "--stream",
        action=argparse.BooleanOptionalAction,
        help="with --no-match, merge safetensors tensor by tensor where they lie; by default from "
        "4 GiB of all on. A run that was killed goes on where it was",
    )
    add_running_arguments(parser)


def add_running_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of every streamed merge."""
    parser.add_argument(
        "--threads",
        type=int,
        default=streamed.THREADS,
        help="tensors that are merged at the same time, where --stream does; no byte depends on it",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="print what would be done, and write nothing"
    )


def streamed_method(options: argparse.Namespace) -> MergeMethod | None:
    """The method of a streamed merge; None where the merge is done in memory.

    Raises `ConfigError` where ``--stream`` asks for what cannot be streamed.
    """
    if options.stream is False:
        return None
    if why := _why_not(options):
        if options.stream:
            raise ConfigError(f"--stream merges tensor by tensor where they lie: {why}")
        return None
    if not options.stream:
        sizes = [large.open_files(path).size for path in _paths(options)]
        if sum(sizes) < LARGE:
            return None
    method = _method(options)
    if streamed.by_tensor(method):
        return method
    if options.stream:
        raise ConfigError(
            f"--stream: {type(method).__name__} looks at all tensors at once; leave out --stream, "
            "or take another method"
        )
    return None


def merge_large(
    options: argparse.Namespace, method: MergeMethod, out: Path, *, config: Mapping[str, Any]
) -> None:
    """Plan, and unless it is a dry run write the merged checkpoint and its provenance."""
    paths = _paths(options)
    files = [large.open_files(path) for path in paths]
    every = [each.tensors for each in files]
    abouts = [next(iter(each.files.values())).metadata for each in files]
    checkpoints.check_same_words(paths, abouts)
    has_base = options.base is not None
    members, base = (every[:-1], every[-1]) if has_base else (every, None)
    steps = streamed.steps(members, method, base=base, names=paths)
    _check_names(steps)
    if options.dry_run:
        return say_plan(steps, paths[: len(members)], options.base, threads=options.threads)
    about = {name: text for name, text in abouts[0].items() if name in _KEPT}
    labels = {chr(ord("a") + i): path for i, path in enumerate(paths[: len(members)])}
    labels |= {"base": options.base} if has_base else {}
    job = Job(steps, files[0], labels, config=config, about=about, threads=options.threads)
    write_merge(out, job, like=options.a)
    say(f"{out}: written, tensor by tensor; nothing was scored")


@dataclasses.dataclass(frozen=True, eq=False)
class Job:
    """A merge that is to be written: steps, the files of the first input if it has any, inputs by
    what the result file calls them, and what the result says of itself.
    """

    steps: Sequence[streamed.Step]
    like: large.TensorFiles | None
    inputs: Mapping[str, str]
    _: dataclasses.KW_ONLY
    config: Mapping[str, Any]
    about: Mapping[str, str]
    threads: int

    @property
    def head(self) -> dict[str, Any]:
        """What was asked for, of which inputs by name, by which version."""
        inputs = {name: Path(path).name for name, path in self.inputs.items()}
        told = {"verb": "merge", "wsl": wsl.__version__, "config": dict(self.config)}
        return {**told, "inputs": inputs}


def write_merge(out: Path, job: Job, *, like: str) -> None:
    """What lies beside the weights of ``like``, the weights, how they were made, the index last."""
    check_elsewhere(out, *job.inputs.values())
    streamed.keep_freed_memory()
    one = out.name if names_file(out) else None
    about = as_text({**job.about, "wsl_merge": json.dumps(job.head)})
    files = streamed.layout(job.steps, job.like, one=one, metadata=about)
    journal = _journal(out, job)
    if not names_file(out):
        out.mkdir(parents=True, exist_ok=True)
        if Path(like).is_dir():
            copy_companions(Path(like), out)
    _write(out, files, job, journal=journal)
    if not names_file(out):
        large.write_index(out, files, files.tensors)
    journal.close()


def _journal(out: Path, job: Job) -> large.Journal:
    """The journal of this merge, which may have begun before."""
    key = content_hash([job.head, [_stamp(path) for path in job.inputs.values()]])
    journal = large.Journal.taken_up(journal_of(out), key)
    if journal.done:
        say(f"{out}: taken up again, {len(journal.done)} files are written", error=True)
    return journal


def _write(out: Path, files: large.TensorFiles, job: Job, *, journal: large.Journal) -> None:
    """The weights and the result file, for which the inputs are hashed beside the merge."""
    steps = {step.name: step for step in job.steps}

    def parts(file: large.TensorFile) -> Iterator[Tensor]:
        return streamed.results([steps[name] for name in file.tensors], threads=job.threads)

    with ThreadPoolExecutor(1) as beside_the_merge:
        told = beside_the_merge.submit(result, "merge", job.config, job.inputs)
        large.write_files(
            out.parent if names_file(out) else out, files.files, parts, journal=journal
        )
        write_json(beside(out, "result"), told.result())
    answer(told.result())


def say_in_memory(options: argparse.Namespace) -> None:
    """What is told of a merge in memory without reading any weights."""
    paths = [options.a, options.b, *options.more]
    sizes = [_bytes(path) for path in [*paths, *([options.base] if options.base else [])]]
    target = None if options.no_match else options.base or options.a
    plan = {"method": options.method or "average", "members": paths, "aligned_to": target}
    told = {**plan, "base": options.base, "in_memory": True, "read": sum(sizes)}
    answer({"plan": told})
    _say_in_memory(told)


def _say_in_memory(plan: Mapping[str, Any]) -> None:
    members, target = plan["members"], plan["aligned_to"]
    align = f"aligned to {target}" if target else "as they are"
    say(f"method    {plan['method']}")
    say(f"members   {len(members)}, {align}: {', '.join(members)}")
    say(f"base      {plan['base'] or 'none'}")
    say(f"in memory, {plan['read'] / 1e6:.1f} MB of weights to read; nothing is written")


def _bytes(path: str) -> int:
    found = large.safetensors_of(path)
    if found is not None:
        return large.open_files(path).size
    place = Path(path)
    if not place.exists():
        raise ConfigError(f"{path}: does not exist")
    files = [file for file in place.iterdir() if file.is_file()] if place.is_dir() else [place]
    return sum(file.stat().st_size for file in files)


def _why_not(options: argparse.Namespace) -> str:
    """What stands in the way of a streamed merge, and what to do; empty if nothing does."""
    if not options.no_match:
        return (
            "alignment needs the networks in memory; add --no-match if all come from one ancestor "
            "(wsl check tells), or align each first with wsl match --stream"
        )
    given = [name for name in _NEED_MEMORY if getattr(options, name)]
    if given:
        return f"--{given[0].replace('_', '-')} needs the networks in memory; leave it out"
    for path in _paths(options):
        if not Path(path).exists():
            return f"{path}: does not exist"
        if large.safetensors_of(path) is None:
            return f"{path}: is no safetensors file and no folder of such; save it as one"
    return ""


def _method(options: argparse.Namespace) -> MergeMethod:
    if options.method is not None:
        nothing = checkpoints.Loaded((), (), (), PermutationSpec.parse(""), None)
        return chosen_method(options, nothing)
    return merging.Average() if options.more else _Line(options.weight)


def _paths(options: argparse.Namespace) -> list[str]:
    base = [] if options.base is None else [options.base]
    return [options.a, options.b, *options.more, *base]


def _check_names(steps: Sequence[streamed.Step]) -> None:
    """Raise `ConfigError` for tensors that say how others are used, and for what has no mean."""
    known = {step.name: step for step in steps}
    kinds = large.structure({name: step.members[0] for name, step in known.items()})
    masks = [name for name in known if name.endswith("_mask") and f"{name[:-5]}_orig" in known]
    if tied := [*masks, *(each.u for each in merging.spectral_norms(kinds))]:
        raise ConfigError(
            f"{tied[0]}: belongs to pruning or to a spectral norm, which is merged with the weight "
            "it acts on; use --no-stream"
        )

    def differs(name: str) -> bool:
        first, *others = known[name].members
        return any(not torch.equal(first[...], other[...]) for other in others)

    check_averaged(kinds, differs)


def _stamp(path: str) -> list[Any]:
    """What changes with the files of an input: names, sizes and times."""
    place = Path(path)
    files = sorted(place.iterdir()) if place.is_dir() else [place]
    told = [(file, file.stat()) for file in files if file.is_file()]
    return [[file.name, stat.st_size, stat.st_mtime_ns] for file, stat in told]
