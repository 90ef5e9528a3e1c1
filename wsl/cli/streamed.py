"""``wsl match`` of checkpoints that do not fit into memory, and elements applied to other files.

    read      safetensors files and sharded folders, slice by slice; the network on the meta device
    found     the permutation, written beside the result before any weight is
    written   the shards of B, one by one, each whole or not at all; the index last

A run that was killed is taken up again by the same command: what its journal knows is not done
twice, and the bytes are those of a run that was not killed.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from types import EllipsisType
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import torch
from torch import Tensor

from wsl.cli import checkpoints
from wsl.cli.choices import described
from wsl.cli.evidence import evidence, tell
from wsl.cli.outputs import beside, copy_companions
from wsl.cli.results import file_hash, result, write_json, write_with
from wsl.cli.targets import ConfigError
from wsl.cli.terminal import say
from wsl.matching import Matcher, WeightMatching, large
from wsl.params import Params
from wsl.symmetry import Permutation
from wsl.zoo import Expected, ZooError, fit

if TYPE_CHECKING:
    from tqdm import tqdm

LARGE = 4 << 30
"""Bytes of both checkpoints from which on they are matched where they lie, unless told."""


class _Counted:
    """A tensor in a file that tells a bar how many bytes of it are read."""

    def __init__(self, tensor: large.TensorSlices, bar: tqdm) -> None:
        self.tensor, self.bar = tensor, bar
        self.shape, self.dtype = tensor.shape, tensor.dtype

    def __getitem__(self, rows: slice | EllipsisType, /) -> Tensor:
        part = self.tensor[rows]
        self.bar.update(part.nbytes)
        return part


class _Opened(NamedTuple):
    """One checkpoint in files: its tensors under the network's names, and how its files move."""

    files: large.TensorFiles
    source: large.Source
    moves: large.Moves


class _Pair(NamedTuple):
    """Both checkpoints, and the network that they are of."""

    a: _Opened
    b: _Opened
    expected: Expected


def is_large(options: argparse.Namespace, matcher: Matcher) -> bool:
    """Whether to match out of core: as ``--stream`` says, else by size, where it can be done."""
    wanted = {"--evaluate": options.evaluate, "--data": options.data, "--entry": options.entry}
    given = [flag for flag, value in wanted.items() if value]
    if options.stream and given:
        raise ConfigError(
            f"--stream keeps no checkpoint in memory, so {given[0]} cannot be had with it; "
            "leave one of them out"
        )
    if options.stream is not None:
        return options.stream
    return not given and _can_stream(options, matcher) and _size(options) >= LARGE


def _can_stream(options: argparse.Namespace, matcher: Matcher) -> bool:
    paths = [large.safetensors_of(path) for path in (options.a, options.b)]
    return isinstance(matcher, WeightMatching) and not matcher.odd and None not in paths


def _size(options: argparse.Namespace) -> int:
    """Bytes of both checkpoints."""
    return sum(large.open_files(path).size for path in (options.a, options.b))


def match_large(options: argparse.Namespace, matcher: Matcher, out: Path) -> None:
    """Match, and write the aligned checkpoint, the permutation and the evidence."""
    pair = _pair(options)
    head = _head(options)
    journal = large.Journal.taken_up(_journal(out), head["hash"])
    element = _known(journal, out) or _found(journal, out, pair, matcher=matcher)
    told = {**head, **journal.told["evidence"]}
    _write(options.b, out, pair.b, element=element, journal=journal, told=told)
    tell(out, told)


def _head(options: argparse.Namespace) -> dict[str, Any]:
    config = {"seed": options.seed, **described(options, "matcher")}
    return result("match", config, {"a": options.a, "b": options.b})


def _pair(options: argparse.Namespace) -> _Pair:
    paths = (options.a, options.b)
    files = [large.open_files(path) for path in paths]
    abouts = [next(iter(each.files.values())).metadata for each in files]
    checkpoints.check_same_words(paths, abouts)
    expected = checkpoints.structure(options, abouts[0])
    a, b = (
        _opened(path, each, expected, options=options)
        for path, each in zip(paths, files, strict=True)
    )
    return _Pair(a, b, expected)


def apply_element(options: argparse.Namespace, out: Path) -> None:
    """Move a checkpoint, an adapter or moments by an element that was found before, or back."""
    element = Permutation.load(options.apply)
    opened = _of_family(options, element)
    config = {"undo": options.undo, "drop": list(options.drop)}
    told = result("match", config, {"element": options.apply, "b": options.b})
    journal = large.Journal.taken_up(_journal(out), told["hash"])
    acting = ~element if options.undo else element
    _write(options.b, out, opened, element=acting, journal=journal, told=told)
    say(f"{out}: {len(opened.moves)} tensors moved {'back ' * options.undo}by {options.apply}")


def _of_family(options: argparse.Namespace, element: Permutation) -> _Opened:
    """The files to move, whose names may carry wrappers' components."""
    files = large.open_files(options.b)
    shapes = element.spec.align_keys(large.structure(files.tensors))
    names = dict(zip(shapes, files.tensors, strict=True))
    moves = large.family_moves(element.spec, shapes, drop=options.drop)
    return _Opened(files, {}, {names[name]: axes for name, axes in moves.items()})


def _opened(
    path: str, files: large.TensorFiles, expected: Expected, *, options: argparse.Namespace
) -> _Opened:
    """The tensors under the network's names, by what `fit` says of their shapes."""
    shapes = {name: _computable(tensor) for name, tensor in large.structure(files.tensors).items()}
    origin = {id(tensor): name for name, tensor in shapes.items()}
    source: dict[str, Any] = {}
    moves: dict[str, Any] = {}
    for name, tensor in _fitted(path, shapes, expected, options=options).items():
        there = origin.get(id(tensor))
        source[name] = tensor if there is None else files.tensors[there]
        if there is not None:
            moves[there] = expected.spec.axes[name]
    return _Opened(files, source, moves)


def _fitted(
    path: str, shapes: Params, expected: Expected, *, options: argparse.Namespace
) -> Params:
    try:
        how = {"prefix": options.prefix, "drop": options.drop, "values": False}
        fitted = fit(shapes, expected, path, **how)
    except ZooError as error:
        raise ConfigError(str(error)) from None
    for note in fitted.notes:
        say(f"note: {note}", error=True)
    return fitted.params


def _computable(shape: Tensor) -> Tensor:
    """Float8 is read as float32, and so it stays one tensor to `fit`."""
    small = shape.is_floating_point() and shape.dtype.itemsize == 1
    return shape.to(torch.float32) if small else shape


def _known(journal: large.Journal, out: Path) -> Permutation | None:
    """The element that an earlier run has found, if its file is still that one."""
    file = beside(out, "permutation")
    if "element" not in journal.told or not file.is_file():
        return None
    if file_hash(file) != journal.told["element"]:
        return None
    say(f"{out}: taken up again, {len(journal.done)} files are written", error=True)
    return Permutation.load(file)


def _found(journal: large.Journal, out: Path, pair: _Pair, *, matcher: Matcher) -> Permutation:
    """The element, written beside the result, and its evidence in the journal."""
    with _reading() as bar:
        a, b = ({n: _Counted(t, bar) for n, t in each.source.items()} for each in pair[:2])
        found = large.match_sources(pair.expected.spec, a, b, matcher=matcher)
        element = cast("Permutation", found.permutation)
        distances = large.distances(a, b, element)
    file = beside(out, "permutation")
    write_with(file, element.save)
    journal.told = {"element": file_hash(file), "evidence": evidence(found, *distances)}
    journal.done = {}
    journal.save()
    return element


def _reading() -> tqdm:
    """A bar of the bytes that have been read, on stderr if that is a terminal."""
    from tqdm import tqdm

    return tqdm(desc="match", unit="B", unit_scale=True, disable=None)


def _write(
    like: str,
    out: Path,
    opened: _Opened,
    *,
    element: Permutation,
    journal: large.Journal,
    told: Mapping[str, Any],
) -> None:
    """What lies beside the weights, then the weights, then what was found, and the index last."""
    if not out.suffix:
        out.mkdir(parents=True, exist_ok=True)
        if Path(like).is_dir():
            copy_companions(Path(like), out)
    large.write_moved(out, opened.files, element, moves=opened.moves, journal=journal)
    write_json(beside(out, "result"), told)
    if not out.suffix:
        large.write_index(out, opened.files, opened.moves)
    journal.close()


def _journal(out: Path) -> Path:
    return out.with_name(f".{out.name}.journal.json") if out.suffix else out / ".wsl.journal.json"
