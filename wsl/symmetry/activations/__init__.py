"""The values inside a network: how the groups of its specification act on them, and their run."""

from wsl.symmetry.activations.activations import Activations, activations
from wsl.symmetry.activations.moved import move_axes
from wsl.symmetry.activations.sites import ActivationSite

__all__ = [
    "ActivationSite",
    "Activations",
    "activations",
    "move_axes",
]
