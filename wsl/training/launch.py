"""`alongside`: start the other processes of a training that a command was asked for.

    rank 0 is the process that the user started;   ranks 1, 2, ... run the same program beside it

What each needs to know stands in its environment (LOCAL_RANK, NODE_RANK, WORLD_SIZE, MASTER_ADDR,
MASTER_PORT), as torchrun writes it; where that, or another launcher, has started all processes,
nothing is started here. Fabric's own launcher would run the script's file again, which a program
called from Python does not have, and ends all processes by SIGKILL, without a word, when one dies.

Only rank 0 speaks. Where a process dies the others' next collective fails; one that does not come
to a collective, or waits in one for good, is ended after `GRACE` seconds.
"""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import multiprocessing.connection
import os
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from torch import distributed
from tqdm import tqdm

from wsl.training.loop import Hardware, LostRank

GRACE = 15.0
"""Seconds that a process has to notice by itself that another has ended."""
ENDED = 2
"""Exit code of a command that ends with one line on stderr."""
RANKS = ("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "SLURM_PROCID")
"""Where launchers write which process this is."""

Program = Callable[[Sequence[str]], int]
"""A command line: words to exit code."""


def is_first(hardware: Hardware) -> bool:
    """Whether this process of ``hardware`` writes and speaks, asked before they have met."""
    found = hardware.resolved()
    alone = found.processes * found.nodes == 1  # one of many that a scheduler started side by side
    return alone or all(int(os.environ.get(name, 0)) == 0 for name in RANKS)


@contextlib.contextmanager
def alongside(hardware: Hardware, program: Program, words: Sequence[str]) -> Iterator[None]:
    """Within it this process is the first of ``hardware``, and the others run ``program(words)``.

    Raises ValueError where several machines have no address to meet at, and `LostRank`, with what
    is known of the reason, when another process ends early.
    """
    if hardware.processes * hardware.nodes == 1 or _launched_by_others():
        yield
        return
    shared = _environment(hardware)
    with _set(shared):
        others = _Others(program, words, shared, count=hardware.processes)
        try:
            yield
        except LostRank as error:
            raise LostRank(f"{others.reason()}{error}") from error
        finally:
            others.leave()


class _Others:
    """The processes beside this one, and the thread that looks after them."""

    def __init__(
        self, program: Program, words: Sequence[str], shared: Mapping[str, str], *, count: int
    ) -> None:
        spawn, self.pipes, self.members = multiprocessing.get_context("spawn"), [], []
        for rank in range(1, count):
            here, there = spawn.Pipe(duplex=False)
            told = {**shared, "LOCAL_RANK": str(rank)}
            member = spawn.Process(
                target=_follow, args=(program, list(words), told), kwargs={"pipe": there}
            )
            member.start()
            there.close()
            self.pipes.append(here)
            self.members.append(member)
        self.left, self.asking = threading.Event(), threading.Lock()
        threading.Thread(target=self._watch, daemon=True).start()

    def reason(self) -> str:
        """What is known of a process that has ended early; waits for it to end."""
        multiprocessing.connection.wait([m.sentinel for m in self.members], timeout=GRACE)
        for rank, (member, pipe) in enumerate(zip(self.members, self.pipes, strict=True), start=1):
            code = self._exit_code(member)
            if code is not None and code < 0:
                name = signal.Signals(-code).name
                return f"process {rank} of {len(self.members) + 1} was ended by {name}: "
            said = _received(pipe)
            if said:
                return f"process {rank} of {len(self.members) + 1} failed ({said}): "
        return ""

    def _exit_code(self, member: Any) -> int | None:
        """The exit code of a process, None while it runs.

        One thread at a time: the system tells it once, to whoever asks first.
        """
        with self.asking:
            if multiprocessing.connection.wait([member.sentinel], timeout=0):
                member.join()  # it has ended, or is about to: its code is collected here
            return member.exitcode

    def leave(self) -> None:
        """Wait until the others have ended, and see to it that they do."""
        self.left.set()
        if distributed.is_initialized():
            distributed.destroy_process_group()
        for member in self.members:
            multiprocessing.connection.wait([member.sentinel], timeout=GRACE)
            if self._exit_code(member) is None:
                member.kill()
                member.join()

    def _watch(self) -> None:
        """End everything where a process has died and this one does not notice."""
        while not self.left.wait(1.0):
            if any(map(self._exit_code, self.members)) and not self.left.wait(GRACE):
                sys.stderr.write(f"{self.reason()}the others were ended\n")
                sys.stderr.flush()
                for member in self.members:
                    member.kill()
                os._exit(ENDED)


def _follow(
    program: Program, words: Sequence[str], environment: Mapping[str, str], *, pipe: Any
) -> None:
    """Run the program beside the first process; say nothing but to it, or where it has gone."""
    os.environ.update(environment)
    tqdm.set_lock(threading.RLock())  # its own is a semaphore, which a killed process would leak
    first = multiprocessing.parent_process()
    threading.Thread(target=_end_with, args=(first,), daemon=True).start()
    code, told = _heard(program, words)
    if code:
        with contextlib.suppress(OSError):
            pipe.send(told)
        if first is not None and not first.is_alive():
            sys.stderr.write(told)
    sys.exit(code)


def _heard(program: Program, words: Sequence[str]) -> tuple[int, str]:
    """The exit code of a program, and what it would have written to stderr."""
    told = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(told):
        try:
            code = program(words)
        except KeyboardInterrupt:
            code = 128 + signal.SIGINT
        except BaseException:  # noqa: BLE001 - told to the first process, which tells the user
            traceback.print_exc()
            code = 1
    return code, told.getvalue()


def _end_with(first: Any) -> None:
    """End once the first process has, after the time there is to notice it in another way."""
    first.join()
    threading.Event().wait(GRACE)
    os._exit(ENDED)


def _received(pipe: Any) -> str:
    """The last line that a process left, if it was another error than the loss of a process."""
    try:
        lines = pipe.recv().strip().splitlines() if pipe.poll(1.0) else []
    except (EOFError, OSError):
        return ""
    return "" if not lines or "another process of this training" in lines[-1] else lines[-1]


def _launched_by_others() -> bool:
    """Whether torchrun, a scheduler or a user has started all processes."""
    if "LOCAL_RANK" in os.environ:
        return True
    from lightning_fabric.plugins.environments.lsf import LSFEnvironment
    from lightning_fabric.plugins.environments.mpi import MPIEnvironment
    from lightning_fabric.plugins.environments.slurm import SLURMEnvironment

    return any(kind.detect() for kind in (SLURMEnvironment, LSFEnvironment, MPIEnvironment))


def _environment(hardware: Hardware) -> dict[str, str]:
    """What all processes of this machine are told."""
    given = {name: os.environ.get(name) for name in ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK")}
    if hardware.nodes > 1 and None in given.values():
        raise ValueError(
            f"settings.nodes={hardware.nodes}: start the command on every machine by torchrun, or "
            "with MASTER_ADDR, MASTER_PORT and NODE_RANK in its environment"
        )
    alone = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port()), "NODE_RANK": "0"}
    found = {name: value or alone[name] for name, value in given.items()}
    if hardware.nodes == 1:
        found = alone
    return {**found, "LOCAL_RANK": "0", "WORLD_SIZE": str(hardware.processes * hardware.nodes)}


def _free_port() -> int:
    with socket.socket() as here:
        here.bind(("127.0.0.1", 0))
        return here.getsockname()[1]


@contextlib.contextmanager
def _set(environment: Mapping[str, str]) -> Iterator[None]:
    """These variables, and afterwards what was there."""
    before = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
