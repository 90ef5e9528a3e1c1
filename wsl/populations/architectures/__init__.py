"""Base architectures, and how their layers run with one set of weights per member."""

from wsl.populations.architectures.networks import (
    CNN,
    MLP,
    Recurrent,
    ResidualBlock,
    ResidualCNN,
    Siren,
    build_architecture,
    cnn,
    mlp,
    recurrent,
    residual_cnn,
    siren,
)
from wsl.populations.architectures.permember import PerMember

__all__ = [
    "CNN",
    "MLP",
    "PerMember",
    "Recurrent",
    "ResidualBlock",
    "ResidualCNN",
    "Siren",
    "build_architecture",
    "cnn",
    "mlp",
    "recurrent",
    "residual_cnn",
    "siren",
]
