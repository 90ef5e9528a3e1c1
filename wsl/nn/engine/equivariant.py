"""`EquivariantLinear`: every affine map of weights that commutes with a specification's group.

    H(g.x) = g.H(x) for all g;      H = sum over basis elements (see `basis`, `linear`)

Zhou et al. (2024), arXiv 2402.05232, for the basis; Navon et al. (2023), arXiv 2301.12780, for the
exact treatment of input and output axes. Complete: the number of weights is the dimension of the
space of such maps, none is redundant. Symmetries other than permutations are not used.

Low rank on fixed axes: many positions are seen through few mixtures of them.

    H = V_b H_r U_a,     U_a: fixed_a c -> r c,     V_b: r c' -> fixed_b c'

with H_r all equivariant maps with r positions. U and V act on channels alone, so H commutes with
the permutations whatever they are. The exact maps of [784, 128, 128, 10] are 1,269,190 for one pair
of channels; r = 8 needs 14,625 weights, biases included. Not complete: of the maps between two
fixed axes only those of rank r are reached, the identity among those that are lost. Blocks with at
most r positions stay exact.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from torch import Tensor, nn

from wsl.nn.engine.encode import FixedAxes, encoded
from wsl.nn.engine.layout import BlockLayout
from wsl.nn.engine.linear import BlockLinear
from wsl.nn.engine.plan import compile_plan
from wsl.params import Params
from wsl.symmetry import PermutationSpec


class EquivariantLinear(nn.Module):
    """All equivariant affine maps of a specification.

    Tensors (batch, *axes, in_channels) to (batch, *axes, out_channels). ``fixed="exact"``: fixed
    axes are part of the basis, each of their positions has weights of its own; the number of
    weights grows with the square of the fixed sizes. ``fixed="encoded"``: fixed axes are treated as
    permutable, and a learned positional table per axis is added to the input to tell positions
    apart (see `encode.encoded` for which axes share a table); the map is then affine and still
    equivariant, but not all such maps are reached. ``rank=r`` with ``"exact"`` shows a block of
    more than r fixed positions through r mixtures of them, on both sides: the number of weights
    grows linearly with the fixed sizes, and again not all maps are reached. Raises `SpecError` in
    ``forward`` for tensors that do not fit.
    """

    equivariance = "equivariant"

    def __init__(
        self,
        spec: PermutationSpec,
        in_channels: int,
        out_channels: int,
        *,
        fixed: str = "exact",
        rank: int | None = None,
        bias: bool = True,
    ):
        super().__init__()
        _check(fixed, rank)
        self.in_channels, self.out_channels = in_channels, out_channels
        self.positions = FixedAxes(spec, in_channels) if fixed == "encoded" else None
        self.layout = BlockLayout(encoded(spec) if fixed == "encoded" else spec)
        spaces, positions = self.layout.spaces, _narrowed(self.layout, rank)
        inside = [n * in_channels for n in positions], [n * out_channels for n in positions]
        self.map = BlockLinear(
            spaces, spaces, in_channels=inside[0], out_channels=inside[1], bias=bias
        )
        outside = self.layout.widths(in_channels), self.layout.widths(out_channels)
        self.enter = _Mixtures(outside[0], inside[0], bias=False) if rank else None
        self.leave = _Mixtures(inside[1], outside[1], bias=bias) if rank else None

    def forward(self, params: Mapping[str, Tensor]) -> Params:
        """Apply the map."""
        self.layout.check(params, self.in_channels)
        return self.layout.join(self.on_blocks(self.layout.split(params)))

    def on_blocks(self, pieces: Sequence[Tensor]) -> list[Tensor]:
        """The same on the blocks of ``layout``, without cutting and joining."""
        pieces = pieces if self.positions is None else self.positions.add(pieces)
        mapped = self.map(pieces if self.enter is None else self.enter(pieces))
        return mapped if self.leave is None else self.leave(mapped)

    def extra_repr(self) -> str:
        """Channels, and numbers of signatures and parameters."""
        weights = sum(p.numel() for p in self.parameters())
        channels = f"{self.in_channels}, {self.out_channels}"
        return f"{channels}, signatures={len(self.map.lanes)}, parameters={weights}"


def check_size(
    who: str,
    spec: PermutationSpec,
    steps: Iterable[tuple[int, int]],
    *,
    limit: int,
    rank: int | None = None,
) -> None:
    """Raise ValueError if exact layers of channels (in, out) would have over ``limit`` weights."""
    layout = BlockLayout(spec)
    plan, positions = compile_plan(layout.spaces, layout.spaces), _narrowed(layout, rank)
    count = sum(
        sum(plan.count([n * a for n in positions], [n * b for n in positions])) for a, b in steps
    )
    if count > limit:
        raise ValueError(
            f"{who}: exact fixed axes need {count:,} weights for this specification, more than "
            f"max_parameters={limit:,}; use UNF, which folds fixed axes into its channels, or "
            "fewer hidden channels"
        )


def _narrowed(layout: BlockLayout, rank: int | None) -> list[int]:
    """Fixed positions of each block, at most ``rank`` of them if there is a rank."""
    return [min(block.fixed, rank or block.fixed) for block in layout.blocks]


def _check(fixed: str, rank: int | None) -> None:
    if fixed not in ("exact", "encoded"):
        raise ValueError(f"fixed={fixed!r}: it must be 'exact' or 'encoded'")
    if rank is not None and (fixed != "exact" or rank < 1):
        raise ValueError(
            f"rank={rank} with fixed={fixed!r}: a rank is at least 1 and belongs to fixed='exact'"
        )


class _Mixtures(nn.Module):
    """One linear map of channels for each block whose width changes."""

    def __init__(self, widths: Sequence[int], others: Sequence[int], *, bias: bool):
        super().__init__()
        self.maps = nn.ModuleList(
            _mixture(a, b, bias=bias) if a != b else nn.Identity()
            for a, b in zip(widths, others, strict=True)
        )

    def forward(self, pieces: Sequence[Tensor]) -> list[Tensor]:
        """Blocks (*axes, batch, width) to (*axes, batch, other width)."""
        return [mix(piece) for mix, piece in zip(self.maps, pieces, strict=True)]


def _mixture(width: int, other: int, *, bias: bool) -> nn.Linear:
    """Weights start with variance 1 / width, biases at 0."""
    linear = nn.Linear(width, other, bias=bias)
    nn.init.normal_(linear.weight, std=width**-0.5)
    if bias:
        nn.init.zeros_(linear.bias)
    return linear
