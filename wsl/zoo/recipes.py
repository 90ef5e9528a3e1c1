"""A recipe is a population as a value: its fields say everything, `build` makes the zoo file they describe, once.

    members 0..N-1  ->  chunks  ->  one stacked training and one shard each  ->  one zoo file

Every number of member i (seed, learning rate, ...) is a function of (recipe seed, i). A chunk is a task whose key is the
content hash of the recipe and the chunk's range: an interrupted build, started again, trains only what is missing, and a
finished file of the same recipe is left alone. Members that diverge are dropped: they are the numbers below
``zoo.provenance["recipe"]["members"]`` that the file lacks.
"""

from __future__ import annotations

import abc
import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from wsl.params import Params, from_module
from wsl.symmetry import permutation_spec
from wsl.zoo import counter
from wsl.zoo.architectures import build_architecture
from wsl.zoo.dataset import Zoo
from wsl.zoo.error import ZooError
from wsl.zoo.population import Trained, finite_members
from wsl.zoo.writer import ZooWriter

Progress = Callable[[int, int], None]
"""Called with the number of members done and the number of all."""


class Rows(NamedTuple):
    """Checkpoints of one chunk: tensors (n, ...), member and epoch (n,), metadata columns (n,)."""

    params: Params
    member: Tensor
    epoch: Tensor
    metadata: dict[str, Tensor]

    @classmethod
    def of(cls, trained: Trained, members: Tensor, metrics: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> Rows:
        """Snapshots one after another; ``metrics`` have a value per row, ``own`` one per member."""
        times = len(trained.steps)
        params = {name: torch.cat([snapshot[name] for snapshot in trained.snapshots]) for name in trained.snapshots[0]}
        epoch = torch.tensor(trained.steps).repeat_interleave(len(members))
        return cls(
            params, members.repeat(times), epoch, {**metrics, **{name: value.repeat(times) for name, value in own.items()}}
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe(abc.ABC):
    """What every population has: an architecture and a task (descriptions), a number of members, steps and snapshots.

    ``snapshots`` are numbers of updates; a row's ``epoch`` is that number. ``chunk`` members are trained at once.
    """

    architecture: Mapping[str, Any]
    task: Mapping[str, Any]
    members: int
    steps: int
    snapshots: tuple[int, ...]
    seed: int = 0
    chunk: int = 64

    columns: ClassVar[Mapping[str, type]] = {}
    """Metadata columns and their types."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "snapshots", tuple(self.snapshots))
        for name in ("members", "steps", "chunk"):
            if getattr(self, name) < 1:
                raise ZooError(f"{name}: is {getattr(self, name)}, but at least 1 is needed")

    @property
    def description(self) -> dict[str, Any]:
        """The recipe as plain data, with ``_target_``; what the file keeps and the hash covers."""
        return {"_target_": f"wsl.zoo.{type(self).__name__}", **json.loads(json.dumps(dataclasses.asdict(self)))}

    @property
    def hash(self) -> str:
        """Content hash of the description."""
        return _digest(self.description)

    def build(self, path: str | Path, *, progress: Progress | None = None) -> Zoo:
        """Train the population into the zoo file ``path``, or open it if this recipe has made it already.

        Raises `ZooError` if the file holds something else.
        """
        path = Path(path)
        if path.exists():
            return _finished(path, self.hash)
        writer = self._writer(path)
        for members in torch.arange(self.members).split(self.chunk):
            self._append(writer, members)
            if progress is not None:
                progress(int(members[-1]) + 1, self.members)
        return Zoo(writer.finalize(seed=self.seed))

    def _writer(self, path: Path) -> ZooWriter:
        model, inputs = build_architecture(self.architecture), self._example_input()
        buffers = [name for name, _ in model.named_buffers()]
        provenance = {"recipe": self.description, "hash": self.hash, "task": dict(self.task)}
        return ZooWriter(path, spec=permutation_spec(model.eval(), inputs), like=from_module(model), buffers=buffers,
                         architecture=dict(self.architecture), provenance=provenance, columns=self.columns)  # fmt: skip

    def _append(self, writer: ZooWriter, members: Tensor) -> None:
        key = _digest({**self.description, "range": [int(members[0]), int(members[-1])]})
        if not writer.has(key):
            rows = _without_diverged(self._train(members))
            writer.append(key, rows.params, member=rows.member, epoch=rows.epoch, metadata=rows.metadata)

    def seeds(self, members: Tensor) -> Tensor:
        """Seed of each member, below 2^31."""
        return counter.bits(self.seed, 0, members) >> 22

    def draw(self, members: Tensor, stream: int) -> Tensor:
        """Uniform in [0, 1), one per member and independent between streams (1, 2, ...)."""
        return counter.uniform(self.seed, stream, members)

    @abc.abstractmethod
    def _example_input(self) -> Tensor: ...

    @abc.abstractmethod
    def _train(self, members: Tensor) -> Rows: ...


def _without_diverged(rows: Rows) -> Rows:
    """Without every member that has a number which is not finite, in weights or metadata, at any snapshot."""
    keep = ~torch.isin(rows.member, rows.member[~finite_members(rows.params | rows.metadata)])
    return Rows({name: t[keep] for name, t in rows.params.items()}, rows.member[keep], rows.epoch[keep],
                {name: t[keep] for name, t in rows.metadata.items()})  # fmt: skip


def _finished(path: Path, hash: str) -> Zoo:
    zoo = Zoo(path)
    if zoo.provenance.get("hash") != hash:
        raise ZooError(f"{path}: holds a zoo of another recipe (hash {zoo.provenance.get('hash')}, this one has {hash}); "
                       "choose another path or remove the file")  # fmt: skip
    return zoo


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]
