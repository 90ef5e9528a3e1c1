"""The files of ``wsl check``: read as they are, and under one network's names where they fit it.

Files of different architectures are no error here: those that do not fit the network of the first
are compared by their tensors alone, and the reason is kept. A network that does not fit the first
file, and files that cannot be read, are errors as in any verb.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping
from typing import Any

from wsl.cli import checkpoints
from wsl.cli.addresses import address_of
from wsl.cli.contents import is_zoo
from wsl.cli.targets import ConfigError
from wsl.cli.terminal import say
from wsl.params import Params
from wsl.symmetry import PermutationSpec
from wsl.zoo import Expected, Zoo, ZooError, fit, open_checkpoint


@dataclasses.dataclass(frozen=True)
class GatheredFiles:
    """``raw``: the tensors of every path. ``loaded``: those that fit the network, None where nobody
    says which it is. ``misfits``: why the others do not fit it, by path.
    """

    paths: tuple[str, ...]
    raw: tuple[Params, ...]
    loaded: checkpoints.Loaded | None
    misfits: Mapping[str, str]

    @property
    def members(self) -> tuple[Params | None, ...]:
        """Weights under the network's names, None for a misfit, in the order of ``paths``."""
        if self.loaded is None:
            return (None,) * len(self.paths)
        fitted = iter(self.loaded.members)
        return tuple(None if path in self.misfits else next(fitted) for path in self.paths)


def gather(options: argparse.Namespace) -> GatheredFiles:
    """Read all files; raises `ConfigError` for what is wrong with one, or with the flags."""
    paths = (options.a, options.b, *options.more)
    read = [_read(path, options.entry) for path in paths]
    raw = tuple(params for params, _ in read)
    if not _says_network(options, read[0][1]):
        return GatheredFiles(paths, raw, None, {})
    try:
        return GatheredFiles(paths, raw, checkpoints.load(options), {})
    except ConfigError as error:
        return _those_that_fit(options, paths, raw=raw, error=error)


def background(options: argparse.Namespace, spec: PermutationSpec, most: int) -> list[Params]:
    """Weights of networks known to be unrelated: files, or the last rows of a zoo's members."""
    found: list[Params] = []
    for path in options.background:
        found += _of_zoo(path, spec) if is_zoo(path) else [_fitted(path, options, spec)]
    if len(found) > most:
        say(f"note: --background: the first {most} of {len(found)} networks are used", error=True)
    return found[:most]


def _read(path: str, entry: str | None) -> tuple[Params, Mapping[str, Any]]:
    try:
        found = open_checkpoint(path)
        params, _ = found.choose(entry)
    except ZooError as error:
        raise ConfigError(str(error)) from None
    checkpoints.check_finite(path, params)
    return params, found.metadata


def _says_network(options: argparse.Namespace, about: Mapping[str, Any]) -> bool:
    return bool(options.model or options.spec or address_of(options.a) or "spec" in about)


def _those_that_fit(
    options: argparse.Namespace,
    paths: tuple[str, ...],
    *,
    raw: tuple[Params, ...],
    error: Exception,
) -> GatheredFiles:
    """The first file must fit its network alone; then each of the others may."""
    _load(options, options.a)
    misfits: dict[str, str] = {}
    fitting = [path for path in paths[1:] if _fits(options, path, misfits)]
    if len(fitting) == len(paths) - 1:
        raise error
    return GatheredFiles(paths, raw, _load(options, *fitting), misfits)


def _fits(options: argparse.Namespace, path: str, misfits: dict[str, str]) -> bool:
    try:
        _load(options, path)
    except ConfigError as error:
        misfits[path] = " ".join(str(error).split())
    return path not in misfits


def _load(options: argparse.Namespace, *others: str) -> checkpoints.Loaded:
    """The first file and some others; the first alone is loaded as a pair with itself."""
    b, *more = others or (options.a,)
    loaded = checkpoints.load(argparse.Namespace(**{**vars(options), "b": b, "more": more}))
    alone = not others
    return dataclasses.replace(loaded, members=loaded.members[:1]) if alone else loaded


def _of_zoo(path: str, spec: PermutationSpec) -> list[Params]:
    zoo = Zoo(path)
    if zoo.spec.shapes != spec.shapes:
        raise ConfigError(f"--background {path}: its networks are of another architecture")
    return [zoo.by_member[member][-1][0] for member in zoo.by_member]


def _fitted(path: str, options: argparse.Namespace, spec: PermutationSpec) -> Params:
    params, _ = _read(path, options.entry)
    try:
        return fit(params, Expected.of(spec), path, prefix=options.prefix, drop=options.drop).params
    except ZooError as error:
        raise ConfigError(f"--background {error}") from None
