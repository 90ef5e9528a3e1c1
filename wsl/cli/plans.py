"""The plan of a merge, printed before anything is read or written: ``--dry-run``."""

from __future__ import annotations

import collections
from collections.abc import Sequence

from wsl.cli.terminal import answer, say
from wsl.merging import streamed

_SHOWN = 12
"""Kinds of tensors that get a line; a gradient over depth makes one for each layer."""


def say_plan(
    steps: Sequence[streamed.Step], members: Sequence[str], base: str | None, *, threads: int
) -> None:
    """Members, base, what becomes of which tensors, bytes to read and to write, memory.

    As a document the same under ``plan``, with every kind of tensor.
    """
    say(f"members   {len(members)}, as they are: {', '.join(members)}")
    say(f"base      {base or 'none'}")
    kinds: dict[str, list[streamed.Step]] = collections.defaultdict(list)
    for step in steps:
        kinds[_what(step)].append(step)
    for what, made in list(kinds.items())[:_SHOWN]:
        say(f"tensors   {len(made):>5}  {what}  ({made[0].name}{', ...' * (len(made) > 1)})")
    if len(kinds) > _SHOWN:
        rest = sum(len(made) for made in list(kinds.values())[_SHOWN:])
        say(f"tensors   {rest:>5}  in {len(kinds) - _SHOWN} more ways")
    told = streamed.cost(steps)
    plan = {"members": [*members], "base": base, "in_memory": False, "threads": threads}
    ways = [{"how": how, "tensors": [step.name for step in made]} for how, made in kinds.items()]
    answer({"plan": {**plan, "ways": ways, **told._asdict()}})
    say(f"read      {told.read / 1e6:.1f} MB, write {told.written / 1e6:.1f} MB")
    say(f"memory    about {told.held / 1e6:.0f} MB at the peak, {threads} threads")


def _what(step: streamed.Step) -> str:
    """How a tensor comes about; running statistics and counters have no task vectors."""
    from_base = " and the base" if step.base is not None else ""
    kind = str(step.kind).removeprefix("torch.")
    if not step.members[0].dtype.is_floating_point:
        return f"of the first member, {kind}"
    if step.is_statistic:
        return f"mean of {len(step.members)}, {kind}"
    return f"{step.method!r} of {len(step.members)}{from_base}, {kind}"
