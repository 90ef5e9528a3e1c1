"""Super weights: single entries that make the largest value of a layer, found in one forward pass.

    i = argmax |y| over output channels,   j = argmax |x| over input channels  of one layer
    candidate W_ij,   spikes:  max |x| / median |x|  and  max |y| / median |y|
    share = |W_ij x_j| / |y_i|  at the position of the largest output

Yu, Wang, Shan, Reed, Wan (2024), "The super weight in large language models", section 3.1, arXiv
2411.07191: in down-projections of early blocks both spikes are in the hundreds, and removing that
one number ruins the model. Theirs reads spikes off a plot; here a candidate needs both to be above
a factor, and to make most of the output. Removing it and running again finds the next one.

The medians are over channels of their largest value, so that rare inputs are no spike by
themselves. A network without super weights has no candidates: that is the usual answer.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from wsl.diagnostics.spectra.inputs import rows, watched, weight_of


@dataclasses.dataclass(frozen=True)
class SuperWeight:
    """The entry (row, column) of a layer's weight as a matrix (units, inputs), and its evidence.

    inputs, outputs: the spikes. share: what the entry makes of the largest output.
    """

    layer: str
    row: int
    column: int
    value: float
    inputs: float
    outputs: float
    share: float


@torch.no_grad()
def super_weights(
    model: nn.Module,
    params: Mapping[str, Tensor],
    inputs: Tensor | Sequence[Tensor],
    *,
    spike: float = 20.0,
    share: float = 0.5,
) -> list[SuperWeight]:
    """Entries with spikes above ``spike`` and at least this ``share``, the largest outputs first.

    ``spike=0, share=0`` gives one candidate for every layer. A layer that is called twice counts
    with its last call.
    """
    found: dict[str, SuperWeight] = {}

    def look(name: str, layer: nn.Module, value: Tensor) -> None:
        found[name] = _candidate(name, weight_of(layer), rows(layer, value).double())

    watched(model, params, [inputs], visit=look)
    kept = [each for each in found.values() if min(each.inputs, each.outputs) >= spike]
    chosen = [each for each in kept if each.share >= share]
    return sorted(chosen, key=lambda each: -each.outputs)


def _candidate(name: str, weight: Tensor, x: Tensor) -> SuperWeight:
    y = x @ weight.mT
    read, column = _spike(x)
    written, row = _spike(y)
    at = int(y[:, row].abs().argmax())
    value, largest = float(weight[row, column]), float(y[at, row])
    part = abs(value * float(x[at, column]) / largest) if largest else 0.0
    return SuperWeight(name, row, column, value, read, written, part)


def _spike(values: Tensor) -> tuple[float, int]:
    """The largest modulus over the median of all channels' largest, and its channel."""
    largest = values.abs().amax(0)
    channel, middle = int(largest.argmax()), float(largest.median())
    return (float(largest[channel]) / middle if middle else float("inf")), channel
