"""Around a network on weights: normalisation and features before, columns and heads after it."""

from wsl.nn.inputs.columns import Columns
from wsl.nn.inputs.conditioned import Conditioned
from wsl.nn.inputs.fourier import WeightFeatures, positional_waves
from wsl.nn.inputs.head import Standardize, head, mlp, recalibrated, settled, shared_batch
from wsl.nn.inputs.normalize import InputNormalizer
from wsl.nn.inputs.scalenorm import UnitNormalizer

__all__ = [
    "Columns",
    "Conditioned",
    "InputNormalizer",
    "Standardize",
    "UnitNormalizer",
    "WeightFeatures",
    "head",
    "mlp",
    "positional_waves",
    "recalibrated",
    "settled",
    "shared_batch",
]
