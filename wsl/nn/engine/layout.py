"""Between weights as users hold them and blocks as the layers compute on them.

    params[name]: (batch, *axes, channels)  <->  block: (*permutable axes, batch, fixed * channels)

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

from wsl.nn.engine.basis import Space, TensorBlock, blocks
from wsl.params import Params
from wsl.symmetry import PermutationSpec, SpecError


@dataclasses.dataclass(frozen=True)
class BlockLayout:
    """Cuts the tensors of a specification into ``blocks``, and joins them again.

    Blocks stand in the order of `wsl.symmetry.pieces`: tensor by tensor, the last axis fastest.
    """

    spec: PermutationSpec
    blocks: tuple[TensorBlock, ...] = dataclasses.field(init=False, repr=False, compare=False)

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
        """Tensors (batch, *axes, channels) as blocks (*permutable axes, batch, width)."""
        return [_cut(params[block.piece.tensor], block) for block in self.blocks]

    def split_weights(self, params: Mapping[str, Tensor]) -> list[Tensor]:
        """The same for plain weights (batch, *axes), which are one channel."""
        return self.split({name: tensor.unsqueeze(-1) for name, tensor in params.items()})

    def join(self, parts: Sequence[Tensor]) -> Params:
        """Inverse of `split`."""
        rest = iter(zip(self.blocks, parts, strict=True))
        params: Params = {}
        for name, axes in self.spec.annotations:
            cuts = [len(axis) for axis in axes]
            own = [
                _uncut(part, block) for block, part in (next(rest) for _ in range(math.prod(cuts)))
            ]
            params[name] = _concatenated(own, cuts)
        return params


def validate(spec: PermutationSpec, params: Mapping[str, Tensor]) -> None:
    """``spec.validate``, except while `torch.compile` traces.

    Names and sizes are not tensors, and tracing through them breaks the graph.
    """
    if not torch.compiler.is_compiling():
        spec.validate(params)


def _cut(tensor: Tensor, block: TensorBlock) -> Tensor:
    """Narrow to the piece, unfold its products, permute, fold fixed axes into channels."""
    for dim, (start, length) in enumerate(block.piece.window, 1):
        if length != tensor.shape[dim]:
            tensor = tensor.narrow(dim, start, length)
    batch, channels, moving = tensor.shape[0], tensor.shape[-1], len(block.space)
    tensor = tensor.reshape(batch, *block.piece.shape, channels).permute(block.into)
    return tensor.reshape(*tensor.shape[: moving + 1], block.fixed * channels)


def _uncut(part: Tensor, block: TensorBlock) -> Tensor:
    """The piece of the tensor that a block is: `_cut` backwards, up to narrowing."""
    shape, moving = block.piece.shape, len(block.space)
    batch, channels = part.shape[-2], part.shape[-1] // block.fixed
    still = [shape[axis] for axis in block.order[moving:]]
    part = part.reshape(*part.shape[:-1], *still, channels).permute(block.back)
    return part.reshape(batch, *(length for _, length in block.piece.window), channels)


def _concatenated(parts: list[Tensor], cuts: Sequence[int]) -> Tensor:
    """Pieces, row-major over the ``cuts`` of each axis, joined along the last axis first."""
    for dim, cut in reversed(list(enumerate(cuts, 1))):
        if cut > 1:
            parts = [torch.cat(parts[i : i + cut], dim) for i in range(0, len(parts), cut)]
    return parts[0]
