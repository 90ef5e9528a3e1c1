"""Networks that read weights and give weights or features of units."""

from wsl.nn.editors.equivariant import EquivariantNet
from wsl.nn.editors.flat_edit import FlatEdit
from wsl.nn.editors.nfn_edit import NFNEdit
from wsl.nn.editors.units import UnitFeatures
from wsl.nn.editors.update import UpdateNet

__all__ = [
    "EquivariantNet",
    "FlatEdit",
    "NFNEdit",
    "UnitFeatures",
    "UpdateNet",
]
