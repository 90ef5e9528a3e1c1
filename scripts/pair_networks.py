"""The networks that `train_pairs.py` trains: an MLP, VGG without norm, ResNet20 by width."""

from __future__ import annotations

import itertools

from torch import Tensor, nn

SHAPES = {"mnist": (32, 1), "mnist16": (16, 1), "cifar10": (32, 3)}
"""Side and channels: MNIST padded, and means of its 2 x 2 pixels, for residual networks only."""
VGG = {
    "vgg11": (64, 0, 128, 0, 256, 256, 0, 512, 512, 0, 512, 512, 0),
    "vgg16": (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0),
}
"""Widths of the convolutions; 0 is a maximum over 2 x 2 pixels. Simonyan, Zisserman (2015)."""


def mlp(*, side: int, channels: int, width: float = 1) -> nn.Module:
    """Three hidden layers of 512 units, as in Git Re-Basin (arXiv 2209.04836)."""
    hidden = round(512 * width)
    sizes = (channels * side * side, hidden, hidden, hidden)
    layers: list[nn.Module] = [nn.Flatten()]
    for inner, outer in itertools.pairwise(sizes):
        layers += [nn.Linear(inner, outer), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(hidden, 10))


def vgg(name: str, *, side: int, channels: int, width: float = 1) -> nn.Module:
    """VGG without norms and with one linear layer; ``side`` must be 32."""
    del side
    layers: list[nn.Module] = []
    for planned in VGG[name]:
        if not planned:
            layers.append(nn.MaxPool2d(2))
            continue
        wide = round(planned * width)
        layers += [nn.Conv2d(channels, wide, 3, padding=1), nn.ReLU()]
        channels = wide
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels, 10))


class Residual(nn.Module):
    """Two convolutions with batch norm, beside a shortcut."""

    def __init__(self, inner: int, outer: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inner, outer, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outer)
        self.conv2 = nn.Conv2d(outer, outer, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outer)
        self.shortcut = nn.Sequential()
        if inner != outer:
            conv = nn.Conv2d(inner, outer, 1, stride, bias=False)
            self.shortcut = nn.Sequential(conv, nn.BatchNorm2d(outer))

    def forward(self, x: Tensor) -> Tensor:
        """(N, inner, H, W) to (N, outer, H / stride, W / stride)."""
        out = self.norm1(self.conv1(x)).relu()
        return (self.norm2(self.conv2(out)) + self.shortcut(x)).relu()


def resnet20(*, side: int, channels: int, width: float = 1) -> nn.Module:
    """Nine blocks of 16, 32 and 64 channels, times ``width``. He et al. (2016), section 4.2."""
    del side
    wide = round(16 * width)
    layers = [nn.Conv2d(channels, wide, 3, 1, 1, bias=False), nn.BatchNorm2d(wide), nn.ReLU()]
    for stage in range(3):
        for block in range(3):
            outer = round(16 * width) * 2**stage
            layers.append(Residual(wide, outer, 2 if stage and not block else 1))
            wide = outer
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(wide, 10))


def network(name: str, *, data: str, width: float = 1) -> nn.Module:
    """A network by name for images of ``SHAPES``."""
    shape = dict(zip(("side", "channels"), SHAPES[data], strict=True))
    if name in VGG:
        return vgg(name, **shape, width=width)
    return {"mlp": mlp, "resnet20": resnet20}[name](**shape, width=width)
