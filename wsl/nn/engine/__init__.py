"""The engine of equivariant linear maps: enumerate a basis, compile it to a plan, run it."""

from wsl.nn.engine.attention_pool import AttentionPool
from wsl.nn.engine.basis import Block, GroupAxis, Space, layer_dimension
from wsl.nn.engine.encode import encoded
from wsl.nn.engine.fourier import WeightFeatures, positional_waves
from wsl.nn.engine.layout import Layout, validate
from wsl.nn.engine.linear import BlockLinear, EquivariantLinear
from wsl.nn.engine.maskless import relu
from wsl.nn.engine.plan import check_size
from wsl.nn.engine.pool import BlockPool, InvariantPool
from wsl.nn.engine.trunk import Lift, Residual, pack, unpack

__all__ = [
    "AttentionPool",
    "Block",
    "BlockLinear",
    "BlockPool",
    "EquivariantLinear",
    "GroupAxis",
    "InvariantPool",
    "Layout",
    "Lift",
    "Residual",
    "Space",
    "WeightFeatures",
    "check_size",
    "encoded",
    "layer_dimension",
    "pack",
    "positional_waves",
    "relu",
    "unpack",
    "validate",
]
