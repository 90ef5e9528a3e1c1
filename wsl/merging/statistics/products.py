"""Inner products of the inputs of every linear layer and convolution, as RegMean needs them.

    G = X^T X,     X (positions, in)     of a convolution its patches (positions, in * k * k)

Jin et al. (2023), arXiv 2212.09849. One pass without gradients. Layers whose inputs are not those
of one matrix (grouped convolutions, attention in one block, one and three dimensions) are left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wsl.params import Params, call
from wsl.symmetry import copied


def input_products(
    model: nn.Module, params: Mapping[str, Tensor], batches: Iterable[Tensor | tuple[Tensor, ...]]
) -> Params:
    """Products (in, in), float64, by the name of each weight; see the head for what is left out.

    A batch is a tensor of inputs, or a tuple that starts with it. Raises ValueError for no batches.
    """
    network = copied(model).eval()
    found: Params = {}
    for name, module in network.named_modules():
        if isinstance(module, nn.Linear) or _is_plain(module):
            module.register_forward_pre_hook(_adding(found, f"{name}.weight" if name else "weight"))
    seen = 0
    with torch.no_grad():
        for batch in batches:
            call(network, params, batch[0] if isinstance(batch, tuple | list) else batch)
            seen += 1
    if not seen:
        raise ValueError("input_products: no batches were given; was an iterator used up?")
    return found


def _is_plain(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d) and module.groups == 1 and module.padding_mode == "zeros"


def _adding(found: Params, name: str):
    def hook(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        rows = _rows(module, args[0]).double()
        products = rows.mT @ rows
        found[name] = found[name] + products if name in found else products

    return hook


def _rows(module: nn.Module, x: Tensor) -> Tensor:
    """The inputs of a layer, one row for each position."""
    if not isinstance(module, nn.Conv2d):
        return x.flatten(0, -2) if x.dim() > 1 else x[None]
    if isinstance(module.padding, str):
        # unfold knows no "same": the margin is put around the image first
        margins = [n for pair in reversed(_same(module)) for n in pair]
        x, padding = F.pad(x, margins), 0
    else:
        padding = module.padding
    patches = F.unfold(x, module.kernel_size, module.dilation, padding, module.stride)
    return patches.mT.flatten(0, 1)


def _same(module: nn.Conv2d) -> list[tuple[int, int]]:
    """What padding "same" or "valid" adds before and after each axis."""
    if module.padding == "valid":
        return [(0, 0), (0, 0)]
    spans = [d * (k - 1) for d, k in zip(module.dilation, module.kernel_size, strict=True)]
    return [(span // 2, span - span // 2) for span in spans]
