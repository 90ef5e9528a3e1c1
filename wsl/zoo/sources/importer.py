"""`import_checkpoints`: any source of checkpoints becomes a zoo file, in one pass.

    source -> rows of each architecture in <path>.<n>.rows.tmp, metadata in memory -> zoo files

Memory is bounded by the metadata. Checkpoints are told apart by the names, shapes and types of
their tensors (`wsl.zoo.sources.architectures`); where there are several architectures, each becomes
a file (`import_architectures`), or one is chosen. What cannot be read or does not fit is fatal, or
left out and reported, as the caller wants; nothing is cast, padded or dropped unasked. Without a
specification every axis is fixed: the file is complete, but layers and matchers find no symmetry in
it; the result says so. An interrupted import is run again.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from wsl.base import did_you_mean
from wsl.params import Params
from wsl.zoo.file import ZooError
from wsl.zoo.opening import Zoo
from wsl.zoo.reading import Expected, fit, no_values
from wsl.zoo.sources.architectures import Told, architecture_names, key_of
from wsl.zoo.sources.checkpoint import Checkpoint, Refused, Skipped
from wsl.zoo.sources.gathered import Gathered
from wsl.zoo.sources.options import ImportOptions

_SHOWN = 30


@dataclasses.dataclass(frozen=True)
class Imported:
    """What came of an import.

    The file, the checkpoints ``refused``, the columns ``left_out`` with the reason, where the
    specification is from, the files ``skipped`` as no checkpoints of their own, and ``notes`` of
    what was done to names and tensors, and of equal weights. ``files`` are those that each member
    and epoch was read from. What was refused and skipped is that of the whole source, also where
    it became several zoos.
    """

    zoo: Zoo
    refused: tuple[Refused, ...]
    left_out: Mapping[str, str]
    specification: str
    skipped: tuple[Skipped, ...] = ()
    notes: tuple[str, ...] = ()
    files: Mapping[tuple[int, int], tuple[str, ...]] = dataclasses.field(default_factory=dict)


def import_checkpoints(
    source: Iterable[Checkpoint | Refused | Skipped],
    path: str | Path,
    *,
    progress: Callable[[int], None] | None = None,
    **options: Any,
) -> Imported:
    """Write the checkpoints of ``source`` (see `wsl.zoo.sources`) to the zoo file ``path``.

    ``options`` are the fields of `ImportOptions`: spec, architecture, provenance, buffers, prefix,
    cast, dtype, skip, only, split, seed, allow_nonfinite. ``progress`` is called with the number of
    checkpoints taken. Splits that the metadata give for every member are kept, others drawn. Where
    the source holds several architectures, ``only`` names the one to take; with ``skip`` it is the
    one of most checkpoints. Raises `ZooError` naming file and tensor, or the architectures.
    """
    path = Path(path).absolute()
    with _Sorting(path, ImportOptions(**options)) as sorting:
        sorting.take_all(source, progress)
        (made,) = sorting.write({sorting.chosen(): path})
    return made


def import_architectures(
    source: Iterable[Checkpoint | Refused | Skipped],
    folder: str | Path,
    *,
    progress: Callable[[int], None] | None = None,
    **options: Any,
) -> tuple[Imported, ...]:
    """As `import_checkpoints`, a zoo file in ``folder`` for every architecture of ``source``.

    They are named after the folder of their checkpoints, or the first of them.
    """
    folder = Path(folder).absolute()
    with _Sorting(folder / "import", ImportOptions(**options)) as sorting:
        sorting.take_all(source, progress)
        keys = list(sorting.groups) if sorting.options.only is None else [sorting.chosen()]
        names = sorting.names()
        return sorting.write({key: folder / f"{names[key]}.h5" for key in keys})


class _Sorting:
    """The checkpoints of a source, sorted by architecture; temporary files go when it ends."""

    def __init__(self, path: Path, options: ImportOptions) -> None:
        self.path, self.options = path, options
        self.groups: dict[str, Gathered] = {}
        self.refused: list[Refused] = []
        self.skipped: list[Skipped] = []
        self.rows: list[Path] = []
        self.fitted: collections.Counter[str] = collections.Counter()

    def __enter__(self) -> _Sorting:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        for rows in self.rows:
            rows.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise ZooError(
                f"{self.path}: cannot be written ({error.strerror or error}); free space or choose "
                "another path"
            ) from error

    def take_all(
        self,
        source: Iterable[Checkpoint | Refused | Skipped],
        progress: Callable[[int], None] | None,
    ) -> None:
        """Write the row of every checkpoint, or refuse it."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        for item in source:
            self._take(item)
            if progress is not None:
                progress(sum(len(group.places) for group in self.groups.values()))
        if not self.groups:
            raise self._nothing()

    def _take(self, item: Checkpoint | Refused | Skipped) -> None:
        if isinstance(item, Skipped):
            self.skipped.append(item)
        if isinstance(item, Checkpoint):
            try:
                self._add(item)
            except ZooError as error:
                item = Refused(item.origin, f"{item.origin}: {error}", item.files)
        if isinstance(item, Refused):
            if not self.options.skip:
                raise ZooError(
                    f"{item.reason} (to leave such checkpoints out and report them: skip)"
                )
            self.refused.append(item)

    def _add(self, item: Checkpoint) -> None:
        params, notes = self._fit(self._plain(item), item.origin)
        key = key_of(item, params, given=self.options.spec is not None)
        group = self.groups.get(key) or self._group()
        group.add(item, params)
        self.groups[key] = group
        group.said.update([*notes, *(_without(remark, item) for remark in item.remarks)])

    def _plain(self, item: Checkpoint) -> Params:
        """The tensors without the prefix, cast as was asked for; each holds plain numbers."""
        prefix = self.options.prefix
        params = {n.removeprefix(prefix): self._cast(tensor) for n, tensor in item.params.items()}
        if len(params) < len(item.params):
            raise ZooError(f"two tensors have one name without the prefix {prefix!r}")
        for name, tensor in params.items():
            if what := no_values(tensor):
                raise ZooError(f"{name}: is {what}; a zoo takes plain tensors of numbers")
        return params

    def _group(self) -> Gathered:
        rows = self.path.with_name(f"{self.path.name}.{len(self.rows)}.rows.tmp")
        rows.unlink(missing_ok=True)
        self.rows.append(rows)
        return Gathered(self.options, rows)

    def _fit(self, params: Params, origin: str) -> tuple[Params, list[str]]:
        """Under the names of a given specification, where they are not there already."""
        spec = self.options.spec
        if spec is None or set(params) == set(spec.axes):
            return params, []
        found = fit(params, Expected.of(spec, self.options.model), origin)
        return found.params, [note.removeprefix(f"{origin}: ") for note in found.notes]

    def _cast(self, tensor: Tensor) -> Tensor:
        cast = self.options.cast
        return tensor.to(cast) if cast is not None and tensor.is_floating_point() else tensor

    def _nothing(self) -> ZooError:
        first = ""
        if self.refused:
            count, reason = len(self.refused), self.refused[0].reason
            first = f"; the first of {count} refusals: {reason}"
        return ZooError(f"{self.path}: no checkpoint could be imported{first}")

    def names(self) -> dict[str, str]:
        """The name of each architecture, by its key."""
        return architecture_names({key: group.sources for key, group in self.groups.items()})

    def chosen(self) -> str:
        """The key of the architecture that was asked for, or of the only one."""
        names, only = self.names(), self.options.only
        if only is None and (len(self.groups) == 1 or self.options.skip):
            return max(self.groups, key=lambda key: len(self.groups[key].places))
        for number, (key, name) in enumerate(names.items(), 1):
            if only is not None and str(only) in (name, str(number)):
                return key
        told = [group.told(names[key]) for key, group in self.groups.items()]
        raise ZooError(f"{self.path}: {_several(told, only)}")

    def write(self, paths: Mapping[str, Path]) -> tuple[Imported, ...]:
        """The zoo file of each key of ``paths``; other architectures are left out, and named."""
        if len(paths) < len(self.groups):
            self._leave_out(next(iter(paths)))
        about = {
            "refused": len(self.refused),
            "skipped": len(self.skipped),
            "architectures": len(self.groups),
        }
        return tuple(self._written(key, path, about) for key, path in paths.items())

    def _written(self, key: str, path: Path, about: Mapping[str, int]) -> Imported:
        group = self.groups[key]
        zoo, left_out, codes = group.write(path, about)
        specification = "" if group.form is None else group.form.specification
        files = dict(zip(group.places, group.files, strict=True))
        refused, skipped = tuple(self.refused), tuple(self.skipped)
        notes = group.notes(codes)
        return Imported(zoo, refused, left_out, specification, skipped, notes, files)

    def _leave_out(self, chosen: str) -> None:
        names = self.names()
        for key, group in self.groups.items():
            if key == chosen:
                continue
            why = f"is of another architecture, {names[key]}, not of {names[chosen]}"
            for origin, files in zip(group.places.values(), group.files, strict=True):
                if self.options.only is None:
                    self.refused.append(Refused(origin, f"{origin}: {why}", files))
                else:
                    self.skipped.append(Skipped(origin, f"{origin}: {why}", files))


def _without(remark: str, item: Checkpoint) -> str:
    """``remark`` without the name of the file that it begins with, so that equal ones are one."""
    for name in (item.origin, *item.files):
        place, found, rest = remark.partition(f"{name}: ")
        if found and " " not in place:
            return rest
    return remark


def _several(told: list[Told], only: str | int | None) -> str:
    """The error that lists the architectures of a source."""
    listed = "; ".join(f"{number} {each}" for number, each in enumerate(told[:_SHOWN], 1))
    more = f"; and {len(told) - _SHOWN} more" if len(told) > _SHOWN else ""
    if only is not None:
        hint = did_you_mean(str(only), [each.name for each in told])
        return f"no architecture is called {only!r}{hint}; there are: {listed}{more}"
    return (
        f"the source holds checkpoints of {len(told)} architectures: {listed}{more}; give a folder "
        "(-o FOLDER/) for a zoo of each, or choose one with --architecture NAME or NUMBER"
    )


__all__ = ["ImportOptions", "Imported", "import_architectures", "import_checkpoints"]
