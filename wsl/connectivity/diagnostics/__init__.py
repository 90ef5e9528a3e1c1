"""Why a pair of networks is connected, or is not: Ito, Yamada, Kumagai (2025), arXiv 2402.04051.

weights.py    distances and cosines, layer by layer, before and after alignment
singular.py   spectra, and R: how far singular vectors agree
inputs.py     which singular vectors the inputs lie along
taylor.py     the barrier by a second-order expansion
indirect.py   the barrier between two that were matched to a third
report.py     all of them at once
"""

from wsl.connectivity.diagnostics.indirect import ThreeModels, three_models
from wsl.connectivity.diagnostics.inputs import InputAlignment, input_alignment
from wsl.connectivity.diagnostics.report import ConnectivityReport, report
from wsl.connectivity.diagnostics.singular import (
    SingularAlignment,
    SingularSpectra,
    singular_alignment,
    singular_spectra,
)
from wsl.connectivity.diagnostics.taylor import TaylorBarrier, taylor_barrier
from wsl.connectivity.diagnostics.weights import LayerDistances, layer_distances

__all__ = [
    "ConnectivityReport",
    "InputAlignment",
    "LayerDistances",
    "SingularAlignment",
    "SingularSpectra",
    "TaylorBarrier",
    "ThreeModels",
    "input_alignment",
    "layer_distances",
    "report",
    "singular_alignment",
    "singular_spectra",
    "taylor_barrier",
    "three_models",
]
