"""Starting weights for training.

initializers       of the network itself, of trained members, of a generator
scaled, lsuv       by the shape of each matrix; by what each layer computes
selection          from a larger network: units and layers
mimetic            attention like that of trained transformers
polarity           signs of a population
chosen             best of k, greedy soup
head               the last layer in closed form, on top of any other
nearest            the member whose data set is nearest, in any order of its classes
composition        rows of networks that know all classes
reptile            learned over tasks
predicted          by a graph hyper-network, from the architecture alone
adapters           factors of low-rank adapters
"""

from wsl.generative.starts.adapters import LowRankStart, eva, eva_ranks, lora, pissa
from wsl.generative.starts.asked import starting_weights
from wsl.generative.starts.chosen import BestOfK, SoupStart
from wsl.generative.starts.composition import CompositionStart, composed
from wsl.generative.starts.head import RidgeHead, ridge_solution
from wsl.generative.starts.initialize import initialize
from wsl.generative.starts.initializers import (
    DefaultStart,
    GaussianStart,
    GeneratedStart,
    MeanStart,
    NoiseStart,
    RetrievalStart,
    RoundTripStart,
    round_trip,
)
from wsl.generative.starts.layers import SEEDS_APART
from wsl.generative.starts.lsuv import LSUVStart
from wsl.generative.starts.mimetic import MimeticStart
from wsl.generative.starts.nearest import NearestMeanStart, NearestStart
from wsl.generative.starts.polarity import PolarityStart
from wsl.generative.starts.predicted import PredictedStart
from wsl.generative.starts.reptile import ReptileStart
from wsl.generative.starts.scaled import KaimingStart, OrthogonalStart
from wsl.generative.starts.selection import StageSharing, WeightSelection, selected_index
from wsl.generative.starts.table import INITIALIZERS, initializer

__all__ = [
    "INITIALIZERS",
    "SEEDS_APART",
    "BestOfK",
    "CompositionStart",
    "DefaultStart",
    "GaussianStart",
    "GeneratedStart",
    "KaimingStart",
    "LSUVStart",
    "LowRankStart",
    "MeanStart",
    "MimeticStart",
    "NearestMeanStart",
    "NearestStart",
    "NoiseStart",
    "OrthogonalStart",
    "PolarityStart",
    "PredictedStart",
    "ReptileStart",
    "RetrievalStart",
    "RidgeHead",
    "RoundTripStart",
    "SoupStart",
    "StageSharing",
    "WeightSelection",
    "composed",
    "eva",
    "eva_ranks",
    "initialize",
    "initializer",
    "lora",
    "pissa",
    "ridge_solution",
    "round_trip",
    "selected_index",
    "starting_weights",
]
