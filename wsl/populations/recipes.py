"""A recipe is a population as a value: its fields say everything, `build` makes the zoo file they
describe, once.

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
from collections.abc import Callable, Mapping, Sequence
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
from wsl.zoo import Zoo, ZooError, ZooWriter, split_last

Progress = Callable[[int, int], None]
"""Called with the number of members done and the number of all."""


Trainer = Callable[[Tensor], "Rows"]
"""Members (n,) int64 -> their checkpoints."""


class Rows(NamedTuple):
    """Checkpoints of one chunk: tensors (n, ...), member and epoch (n,), metadata columns of n
    numbers or texts.
    """

    params: Params
    member: Tensor
    epoch: Tensor
    metadata: dict[str, Tensor | list[str]]

    @classmethod
    def of(
        cls,
        trained: Trained,
        members: Tensor,
        metrics: Mapping[str, Tensor],
        own: Mapping[str, Any],
    ) -> Rows:
        """Snapshots one after another, without diverged members; ``metrics`` have a value per row,
        ``own`` one per member.

        Whatever lies on an accelerator is brought to the processor.
        """
        times = len(trained.steps)
        params = {
            name: torch.cat([snapshot[name] for snapshot in trained.snapshots]).cpu()
            for name in trained.snapshots[0]
        }
        metrics = {name: value.cpu() for name, value in metrics.items()}
        epoch = torch.tensor(trained.steps).repeat_interleave(len(members))
        repeated = {
            name: value.repeat(times) if isinstance(value, Tensor) else value * times
            for name, value in own.items()
        }
        return cls(params, members.repeat(times), epoch, {**metrics, **repeated}).select(
            trained.finite.repeat(times)
        )

    @classmethod
    def cat(cls, parts: Sequence[Rows]) -> Rows:
        """All rows of ``parts``, one after another."""
        if len(parts) == 1:
            return parts[0]
        params, metadata = (
            [getattr(part, field) for part in parts] for field in ("params", "metadata")
        )
        member, epoch = (
            torch.cat([getattr(part, field) for part in parts]) for field in ("member", "epoch")
        )
        return cls(
            {name: torch.cat([own[name] for own in params]) for name in params[0]},
            member,
            epoch,
            {name: _cat([own[name] for own in metadata]) for name in metadata[0]},
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
    """What every population has: an architecture and a task (descriptions), a number of members,
    steps and snapshots.

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
        """The recipe as plain data, with ``_target_``; what the file keeps and the hash covers.
        Without splits by default.
        """
        fields = json.loads(json.dumps(dataclasses.asdict(self)))
        if self.splits is None:
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
        progress: Progress | None = None,
        data_root: str | Path | None = None,
        executor: Executor | None = None,
        engine: Engine | None = None,
    ) -> Zoo:
        """Train the population into the zoo file ``path``, or open it if this recipe has made it
        already.

        ``data_root`` is the folder of the files that some tasks read, ``executor`` who trains the
        chunks, by default this process; ``engine`` says whether to compile, by default where it
        pays. Raises `ZooError` if the file holds something else.
        """
        path, executor = Path(path), executor or Serial()
        if path.exists():
            return _finished(path, self.description)
        executor.check()
        chunks = dict(zip(self._keys, torch.arange(self.members).split(self.chunk), strict=True))
        engine = engine or Engine(repeats=len(chunks))
        prepare = functools.partial(
            self.trainer,
            data_root=data_root,
            compiled=engine.compiled,
            repeats=engine.repeats,
            device=executor.device,
        )
        writer = self._writer(path, self._task(data_root))
        missing = {key: members for key, members in chunks.items() if not writer.has(key)}
        done = self.members - sum(map(len, missing.values()))
        for key, rows in executor.run(prepare, missing):
            rows = _without_diverged(rows)
            writer.append(
                key, rows.params, member=rows.member, epoch=rows.epoch, metadata=rows.metadata
            )
            done += len(chunks[key])
            if progress is not None:
                progress(done, self.members)
        drawn = (
            {}
            if self.splits is None
            else {"split": functools.partial(split_last, counts=self.splits, seed=self.seed)}
        )
        return Zoo(writer.finalize(**drawn, seed=self.seed, notes=self._diverged))

    def trainer(
        self,
        *,
        data_root: str | Path | None = None,
        compiled: bool | None = None,
        repeats: int = 1,
        device: str = "cpu",
    ) -> Trainer:
        """A function that trains any of the members on ``device``; it keeps data and compiled code:
        make one, use it often.
        """
        return self._trainer(self._task(data_root).to(device), Engine(compiled, repeats=repeats))

    def _diverged(self, members: np.ndarray) -> dict[str, Any]:
        """Which members a finished build left out."""
        return {"diverged": sorted(set(range(self.members)) - set(members.tolist()))}

    @property
    def _keys(self) -> list[str]:
        starts = range(0, self.members, self.chunk)
        last = [min(start + self.chunk, self.members) - 1 for start in starts]
        return [
            _digest({**self.description, "range": [first, end]})
            for first, end in zip(starts, last, strict=True)
        ]

    def _task(self, data_root: str | Path | None) -> Any:
        data = task(self.task, data_root)
        self._check(data)
        return data

    def _writer(self, path: Path, data: Any) -> ZooWriter:
        model, inputs = build_architecture(self.architecture), self._example_input(data)
        buffers = [name for name, _ in model.named_buffers()]
        provenance = {
            "recipe": self.description,
            "hash": self.hash,
            "task": dict(self.task),
            "input_shape": list(data.input_shape),
            "data": dict(data.files),
        }
        return ZooWriter(
            path,
            spec=permutation_spec(model.eval(), inputs),
            like=from_module(model),
            buffers=buffers,
            architecture=dict(self.architecture),
            provenance=provenance,
            columns=self.columns,
        )

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


def _cat(parts: Sequence[Any]) -> Any:
    return (
        torch.cat(tuple(parts))
        if isinstance(parts[0], Tensor)
        else [text for part in parts for text in part]
    )


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
    """The zoo at ``path`` if it is of the recipe ``wanted``; the chunk may be another, since
    members do not depend on it.
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
