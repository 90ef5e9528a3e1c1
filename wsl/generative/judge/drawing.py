"""One draw of every arm, under equal conditions.

All arms are drawn in their order from one generator that the start's seed seeds. Where the judged
generator measures the statistics of batch norm of what it draws, those of every arm are measured
in the same way on the same inputs: statistics that belong to other weights cost an average or a
noisy member most of its accuracy, and a generator would seem to beat it by that alone. A default
start and a member as it is are no exceptions.

An arm that cannot be drawn does not end a trial, and is named with what it lacks; the generator
that is judged does.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from wsl.generative.problem import Initializer, Start
from wsl.generative.starts import starting_weights
from wsl.params import Params

GENERATED = "generated"
"""The arm of the generator that is judged."""


def drawn_arms(
    start: Start, arms: Mapping[str, Initializer], n: int
) -> tuple[dict[str, Params], dict[str, str]]:
    """The weights (n, ...) of each arm; of those that cannot be drawn, what they lack or refuse.

    Raises ValueError only where `GENERATED` cannot be drawn.
    """
    drawn, left_out, rng = {}, {}, torch.Generator().manual_seed(start.seed)
    for name, method in arms.items():
        lacking = [need for need in sorted(method.needs) if getattr(start, need) is None]
        if lacking and name != GENERATED:
            left_out[name] = f"{type(method).__name__} needs {lacking[0]}"
            continue
        try:
            drawn[name] = drawn_alike(method, start, n, generator=rng)
        except ValueError as error:
            if name == GENERATED:
                raise
            left_out[name] = str(error)
    return drawn, left_out


def drawn_alike(method: Initializer, start: Start, n: int, *, generator: torch.Generator) -> Params:
    """Weights (n, ...) of one arm, batch norm measured as the generator that is judged does it."""
    drawn = starting_weights(method, start, n, generator=generator)
    return drawn if start.recalibration is None else start.recalibration(drawn)
