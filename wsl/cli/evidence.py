"""What ``wsl match`` writes and says of a match: how near it brought B, and how it ended."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wsl.cli.terminal import say
from wsl.matching import Match


def evidence(found: Match, before: float, after: float) -> dict[str, Any]:
    """A match as JSON, with the distances of A to B and to B as it was aligned."""
    return {
        "objective": found.objective,
        "sweeps": found.sweeps,
        "converged": found.converged,
        "distance_before": before,
        "distance_after": after,
    }


def tell(out: Path, told: Mapping[str, Any]) -> None:
    """Say so in one line; ``told`` is a result with its `evidence`."""
    say(
        f"{out}: distance {told['distance_before']:.4f} -> {told['distance_after']:.4f} "
        f"in {told['sweeps']} sweeps" + ("" if told["converged"] else ", NOT converged")
    )
    if (error := told.get("function_error")) is not None:
        say(f"{out}: computes what B did, relative error {error:.1e}")
