"""What each weight puts into the Koopman bound of generalisation: its norm against its determinant.

    |K_W|  <=  max(1, |W|)^s / det(W^* W)^{1/4},      (K_W f)(x) = f(W x)  on the Sobolev space H^s

since the Fourier transform of f(W x) is f^(W^{-T} xi) / |det W|. For an orthogonal W it is 1 at any
width, and it grows with the condition number: full rank is no evil. Hashimoto, Sonoda, Ishikawa,
Nitanda, Suzuki (2023), "Koopman-based generalization bound", arXiv 2302.05825. The bound is the
product over layers, times factors of the activations, of the last function and 1 / sqrt(samples),
which are not computed: compare networks of one architecture with it, and take no number for an
error that is guaranteed.

H^s needs s > d / 2 for d inputs of f. A weight that is not injective (fewer rows than columns, or
rank lost) has no determinant: then that of W on the complement of its kernel is taken, as in the
paper's extension, and ``injective`` says so.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

from torch import Tensor

from wsl.diagnostics.spectra.values import MatrixSpectrum, network_spectra


@dataclasses.dataclass(frozen=True)
class KoopmanFactor:
    """Of one weight: spectral norm, condition number, log10 of the factor, and whether injective.

    condition: over the values that are not zero.
    """

    norm: float
    condition: float
    log10: float
    injective: bool


def koopman_factors(
    params: Mapping[str, Tensor], *, smoothness: float | None = None
) -> dict[str, KoopmanFactor]:
    """The factor of every matrix. ``smoothness`` is s for all; else (rows + 1) / 2 of each.

    Raises ValueError for a smoothness that is not positive, and for a matrix of zeros.
    """
    if smoothness is not None and not smoothness > 0:
        raise ValueError(f"koopman_factors: smoothness is {smoothness}, but must be positive")
    return {each.name: koopman_factor(each, smoothness) for each in network_spectra(params)}


def koopman_factor(spectrum: MatrixSpectrum, smoothness: float | None = None) -> KoopmanFactor:
    """The factor of one matrix by its spectrum."""
    kept = spectrum.values[: spectrum.rank]
    if not len(kept):
        raise ValueError(f"{spectrum.name}: all entries are zero, so the bound is infinite")
    rows, columns = spectrum.shape
    s = (rows + 1) / 2 if smoothness is None else smoothness
    norm, smallest = float(kept[0]), float(kept[-1])
    # det(W^* W)^{1/4} is the product of square roots of singular values
    log = s * max(0.0, math.log10(norm)) - 0.5 * float(kept.log10().sum())
    return KoopmanFactor(norm, norm / smallest, log, len(kept) == columns)
