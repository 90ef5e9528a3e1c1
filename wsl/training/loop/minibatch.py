"""The minibatch loop by which functionals, codes, diffusion models and learned optimisers train.

    g_t = clip(grad loss_t(theta)),    theta <- optimiser(theta, g_t, rate_t),    t = 0, 1, ...

`Hardware` says where it runs and in which precision, `Descent` takes the steps, `Saved` is the file
that an interrupted run goes on from, and `bar` shows how far it has come. A loop decides two things
of its own: the loss of a step, and what happens after it. Losses and norms stay on their device
until the steps are done, so that an accelerator is not waited for.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, distributed, nn
from tqdm import tqdm

from wsl.base import Progress, replacing
from wsl.training.loop.ranks import ALONE, Ranks

if TYPE_CHECKING:
    from lightning_fabric import Fabric


@dataclasses.dataclass(frozen=True)
class Hardware:
    """Where a loop runs: ``devices`` of an ``accelerator`` on each of ``nodes`` machines.

    There is one process for each device. ``precision`` is Fabric's.
    """

    accelerator: str = "auto"
    devices: Any = 1
    precision: Any = "32-true"
    nodes: int = 1

    @classmethod
    def of(cls, module: nn.Module) -> Hardware:
        """The device that a module lies on."""
        device = next(module.parameters()).device
        return cls(device.type, 1 if device.type == "cpu" else [device.index or 0])

    @property
    def processes(self) -> int:
        """How many processes train on this machine."""
        if isinstance(self.devices, list | tuple):
            return len(self.devices)
        counted = isinstance(self.devices, int) and self.devices > 0
        return self.devices if counted else max(1, torch.cuda.device_count())

    def resolved(self) -> Hardware:
        """With the processes that torchrun has started, where it has.

        Raises ValueError if others are asked for.
        """
        if not (distributed.is_available() and distributed.is_torchelastic_launched()):
            return self
        here, all_of_them = (int(os.environ[name]) for name in ("LOCAL_WORLD_SIZE", "WORLD_SIZE"))
        if (self.processes, self.nodes) not in ((1, 1), (here, all_of_them // here)):
            raise ValueError(
                f"devices={self.devices} and nodes={self.nodes}, but torchrun started {here} of "
                f"{all_of_them} processes on this machine; leave both out, or ask for the same"
            )
        return dataclasses.replace(self, devices=here, nodes=all_of_them // here)

    def check(self) -> None:
        """Raise ValueError for GPUs that this machine does not have; nothing is claimed."""
        here = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if self.accelerator not in ("cuda", "gpu") or torch.backends.mps.is_available():
            return
        if not here:
            raise ValueError(
                f"accelerator={self.accelerator}, but this machine has no GPU that torch can use; "
                "set accelerator to auto or cpu"
            )
        if self.processes > here:
            raise ValueError(
                f"devices={self.devices}, but this machine has {here} GPUs; ask for no more"
            )

    def start(self) -> Fabric:
        """Claim the devices, and meet the other processes.

        Raises ValueError where Fabric does not know them or the machine does not have them.
        """
        from lightning_fabric import Fabric  # seconds to import, for those who train
        from lightning_fabric.utilities.exceptions import MisconfigurationException

        self.check()
        found, many = self.resolved(), {}
        if found.processes * found.nodes > 1:
            from wsl.training.loop.averaged import AveragedGradients

            many = {"strategy": AveragedGradients(), "num_nodes": found.nodes}
            logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # its banner
        named = {
            "accelerator": found.accelerator,
            "devices": found.devices,
            "precision": found.precision,
        }
        try:
            fabric = Fabric(**named, **many)
        except (RuntimeError, TypeError, ValueError, MisconfigurationException) as error:
            told = ", ".join(f"{name}={value}" for name, value in named.items())
            raise ValueError(f"{told}: {error}") from None
        fabric.launch()
        return fabric


class Descent:
    """A network and its optimiser on their device, in their precision, and the steps they take.

    A loss calls ``network``, which brings its inputs into the precision asked for. One that calls
    parts of it instead needs ``autocast``: it runs in that precision as a whole.
    clip: the largest norm of a gradient. schedule: torch's, moved on after every step.
    """

    def __init__(
        self,
        fabric: Fabric,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        clip: float = 1.0,
        schedule: torch.optim.lr_scheduler.LRScheduler | None = None,
        autocast: bool = False,
    ) -> None:
        self.fabric, self.clip, self.schedule, self.autocast = fabric, clip, schedule, autocast
        self.network, self.optimizer = fabric.setup(network, optimizer)
        self.ranks = Ranks(fabric.global_rank, fabric.world_size)
        self.ranks.copy(network.state_dict().values())

    @property
    def device(self) -> torch.device:
        """Where batches are wanted."""
        return self.fabric.device

    def run(
        self,
        loss: Callable[[int], Tensor],
        steps: Iterable[int],
        *,
        rate: Callable[[int], Any] | None = None,
        after: Callable[[int], Any] | None = None,
        progress: Progress | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Go down ``loss(step)`` for each of ``steps``; gives losses and gradient norms (steps,).

        rate: called before a step, to set the learning rate. after: called when it is taken.
        progress: called with the number of steps taken and the loss.
        """
        losses, norms = [], []
        for step in steps:
            if rate is not None:
                rate(step)
            with self.fabric.autocast() if self.autocast else contextlib.nullcontext():
                value = loss(step)
            norms.append(self._update(value))
            losses.append(value.detach())
            if after is not None:
                after(step)
            if progress is not None:
                progress(step + 1, float(losses[-1]))
        return torch.stack(losses), torch.stack(norms)

    def _update(self, loss: Tensor) -> Tensor:
        self.optimizer.zero_grad()
        self.fabric.backward(loss)
        self.ranks.average([p.grad for p in self.network.parameters() if p.grad is not None])
        norm = self.fabric.clip_gradients(
            self.network, self.optimizer, max_norm=self.clip, error_if_nonfinite=False
        )
        self.optimizer.step()
        if self.schedule is not None:
            self.schedule.step()
        return norm  # pyright: ignore[reportReturnType] - Fabric gives it, its strategies may not


@dataclasses.dataclass(frozen=True)
class RandomRows:
    """How a module is trained on rows of one tensor, drawn with replacement.

    hardware: None leaves the module on the device where it lies; it returns there in any case.
    """

    batch_size: int = 64
    lr: float = 1e-3
    hardware: Hardware | None = None

    @contextlib.contextmanager
    def descent(self, module: nn.Module, optimizer: Any, schedule: Any) -> Iterator[Descent]:
        """The module on its hardware, for as long as the context lasts.

        Raises ValueError for more than one process, since each would draw the same rows.
        """
        home = next(module.parameters())
        device, dtype = home.device, home.dtype
        hardware = (self.hardware or Hardware.of(module)).resolved()
        if hardware.processes * hardware.nodes > 1:
            raise ValueError(
                f"devices={hardware.devices} and nodes={hardware.nodes}, but "
                f"{type(module).__name__} trains in one process; set both to 1"
            )
        fabric = hardware.start()
        try:
            yield Descent(fabric, module, optimizer, schedule=schedule, autocast=True)
        finally:
            module.to(device, dtype)

    def draw(self, count: int, rng: torch.Generator) -> Tensor:
        """Numbers (batch_size,) of rows, of ``count`` that there are."""
        return torch.randint(count, (self.batch_size,), generator=rng)


@dataclasses.dataclass(frozen=True)
class Saved:
    """The file that an interrupted run goes on from, if it has one.

    identity: what the state belongs to. parts: what the identity is made of, in words, for the
    error where the file is another run's. ranks: the first of them reads and writes.
    """

    path: Path | None
    identity: str
    parts: str
    ranks: Ranks = ALONE

    def read(self) -> dict[str, Any] | None:
        """The state that was written last, None if there is none; the same for all processes.

        Raises ValueError if the file belongs to another run.
        """
        state, other = self.ranks.same(self._read() if self.ranks.first else (None, False))
        if other:
            raise ValueError(
                f"{self.path} belongs to another run (other {self.parts}); choose another folder "
                "or delete the file"
            )
        return state

    def _read(self) -> tuple[dict[str, Any] | None, bool]:
        """The state, and whether it is another run's."""
        if self.path is None or not self.path.exists():
            return None, False
        state = torch.load(self.path, weights_only=True, map_location="cpu")
        other = state.get("identity") != self.identity
        return (None if other else state), other

    def write(self, state: Mapping[str, Any]) -> None:
        """Replace the file, once the new one is whole."""
        if self.path is None or not self.ranks.first:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(self.path) as temporary:
            torch.save({"identity": self.identity, **state}, temporary)


def progress_bar(start: int, total: int, *, unit: str, shown: bool) -> tqdm:
    """What is left of ``total`` rounds as a progress bar, drawn where stderr is a terminal."""
    return tqdm(
        range(start, total),
        disable=None if shown else True,
        initial=start,
        total=total,
        unit=unit,
    )
