"""Trained functionals that come with the package: a few hundred kilobytes each, and no download."""

from wsl.training.shipped.load import PRETRAINED, Pretrained, pretrained

__all__ = ["PRETRAINED", "Pretrained", "pretrained"]
