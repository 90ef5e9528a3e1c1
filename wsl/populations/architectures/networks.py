"""Base networks whose weights fill a zoo: small plain modules that torch can export and vmap.

    mlp:           x -> W_L s(... s(W_1 x + b_1) ...) + b_L
    cnn:           3x3 convolutions, optional batch norm, activation s; global average pool; linear
    residual_cnn:  stem; blocks x + bn(conv(s(bn(conv(x))))); global average pool; linear
    recurrent:     x as a sequence of rows; RNN, GRU or LSTM; linear on the last state
    siren:         x -> W_L sin(w0 (... sin(w0 (W_1 x + b_1)) ...)) + b_L

The last is that of Sitzmann et al. (2020), arXiv 2006.09661. `build_architecture` makes one from
its description, which is what a zoo file stores.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wsl.base import did_you_mean
from wsl.populations.describe import build
from wsl.zoo import ZooError

ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "gelu": F.gelu,
    "silu": F.silu,
}

CELLS: Mapping[str, Callable[..., nn.Module]] = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}


class MLP(nn.Module):
    """Linear layers with an activation between them; inputs are flattened first."""

    def __init__(self, widths: Sequence[int], activation: str, *, dropout: float) -> None:
        super().__init__()
        self.activation, self.dropout = _activation(activation), nn.Dropout(dropout)
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(widths))

    def forward(self, x: Tensor) -> Tensor:
        """(B, ...) -> (B, widths[-1])."""
        x = x.flatten(1)
        for layer in self.layers[:-1]:
            x = self.dropout(self.activation(layer(x)))
        return self.layers[-1](x)


class CNN(nn.Module):
    """3x3 convolutions, global average pool, linear head."""

    def __init__(
        self,
        channels: Sequence[int],
        classes: int,
        *,
        activation: str,
        strides: Sequence[int],
        batch_norm: bool,
        dropout: float,
    ) -> None:
        super().__init__()
        self.dropout, self.activation = nn.Dropout(dropout), _activation(activation)
        sizes = zip(channels[:-1], channels[1:], strides, strict=True)
        self.convs = nn.ModuleList(
            nn.Conv2d(a, b, 3, stride=s, padding=1, bias=not batch_norm) for a, b, s in sizes
        )
        norm = nn.BatchNorm2d if batch_norm else nn.Identity
        self.norms = nn.ModuleList(norm(count) for count in channels[1:])
        self.head = nn.Linear(channels[-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, classes)."""
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = self.dropout(self.activation(norm(conv(x))))
        return self.head(x.mean((2, 3)))


class ResidualCNN(nn.Module):
    """A stem and residual blocks of one width with batch norm, global average pool, linear head."""

    def __init__(
        self,
        in_channels: int,
        width: int,
        classes: int,
        *,
        blocks: int,
        stride: int,
        activation: str,
    ) -> None:
        super().__init__()
        self.activation = _activation(activation)
        self.stem = nn.Conv2d(in_channels, width, 3, stride=stride, padding=1, bias=False)
        self.stem_norm = nn.BatchNorm2d(width)
        self.blocks = nn.ModuleList(ResidualBlock(width, activation) for _ in range(blocks))
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, classes)."""
        x = self.activation(self.stem_norm(self.stem(x)))
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean((2, 3)))


class ResidualBlock(nn.Module):
    """s(x + bn(conv(s(bn(conv(x))))))."""

    def __init__(self, width: int, activation: str) -> None:
        super().__init__()
        self.activation = _activation(activation)
        self.inner = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.inner_norm = nn.BatchNorm2d(width)
        self.outer = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.outer_norm = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, H, W) -> the same shape."""
        branch = self.activation(self.inner_norm(self.inner(x)))
        return self.activation(x + self.outer_norm(self.outer(branch)))


class Recurrent(nn.Module):
    """A recurrent layer over the rows of the input, linear head on its last output."""

    def __init__(self, features: int, hidden: int, classes: int, *, cell: str) -> None:
        super().__init__()
        if cell not in CELLS:
            hint = did_you_mean(cell, CELLS)
            raise ZooError(f"cell {cell!r} is not one of {', '.join(CELLS)}{hint}")
        self.cell = CELLS[cell](features, hidden, batch_first=True)
        self.head = nn.Linear(hidden, classes)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, F), or an image (B, 1, T, F), to (B, classes)."""
        outputs, _ = self.cell(x.flatten(1, -2))
        return self.head(outputs[:, -1])


class Siren(nn.Module):
    """Linear layers with sin(omega_0 .) between them and a linear output."""

    def __init__(self, widths: Sequence[int], omega_0: float, *, smooth: bool) -> None:
        super().__init__()
        self.omega_0 = float(omega_0)
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(widths))
        for i, layer in enumerate(self.layers):
            coarse = i == 0 and not smooth
            bound = 1 / widths[i] if coarse else math.sqrt(6 / widths[i]) / self.omega_0
            nn.init.uniform_(layer.weight, -bound, bound)  # type: ignore[arg-type]
            if smooth:
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """(B, widths[0]) -> (B, widths[-1])."""
        for layer in self.layers[:-1]:
            x = torch.sin(self.omega_0 * layer(x))
        return self.layers[-1](x)


def mlp(widths: Sequence[int], activation: str = "relu", *, dropout: float = 0.0) -> nn.Module:
    """Multilayer perceptron with ``widths`` from input to output.

    An input of more axes, such as an image, is flattened. ``dropout`` follows each activation.
    """
    return MLP(_widths("mlp", widths), activation, dropout=dropout)


def cnn(
    in_channels: int,
    channels: Sequence[int],
    classes: int,
    *,
    activation: str = "relu",
    strides: Sequence[int] | None = None,
    batch_norm: bool = False,
    dropout: float = 0.0,
) -> nn.Module:
    """Convolutional classifier of 3x3 convolutions.

    ``strides``, one per convolution, are 1 by default; batch norm replaces biases; ``dropout``
    follows each activation.
    """
    strides = [1] * len(channels) if strides is None else strides
    if len(strides) != len(channels):
        raise ZooError(
            f"cnn: {len(channels)} channels but {len(strides)} strides; give one stride per "
            "convolution"
        )
    return CNN(
        [in_channels, *channels],
        classes,
        activation=activation,
        strides=strides,
        batch_norm=batch_norm,
        dropout=dropout,
    )


def residual_cnn(
    in_channels: int,
    width: int,
    classes: int,
    *,
    blocks: int = 2,
    stride: int = 1,
    activation: str = "relu",
) -> nn.Module:
    """Residual classifier with batch norm; ``stride`` is that of the stem."""
    return ResidualCNN(
        in_channels, width, classes, blocks=blocks, stride=stride, activation=activation
    )


def siren(widths: Sequence[int], omega_0: float = 30.0, *, smooth: bool = False) -> nn.Module:
    """Sinusoidal representation network: sin(omega_0 (W x + b)) between layers, linear output.

    Weights start uniform in +-1/fan_in in the first layer and in +-sqrt(6/fan_in)/omega_0 in the
    others, the output included (Sitzmann et al., section 3.2 and supplement 1.5); biases in torch's
    default +-1/sqrt(fan_in). ``smooth`` starts the first layer like the others and the biases at
    zero, as the public MNIST corpus of Navon et al. (2023), arXiv 2301.12780, does: low frequencies
    first, so that the image and not the start decides the weights.
    """
    return Siren(_widths("siren", widths), omega_0, smooth=smooth)


def recurrent(features: int, hidden: int, classes: int, *, cell: str = "gru") -> nn.Module:
    """Sequence classifier; ``cell`` is rnn (tanh), gru or lstm. An image is read row by row."""
    return Recurrent(features, hidden, classes, cell=cell)


ARCHITECTURES: Mapping[str, Callable[..., nn.Module]] = {
    f"wsl.zoo.architectures.{function.__name__}": function
    for function in (mlp, cnn, residual_cnn, recurrent, siren)
}


def build_architecture(description: Mapping[str, Any]) -> nn.Module:
    """The network that ``description`` names, freshly initialised.

    Raises `ZooError` for a target outside this module.
    """
    return build(description, allowed=ARCHITECTURES, what="architecture")


def _activation(name: str) -> Callable[[Tensor], Tensor]:
    if name not in ACTIVATIONS:
        hint = did_you_mean(name, ACTIVATIONS)
        raise ZooError(f"activation {name!r} is not one of {', '.join(ACTIVATIONS)}{hint}")
    return ACTIVATIONS[name]


def _widths(what: str, widths: Sequence[int]) -> Sequence[int]:
    if len(widths) < 2:
        raise ZooError(f"{what}: widths {list(widths)} need at least an input and an output")
    return widths
