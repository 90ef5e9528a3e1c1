"""Between weights as users hold them and blocks as the layers compute on them.

    params[name]: (batch, *axes, channels)   <->   block: (*permutable axes, batch, fixed *
                                                   channels)

Positions lead and batch and channels trail, so that pooling and broadcasting run over leading axes
with long contiguous rows, and every matrix product is (positions * batch, channels) by (channels,
channels'). While `torch.compile` traces, nothing is checked: weights that do not fit then end in
one of torch's own errors.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from wsl.nn.engine.basis import Block, Space, blocks
from wsl.params import Params
from wsl.symmetry import PermutationSpec, SpecError


@dataclasses.dataclass(frozen=True)
class Layout:
    """Cuts the tensors of a specification into ``blocks``, tensor by tensor, and joins them
    again.
    """

    spec: PermutationSpec
    blocks: tuple[Block, ...] = dataclasses.field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "blocks", blocks(self.spec))

    @property
    def spaces(self) -> tuple[Space, ...]:
        """The permutable axes of each block."""
        return tuple(block.space for block in self.blocks)

    def widths(self, channels: int) -> tuple[int, ...]:
        """Channels of each block once its fixed axes are folded in."""
        return tuple(block.fixed * channels for block in self.blocks)

    def check(self, params: Mapping[str, Tensor], channels: int) -> None:
        """Raise `SpecError` unless every tensor is (batch, *axes, channels)."""
        if torch.compiler.is_compiling():
            return
        batch = self.spec.validate({name: tensor.select(-1, 0) for name, tensor in params.items()})
        if len(batch) != 1:
            raise SpecError(
                f"tensors must be (batch, *axes, channels), but they have {len(batch)} batch "
                "axes; flatten them into one"
            )
        for name, tensor in params.items():
            if tensor.shape[-1] != channels:
                raise SpecError(
                    f"{name}: has {tensor.shape[-1]} channels on its last axis, but the layer "
                    f"takes {channels}"
                )

    def split(self, params: Mapping[str, Tensor]) -> list[Tensor]:
        """Tensors (batch, *axes, channels) as blocks (*permutable axes, batch, fixed *
        channels).
        """
        return [_cut(params[block.tensor], block) for block in self.blocks]

    def join(self, pieces: Sequence[Tensor]) -> Params:
        """Inverse of `split`."""
        rest = iter(zip(self.blocks, pieces, strict=True))
        params: Params = {}
        for name, axes in self.spec.annotations:
            cuts = [len(axis) for axis in axes]
            parts = [
                _uncut(piece, block)
                for block, piece in (next(rest) for _ in range(math.prod(cuts)))
            ]
            for dim, cut in reversed(list(enumerate(cuts, 1))):
                if cut > 1:
                    parts = [torch.cat(parts[i : i + cut], dim) for i in range(0, len(parts), cut)]
            params[name] = parts[0]
        return params


def validate(spec: PermutationSpec, params: Mapping[str, Tensor]) -> None:
    """``spec.validate``, except while `torch.compile` traces: names and sizes are not tensors, and
    tracing them breaks.
    """
    if not torch.compiler.is_compiling():
        spec.validate(params)


def _cut(tensor: Tensor, block: Block) -> Tensor:
    for dim, (start, length) in enumerate(block.spans, 1):
        if length != tensor.shape[dim]:
            tensor = tensor.narrow(dim, start, length)
    batch, channels, moving = tensor.shape[0], tensor.shape[-1], len(block.space)
    tensor = tensor.reshape(batch, *block.sizes, channels)
    order = [axis + 1 for axis in block.order]
    tensor = tensor.permute(*order[:moving], 0, *order[moving:], tensor.dim() - 1)
    return tensor.reshape(*tensor.shape[: moving + 1], block.fixed * channels)


def _uncut(piece: Tensor, block: Block) -> Tensor:
    moving, batch, channels = len(block.space), piece.shape[-2], piece.shape[-1] // block.fixed
    still = [block.sizes[axis] for axis in block.order[moving:]]
    piece = piece.reshape(*piece.shape[:-1], *still, channels)
    back = [
        axis + (axis >= moving) for axis in (block.order.index(i) for i in range(len(block.order)))
    ]
    piece = piece.permute(moving, *back, piece.dim() - 1)
    return piece.reshape(batch, *(length for _, length in block.spans), channels)
