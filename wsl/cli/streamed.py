"""``wsl match`` of checkpoints that do not fit into memory, and elements applied to other files.

    read      safetensors files and sharded folders, slice by slice; the network on the meta device
    found     the permutation, written beside the result before any weight is; where rotary phases
              take part, the whole element as well
    written   the shards of B, one by one, each whole or not at all; the index last

A run that was killed is taken up again by the same command: what its journal knows is not done
twice, and the bytes are those of a run that was not killed.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from types import EllipsisType
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import torch
from torch import Tensor

from wsl.cli import checkpoints
from wsl.cli.choices import described, suited
from wsl.cli.evidence import evidence, tell
from wsl.cli.networks import read_spec
from wsl.cli.outputs import beside, copy_companions, names_file
from wsl.cli.results import file_hash, result, write_json, write_with
from wsl.cli.targets import ConfigError
from wsl.cli.terminal import answer, bar, say
from wsl.matching import CircuitMatching, Matcher, WeightMatching, large
from wsl.symmetry import Permutation, SymmetryElement
from wsl.zoo import Expected, ZooError, fit

if TYPE_CHECKING:
    from tqdm import tqdm

LARGE = 4 << 30
"""Bytes of both checkpoints from which on they are matched where they lie, unless told."""


class _Counted:
    """A tensor in a file that tells a bar how many bytes of it are read."""

    def __init__(self, tensor: large.TensorSlices, read: tqdm) -> None:
        self.tensor, self.read = tensor, read
        self.shape, self.dtype = tensor.shape, tensor.dtype

    def __getitem__(self, rows: slice | EllipsisType, /) -> Tensor:
        part = self.tensor[rows]
        self.read.update(part.nbytes)
        return part


def _counted(tensor: large.TensorSlices, read: tqdm) -> large.TensorSlices:
    """The same, telling the bar; of experts each tells what is read of it."""
    if isinstance(tensor, large.JoinedTensor):
        return dataclasses.replace(tensor, parts=tuple(_Counted(p, read) for p in tensor.parts))
    return _Counted(tensor, read)


class _Opened(NamedTuple):
    """One checkpoint in files: its tensors under the network's names, and how its files move."""

    files: large.TensorFiles
    source: large.Source
    moves: large.Moves


def is_large(options: argparse.Namespace, matcher: Matcher) -> bool:
    """Whether to match out of core: as ``--stream`` says, else by size, where it can be done.

    Experts that a specification names as one are put together out of core alone.
    """
    experts = _joins_experts(options)
    if options.stream is False:
        if experts:
            raise ConfigError(
                f"{options.spec}: names the experts of a layer as one tensor, which is matched out "
                "of core; leave out --no-stream"
            )
        return False
    wanted = {"--evaluate": options.evaluate, "--data": options.data, "--entry": options.entry}
    given = [flag for flag, value in wanted.items() if value]
    if options.stream or experts:
        if given:
            raise ConfigError(
                f"--stream keeps no checkpoint in memory, so {given[0]} cannot be had with it; "
                "leave one of them out"
            )
        return True
    return not given and _is_long(options, matcher)


def _is_long(options: argparse.Namespace, matcher: Matcher) -> bool:
    """Whether both checkpoints are too long for memory, and this matcher can do without."""
    weights = (
        isinstance(matcher, WeightMatching | CircuitMatching) and "sign" not in matcher.searches
    )
    paths = [large.safetensors_of(path) for path in (options.a, options.b)]
    if not weights or None in paths:
        return False
    return sum(large.open_files(path).size for path in (options.a, options.b)) >= LARGE


def _joins_experts(options: argparse.Namespace) -> bool:
    """Whether ``--spec`` has one tensor where the file has one for each expert."""
    if not options.spec or large.safetensors_of(options.a) is None:
        return False
    try:
        tensors = large.open_files(options.a).tensors
    except ValueError:
        return False  # whoever reads it says what is wrong
    found = large.with_experts(tensors, read_spec(options.spec))
    return any(isinstance(tensor, large.JoinedTensor) for tensor in found.values())


def match_large(options: argparse.Namespace, matcher: Matcher, out: Path) -> None:
    """Match, and write the aligned checkpoint, the permutation and the evidence."""
    config = {"seed": options.seed, **described(options, "matcher")}
    files = [large.open_files(path) for path in (options.a, options.b)]
    abouts = [next(iter(each.files.values())).metadata for each in files]
    checkpoints.check_same_words((options.a, options.b), abouts)
    expected = checkpoints.structure(options, abouts[0])
    matcher = suited(matcher, options, expected.spec)
    a, b = (
        _opened(path, each, expected, options=options)
        for path, each in zip((options.a, options.b), files, strict=True)
    )
    head = result("match", config, {"a": options.a, "b": options.b})
    journal = large.Journal.taken_up(journal_of(out), head["hash"])
    element = _known(journal, out) or _found(journal, out, (a, b, expected), matcher=matcher)
    told = {**head, **journal.told["evidence"]}
    _write(options.b, out, b, element=element, journal=journal, told=told)
    answer(told)
    tell(out, told)


def apply_element(options: argparse.Namespace, out: Path) -> None:
    """Move a checkpoint, an adapter or moments by an element that was found before, or back."""
    element = large.load_element(options.apply)
    files = large.open_files(options.b)
    shapes = element.spec.align_keys(large.structure(files.tensors))
    names = dict(zip(shapes, files.tensors, strict=True))
    moves = large.family_moves(element.spec, shapes, drop=options.drop)
    opened = _Opened(files, {}, {names[name]: axes for name, axes in moves.items()})
    large.check_family(element, moves)
    config = {"undo": options.undo, "drop": list(options.drop)}
    told = result("match", config, {"element": options.apply, "b": options.b})
    journal = large.Journal.taken_up(journal_of(out), told["hash"])
    acting = ~element if options.undo else element
    _write(options.b, out, opened, element=acting, journal=journal, told=told)
    answer({**told, "moved": len(moves)})
    say(f"{out}: {len(moves)} tensors moved {'back ' * options.undo}by {options.apply}")


def _opened(
    path: str, files: large.TensorFiles, expected: Expected, *, options: argparse.Namespace
) -> _Opened:
    """The tensors under the network's names, by what `fit` says of their shapes."""
    tensors = large.with_experts(files.tensors, expected.spec)
    shapes = {name: _computable(tensor) for name, tensor in large.structure(tensors).items()}
    try:
        how = {"prefix": options.prefix, "drop": options.drop}
        fitted = fit(shapes, expected, path, **how, values=False)
    except ZooError as error:
        raise ConfigError(str(error)) from None
    for note in fitted.notes:
        say(f"note: {note}", error=True)
    origin = {id(tensor): name for name, tensor in shapes.items()}
    source: dict[str, Any] = {}
    moves: dict[str, Any] = {}
    for name, tensor in fitted.params.items():
        there = origin.get(id(tensor))
        source[name] = tensor if there is None else tensors[there]
        if there is not None:
            axes = expected.spec.axes[name]
            moves |= large.file_moves(name, axes, tensors[there], file_name=there)
    return _Opened(files, source, moves)


def _computable(shape: Tensor) -> Tensor:
    """Float8 is read as float32, and so it stays one tensor to `fit`."""
    small = shape.is_floating_point() and shape.dtype.itemsize == 1
    return shape.to(torch.float32) if small else shape


def _known(journal: large.Journal, out: Path) -> large.Element | None:
    """The element that an earlier run has found, if its file is still that one."""
    for file in (beside(out, "permutation"), beside(out, "element")):
        if file.is_file() and file_hash(file) == journal.told.get("element"):
            say(f"{out}: taken up again, {len(journal.done)} files are written", error=True)
            return large.load_element(str(file))
    return None


def _found(
    journal: large.Journal, out: Path, pair: tuple[_Opened, _Opened, Expected], *, matcher: Matcher
) -> large.Element:
    """The element, written beside the result, and its evidence in the journal."""
    expected = pair[2]
    with _reading() as read:
        a, b = ({n: _counted(t, read) for n, t in each.source.items()} for each in pair[:2])
        found = large.match_sources(expected.spec, a, b, matcher=matcher)
        element = cast("large.Element", found.element)
        for group, note in found.notes.items():
            say(f"note: {group}: {note}", error=True)
        distances = large.distances(a, b, element)
    file = beside(out, "permutation")
    write_with(file, cast("Permutation", found.permutation).save)
    if isinstance(element, SymmetryElement):
        file = beside(out, "element")
        write_with(file, element.save)
    journal.told = {"element": file_hash(file), "evidence": evidence(found, *distances)}
    journal.done = {}
    journal.save()
    return element


def _reading() -> tqdm:
    """A bar of the bytes that have been read."""
    return bar(desc="match", unit="B", unit_scale=True)


def _write(
    like: str,
    out: Path,
    opened: _Opened,
    *,
    element: large.Element,
    journal: large.Journal,
    told: Mapping[str, Any],
) -> None:
    """What lies beside the weights, then the weights, then what was found, and the index last."""
    if not names_file(out):
        out.mkdir(parents=True, exist_ok=True)
        if Path(like).is_dir():
            copy_companions(Path(like), out)
    large.write_moved(out, opened.files, element, moves=opened.moves, journal=journal)
    write_json(beside(out, "result"), told)
    if not names_file(out):
        large.write_index(out, opened.files, opened.moves)
    journal.close()


def journal_of(out: Path) -> Path:
    """Where the journal of a result lies while it is written."""
    return (
        out.with_name(f".{out.name}.journal.json") if names_file(out) else out / ".wsl.journal.json"
    )
