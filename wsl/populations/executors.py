"""Who trains the chunks of a recipe: this process, others on this machine, or a Ray cluster.

    run(prepare, tasks):    trainer = prepare()                    once per worker
                            yield key, trainer(tasks[key])         for every key, in any order

A chunk depends on its members alone, so every executor gives the same rows (to rounding, where
machines differ). Workers send rows back and one process writes, so no file system needs to be
shared; data files, where a task reads some, must lie under the same path for every worker.
``device`` is where a worker trains: on an accelerator give chunks of thousands of members.
"""

from __future__ import annotations

import abc
import concurrent.futures
import dataclasses
import logging
import multiprocessing
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from wsl.zoo import ZooError

Prepare = Callable[[], Callable[[Tensor], Any]]
"""Can be sent to another process, and makes there what trains chunks."""


class Executor(abc.ABC):
    """Runs the chunks of a recipe, on ``device``."""

    device: str

    def check(self) -> None:
        """Raise `ZooError` if this machine has no such device."""
        try:
            torch.empty(0, device=self.device)
        except (RuntimeError, AssertionError) as error:
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise ZooError(
                f"executor.device: {self.device!r} cannot be used here ({reason}); use 'cpu', or "
                "a device that "
                "torch finds"
            ) from None

    @abc.abstractmethod
    def run(self, prepare: Prepare, tasks: Mapping[str, Tensor]) -> Iterator[tuple[str, Any]]:
        """Results of all ``tasks``, as they come."""


@dataclasses.dataclass(frozen=True)
class Serial(Executor):
    """One after another, here."""

    device: str = "cpu"

    def run(self, prepare: Prepare, tasks: Mapping[str, Tensor]) -> Iterator[tuple[str, Any]]:
        """In order."""
        trainer = prepare()
        for key, members in tasks.items():
            yield key, trainer(members)


@dataclasses.dataclass(frozen=True)
class Processes(Executor):
    """``workers`` processes on this machine, with ``threads`` each."""

    workers: int
    threads: int = 1
    device: str = "cpu"

    def run(self, prepare: Prepare, tasks: Mapping[str, Tensor]) -> Iterator[tuple[str, Any]]:
        """As they are done."""
        context = multiprocessing.get_context("spawn")
        with concurrent.futures.ProcessPoolExecutor(
            self.workers, context, _start, (prepare, self.threads)
        ) as pool:
            waiting = [pool.submit(_train, key, members) for key, members in tasks.items()]
            try:
                yield from (future.result() for future in concurrent.futures.as_completed(waiting))
            finally:
                pool.shutdown(cancel_futures=True)


@dataclasses.dataclass(frozen=True)
class Ray(Executor):
    """A Ray cluster (extra ``ray``) with ``cpus`` and ``gpus`` for each worker.

    ``address`` is the cluster's, ``auto`` the one this machine belongs to; None starts one here and
    stops it afterwards. ``workers`` None are as many as the cluster has room for.
    """

    address: str | None = None
    workers: int | None = None
    cpus: int = 1
    gpus: float = 0.0
    device: str = "cpu"

    def check(self) -> None:
        """Nothing: the device is the workers', on other machines."""

    def run(self, prepare: Prepare, tasks: Mapping[str, Tensor]) -> Iterator[tuple[str, Any]]:
        """As they are done; raises `ZooError` when ray is not installed."""
        try:
            import ray  # pyright: ignore[reportMissingImports] (an extra, and seconds to import)
        except ImportError:
            raise ZooError(
                "executor ray: the package is not installed; pip install weight-space-learning[ray]"
            ) from None
        ray.init(address=self.address, log_to_driver=False, logging_level=logging.ERROR)
        try:
            worker = ray.remote(num_cpus=self.cpus, num_gpus=self.gpus)(_Worker)
            count = self.workers or self._room(ray.cluster_resources())
            workers = [worker.remote(prepare, self.cpus) for _ in range(min(count, len(tasks)))]
            pool: Any = ray.util.ActorPool(workers)
            send = lambda actor, task: actor.train.remote(*task)  # noqa: E731
            yield from pool.map_unordered(send, list(tasks.items()))
        finally:
            ray.shutdown()

    def _room(self, resources: Mapping[str, float]) -> int:
        rooms = [resources.get("CPU", 1) // self.cpus]
        if self.gpus:
            rooms.append(resources.get("GPU", 0) // self.gpus)
        return max(int(min(rooms)), 1)


class _Worker:
    """What one process trains with."""

    def __init__(self, prepare: Prepare, threads: int) -> None:
        torch.set_num_threads(threads)
        self._trainer = prepare()

    def train(self, key: str, members: Tensor) -> tuple[str, Any]:
        return key, self._trainer(members)


_here: list[_Worker] = []
"""In a process of `Processes`: its worker."""


def _start(prepare: Prepare, threads: int) -> None:
    _here[:] = [_Worker(prepare, threads)]


def _train(key: str, members: Tensor) -> tuple[str, Any]:
    return _here[0].train(key, members)
