"""Equivariant layers and the networks built from them; `forward` takes weights as plain dicts."""

from wsl.nn.basis import layer_dimension
from wsl.nn.linear import EquivariantLinear

__all__ = ["EquivariantLinear", "layer_dimension"]
