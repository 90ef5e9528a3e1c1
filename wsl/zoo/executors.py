"""Who trains the chunks of a recipe: this process, others on this machine, or a Ray cluster.

    run(prepare, tasks):    trainer = prepare() once per worker;    yield key, trainer(tasks[key]) for every key, in any order

A chunk depends on its members alone, so every executor gives the same rows (to rounding, where machines differ). Workers send
rows back and one process writes, so no file system needs to be shared; data files, where a task reads some, must lie under
the same path for every worker.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import Tensor

Prepare = Callable[[], Callable[[Tensor], Any]]


class Executor(abc.ABC):
    """Runs the chunks of a recipe."""

    @abc.abstractmethod
    def run(self, prepare: Prepare, tasks: Mapping[str, Tensor]) -> Iterator[tuple[str, Any]]:
        """Results of all ``tasks``, as they come."""


@dataclasses.dataclass(frozen=True)
class Serial(Executor):
    """One after another, here."""

    def run(self, prepare: Prepare, tasks: Mapping[str, Tensor]) -> Iterator[tuple[str, Any]]:
        """In order."""
        trainer = prepare()
        for key, members in tasks.items():
            yield key, trainer(members)
