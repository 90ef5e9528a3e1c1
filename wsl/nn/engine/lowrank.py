"""Low rank on fixed axes: many positions are seen through few mixtures of them.

    H = V_b  H_r  U_a,     U_a: fixed_a c -> r c,    H_r all equivariant maps with r positions,
        V_b: r c' -> fixed_b c'

U and V act on channels alone, so H commutes with the permutations whatever they are. The exact maps
of [784, 128, 128, 10] are 1,269,190 for one pair of channels; r = 8 needs 14,625 weights, biases
included. Not complete: of the maps between two fixed axes only those of rank r are reached, the
identity among those that are lost. Blocks with at most r positions stay exact.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn


class Mixtures(nn.Module):
    """One linear map of channels for each block whose width changes; weights start with variance 1
    / width.
    """

    def __init__(self, widths: Sequence[int], others: Sequence[int], *, bias: bool):
        super().__init__()
        self.maps = nn.ModuleList(
            _linear(a, b, bias=bias) if a != b else nn.Identity()
            for a, b in zip(widths, others, strict=True)
        )

    def forward(self, pieces: Sequence[Tensor]) -> list[Tensor]:
        """Blocks (*axes, batch, width) to (*axes, batch, other width)."""
        return [mix(piece) for mix, piece in zip(self.maps, pieces, strict=True)]


def _linear(width: int, other: int, *, bias: bool) -> nn.Linear:
    linear = nn.Linear(width, other, bias=bias)
    nn.init.normal_(linear.weight, std=width**-0.5)
    if bias:
        nn.init.zeros_(linear.bias)
    return linear
