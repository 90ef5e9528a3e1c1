"""Every initialiser by its name, and the choice among them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wsl.base import did_you_mean
from wsl.generative.problem import Initializer
from wsl.generative.starts.chosen import BestOfK, SoupStart
from wsl.generative.starts.composition import CompositionStart
from wsl.generative.starts.head import RidgeHead
from wsl.generative.starts.initializers import (
    DefaultStart,
    GaussianStart,
    GeneratedStart,
    MeanStart,
    NoiseStart,
    RetrievalStart,
    RoundTripStart,
)
from wsl.generative.starts.lsuv import LSUVStart
from wsl.generative.starts.mimetic import MimeticStart
from wsl.generative.starts.nearest import NearestMeanStart, NearestStart
from wsl.generative.starts.polarity import PolarityStart
from wsl.generative.starts.predicted import PredictedStart
from wsl.generative.starts.reptile import ReptileStart
from wsl.generative.starts.scaled import KaimingStart, OrthogonalStart
from wsl.generative.starts.selection import StageSharing, WeightSelection

INITIALIZERS: dict[str, Any] = {
    "generated": GeneratedStart,
    "default_init": DefaultStart,
    "retrieval": RetrievalStart,
    "noise": NoiseStart,
    "gaussian": GaussianStart,
    "mean": MeanStart,
    "round_trip": RoundTripStart,
    "kaiming": KaimingStart,
    "orthogonal": OrthogonalStart,
    "lsuv": LSUVStart,
    "weight_selection": WeightSelection,
    "stage_sharing": StageSharing,
    "mimetic": MimeticStart,
    "polarity": PolarityStart,
    "soup": SoupStart,
    "best_of_k": BestOfK,
    "ridge_head": RidgeHead,
    "nearest": NearestStart,
    "nearest_mean": NearestMeanStart,
    "composition": CompositionStart,
    "reptile": ReptileStart,
    "predicted": PredictedStart,
}
"""Every initialiser by its name."""

_SHORT = {"default": "default_init"}
"""Other names that people use."""


def initializer(name: str, table: Mapping[str, Any] = INITIALIZERS) -> Initializer:
    """The initialiser of that name with its usual hyper-parameters.

    Raises ValueError with a suggestion where there is none.
    """
    known = _SHORT.get(name, name)
    if known not in table:
        raise ValueError(
            f"start '{name}' does not exist{did_you_mean(name, table)}; there are "
            f"{', '.join(table)}"
        )
    return table[known]()
