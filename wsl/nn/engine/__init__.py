"""The engine of equivariant linear maps: enumerate a basis, compile it to a plan, run it."""

from wsl.nn.engine.basis import GroupAxis, Space, TensorBlock, layer_dimension
from wsl.nn.engine.encode import encoded
from wsl.nn.engine.equivariant import EquivariantLinear, check_size
from wsl.nn.engine.layout import BlockLayout, validate
from wsl.nn.engine.linear import BlockLinear
from wsl.nn.engine.maskless import relu
from wsl.nn.engine.pool import BlockPool, InvariantPool

__all__ = [
    "BlockLayout",
    "BlockLinear",
    "BlockPool",
    "EquivariantLinear",
    "GroupAxis",
    "InvariantPool",
    "Space",
    "TensorBlock",
    "check_size",
    "encoded",
    "layer_dimension",
    "relu",
    "validate",
]
