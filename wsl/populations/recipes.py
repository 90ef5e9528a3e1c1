"""A recipe is a population as a value: its fields say everything, and `build` makes its zoo file.

    members 0..N-1  ->  chunks  ->  one stacked training and one shard each  ->  one zoo file

Every number of member i (seed, learning rate, ...) is a function of (recipe seed, i). A chunk is a
task whose key is the content hash of the recipe and the chunk's range: an interrupted build,
started again, trains only what is missing, and a finished file of the same recipe is left alone.
Chunks are trained here, in processes or on a cluster (`wsl.populations.executors`); one writer
collects them. Members that diverge are dropped and listed in ``zoo.provenance["diverged"]``; the
files that the data came from are in ``zoo.provenance["data"]`` with their SHA-256.
"""

from __future__ import annotations

import abc
import dataclasses
import functools
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from wsl.base import Engine, counter
from wsl.params import Params, from_module
from wsl.populations.architectures import build_architecture
from wsl.populations.executors import Executor, Serial
from wsl.populations.stacked import Trained, finite_members
from wsl.populations.tasks import task
from wsl.symmetry import permutation_spec
from wsl.zoo import Split, Zoo, ZooError, ZooWriter, split_last

Column = Tensor | list[str]
Trainer = Callable[[Tensor], "Rows"]
"""Members (n,) int64 -> their checkpoints."""


class Rows(NamedTuple):
    """Checkpoints of one chunk: tensors (n, ...), member and epoch (n,), columns of metadata.

    A column is a tensor (n,) or a list of n texts.
    """

    params: Params
    member: Tensor
    epoch: Tensor
    metadata: dict[str, Column]

    @classmethod
    def of(
        cls,
        trained: Trained,
        members: Tensor,
        *,
        metrics: Mapping[str, Tensor],
        own: Mapping[str, Column],
    ) -> Rows:
        """Snapshots one after another, without diverged members, on the processor.

        ``metrics`` have a value per row, ``own`` one per member.
        """
        times = len(trained.steps)
        params = {
            name: torch.cat([snapshot[name] for snapshot in trained.snapshots]).cpu()
            for name in trained.snapshots[0]
        }
        columns: dict[str, Column] = {name: value.cpu() for name, value in metrics.items()}
        columns |= {name: _repeated(value, times) for name, value in own.items()}
        epoch = torch.tensor(trained.steps).repeat_interleave(len(members))
        rows = cls(params, members.repeat(times), epoch, columns)
        return rows.select(trained.finite.repeat(times))

    @classmethod
    def cat(cls, parts: Sequence[Rows]) -> Rows:
        """All rows of ``parts``, one after another."""
        first = parts[0]
        if len(parts) == 1:
            return first
        return cls(
            {name: torch.cat([part.params[name] for part in parts]) for name in first.params},
            torch.cat([part.member for part in parts]),
            torch.cat([part.epoch for part in parts]),
            {name: _cat([part.metadata[name] for part in parts]) for name in first.metadata},
        )

    def select(self, keep: Tensor) -> Rows:
        """The rows where ``keep`` (n,) is true."""
        place = keep.nonzero()[:, 0]
        metadata = {
            name: value[place] if isinstance(value, Tensor) else [value[i] for i in place.tolist()]
            for name, value in self.metadata.items()
        }
        return Rows(
            {name: t[place] for name, t in self.params.items()},
            self.member[place],
            self.epoch[place],
            metadata,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe(abc.ABC):
    """What every population has: descriptions of architecture and task, members, steps, snapshots.

    ``snapshots`` are numbers of updates; a row's ``epoch`` is that number. ``chunk`` members are
    trained at once. ``splits`` counts the members for train, val and test: test are the last
    members, val is drawn from the others. By default 80, 10 and 10 % are drawn.
    """

    architecture: Mapping[str, Any]
    task: Mapping[str, Any]
    members: int
    steps: int
    snapshots: tuple[int, ...]
    seed: int = 0
    chunk: int = 64
    splits: tuple[int, int, int] | None = None

    @property
    @abc.abstractmethod
    def columns(self) -> Mapping[str, type]:
        """Metadata columns and their types."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "snapshots", tuple(self.snapshots))
        for name in ("members", "steps", "chunk"):
            if getattr(self, name) < 1:
                raise ZooError(f"{name}: is {getattr(self, name)}, but at least 1 is needed")
        if self.splits is not None:
            object.__setattr__(self, "splits", _counts(self.splits, self.members))

    @property
    def description(self) -> dict[str, Any]:
        """The recipe as plain data with ``_target_``: what the file keeps and the hash covers."""
        fields = json.loads(json.dumps(dataclasses.asdict(self)))
        if self.splits is None:  # files made before there were splits keep their hash
            del fields["splits"]
        return {"_target_": f"wsl.zoo.{type(self).__name__}", **fields}

    @property
    def hash(self) -> str:
        """Content hash of the description."""
        return _digest(self.description)

    def build(
        self,
        path: str | Path,
        *,
        progress: Callable[[int, int], None] | None = None,
        data_root: str | Path | None = None,
        executor: Executor | None = None,
        engine: Engine | None = None,
    ) -> Zoo:
        """Train the population into the zoo file ``path``, or open it if it is there already.

        ``progress`` is called with the number of members done and the number of all. ``data_root``
        is the folder of the files that some tasks read, ``executor`` who trains the chunks, by
        default this process; ``engine`` says whether to compile, by default where it pays. Raises
        `ZooError` if the file holds something else.
        """
        path, executor = Path(path), executor or Serial()
        if path.exists():
            return _finished(path, self.description)
        executor.check()
        writer = self._writer(path, self._task(data_root))
        prepare = self._prepare(engine, data_root=data_root, device=executor.device)
        self._train_missing(writer, executor.run, prepare, progress=progress)
        return Zoo(writer.finalize(self._split, self.seed, notes=self._diverged))

    def trainer(
        self,
        *,
        data_root: str | Path | None = None,
        compiled: bool | None = None,
        repeats: int = 1,
        device: str = "cpu",
    ) -> Trainer:
        """A function that trains any of the members on ``device``.

        It keeps data and compiled code: make one, use it often.
        """
        return self._trainer(self._task(data_root).to(device), Engine(compiled, repeats=repeats))

    def _prepare(self, engine: Engine | None, **where: Any) -> Callable[[], Trainer]:
        """What a worker calls once: plain values only, since it may be sent to another process."""
        engine = engine or Engine(repeats=len(self._chunks))
        return functools.partial(
            self.trainer, compiled=engine.compiled, repeats=engine.repeats, **where
        )

    def _train_missing(
        self,
        writer: ZooWriter,
        run: Callable[..., Iterator[tuple[str, Rows]]],
        prepare: Callable[[], Trainer],
        *,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        """Train every chunk whose shard is not there, and write it as soon as it comes."""
        missing = {key: members for key, members in self._chunks.items() if not writer.has(key)}
        done = self.members - sum(map(len, missing.values()))
        for key, trained in run(prepare, missing):
            rows = _without_diverged(trained)
            writer.append(
                key, rows.params, member=rows.member, epoch=rows.epoch, metadata=rows.metadata
            )
            done += len(missing[key])
            if progress is not None:
                progress(done, self.members)

    @property
    def _split(self) -> Split:
        """What draws the splits, or says those that the recipe fixes."""
        if self.splits is None:
            return (0.8, 0.1, 0.1)
        return functools.partial(split_last, counts=self.splits, seed=self.seed)

    def _diverged(self, members: np.ndarray) -> dict[str, Any]:
        """Which members a finished build left out."""
        return {"diverged": sorted(set(range(self.members)) - set(members.tolist()))}

    @property
    def _chunks(self) -> dict[str, Tensor]:
        """Members of each chunk, by the content hash of the recipe and their range."""
        chunks = torch.arange(self.members).split(self.chunk)
        return {
            _digest({**self.description, "range": [int(chunk[0]), int(chunk[-1])]}): chunk
            for chunk in chunks
        }

    def _task(self, data_root: str | Path | None) -> Any:
        data = task(self.task, data_root)
        self._check(data)
        return data

    def _writer(self, path: Path, data: Any) -> ZooWriter:
        model, inputs = build_architecture(self.architecture), self._example_input(data)
        return ZooWriter(
            path,
            spec=permutation_spec(model.eval(), inputs),
            like=from_module(model),
            buffers=[name for name, _ in model.named_buffers()],
            architecture=dict(self.architecture),
            provenance=self._provenance(data),
            columns=self.columns,
        )

    def _provenance(self, data: Any) -> dict[str, Any]:
        return {
            "recipe": self.description,
            "hash": self.hash,
            "task": dict(self.task),
            "input_shape": list(data.input_shape),
            "data": dict(data.files),
        }

    def seeds(self, members: Tensor) -> Tensor:
        """Seed of each member, below 2^31."""
        return counter.bits(self.seed, 0, members) >> 22

    def draw(self, members: Tensor, stream: int) -> Tensor:
        """Uniform in [0, 1), one per member and independent between streams (1, 2, ...)."""
        return counter.uniform(self.seed, stream, members)

    @abc.abstractmethod
    def _check(self, data: Any) -> None:
        """Raise `ZooError` if the task does not fit."""

    @abc.abstractmethod
    def _example_input(self, data: Any) -> Tensor: ...

    @abc.abstractmethod
    def _trainer(self, data: Any, engine: Engine) -> Trainer: ...


def _without_diverged(rows: Rows) -> Rows:
    """Without every member that has a metric which is not finite, at any snapshot."""
    numbers = {name: value for name, value in rows.metadata.items() if isinstance(value, Tensor)}
    return rows.select(~torch.isin(rows.member, rows.member[~finite_members(numbers)]))


def _repeated(column: Column, times: int) -> Column:
    return column.repeat(times) if isinstance(column, Tensor) else column * times


def _cat(parts: Sequence[Column]) -> Column:
    tensors = [part for part in parts if isinstance(part, Tensor)]
    if tensors:
        return torch.cat(tensors)
    return [str(text) for part in parts for text in part]


def _counts(splits: Any, members: int) -> tuple[int, ...]:
    counts = tuple(splits) if isinstance(splits, Sequence) else ()
    if (
        len(counts) != 3
        or not all(isinstance(count, int) and count >= 0 for count in counts)
        or sum(counts) != members
    ):
        raise ZooError(
            f"splits: {splits} are not three counts (train, val, test) that sum to the {members} "
            "members; "
            "null draws 80, 10 and 10 % of them"
        )
    return counts


def _finished(path: Path, wanted: Mapping[str, Any]) -> Zoo:
    """The zoo at ``path``, if it is of the recipe ``wanted``.

    Its chunk may be another: members do not depend on it.
    """
    zoo = Zoo(path)
    found = zoo.provenance.get("recipe") or {}
    differ = [
        name
        for name in sorted({*found, *wanted} - {"chunk"})
        if found.get(name) != wanted.get(name)
    ]
    if differ:
        whose = f"another recipe (other {', '.join(differ)})" if found else "no recipe"
        raise ZooError(f"{path}: holds a zoo of {whose}; choose another path or remove the file")
    return zoo


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]
