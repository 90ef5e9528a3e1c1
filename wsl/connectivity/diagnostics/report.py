"""All that is known of one pair in one value: what `wsl connect --report` writes as a page."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from torch import Tensor, nn

from wsl.connectivity.diagnostics.inputs import InputAlignment, input_alignment
from wsl.connectivity.diagnostics.singular import (
    SingularAlignment,
    SingularSpectra,
    singular_alignment,
    singular_spectra,
)
from wsl.connectivity.diagnostics.taylor import Loss, TaylorBarrier, taylor_barrier
from wsl.connectivity.diagnostics.weights import LayerDistances, layer_distances
from wsl.connectivity.interpolate import lerp
from wsl.connectivity.paths import PathLosses
from wsl.connectivity.planes import PlaneLosses
from wsl.connectivity.repairs import Batches


@dataclasses.dataclass(frozen=True, eq=False)
class ConnectivityReport:
    """The diagnostics of a pair a, b, with b' for b as it was aligned.

    alignment: R(gamma) of the pairs ``a, b``, ``a, b'``, and of both with their mean.
    inputs: of a, where a network and inputs were given. taylor: of the lines to b and to b', where
    a loss was given. plane: through a third network, if there is one.
    """

    paths: Mapping[str, PathLosses]
    distances: LayerDistances
    spectra: SingularSpectra
    alignment: Mapping[str, SingularAlignment]
    inputs: InputAlignment | None = None
    taylor: Mapping[str, TaylorBarrier] = dataclasses.field(default_factory=dict)
    plane: PlaneLosses | None = None


def report(
    a: Mapping[str, Tensor],
    b: Mapping[str, Tensor],
    aligned: Mapping[str, Tensor],
    *,
    paths: Mapping[str, PathLosses],
    probe: tuple[nn.Module, Batches] | None = None,
    loss: Loss | None = None,
    plane: PlaneLosses | None = None,
) -> ConnectivityReport:
    """Every diagnostic of a pair; ``aligned`` is b as a matcher brought it to a.

    paths: losses by the name of the line, such as naive and matched.
    probe: the network and inputs without labels, for the alignment of inputs.
    loss: for the expansion of the barrier; differentiable twice, of a few hundred samples.
    """
    ends = {} if loss is None else {"naive": b, "matched": aligned}
    return ConnectivityReport(
        dict(paths),
        layer_distances(a, b, aligned),
        singular_spectra(a, aligned),
        _alignments(a, b, aligned),
        None if probe is None else input_alignment(probe[0], a, probe[1]),
        {name: taylor_barrier(loss, a, end) for name, end in ends.items() if loss is not None},
        plane,
    )


def _alignments(
    a: Mapping[str, Tensor], b: Mapping[str, Tensor], aligned: Mapping[str, Tensor]
) -> dict[str, SingularAlignment]:
    """R of a with b and b', and of both a and b' with their mean."""
    middle = lerp(a, aligned, 0.5)
    pairs = {"a, b": (a, b), "a, b'": (a, aligned), "a, mean": (a, middle)}
    pairs["b', mean"] = (aligned, middle)
    return {name: singular_alignment(*pair) for name, pair in pairs.items()}
