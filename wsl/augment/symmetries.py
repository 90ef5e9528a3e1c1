"""Augmentation by exact symmetries: other weights of the same function.

They teach a network that lacks the symmetry (Shamsian et al. 2024, arXiv 2402.04081) and change
nothing for one that has it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import torch
from torch import Tensor

from wsl.augment.compose import rows
from wsl.params import Params
from wsl.symmetry import PermutationBatch, PermutationSpec


@dataclasses.dataclass(frozen=True)
class RandomPermutation:
    """Another random element of the group of ``spec`` for every checkpoint."""

    spec: PermutationSpec

    def __call__(self, params: Mapping[str, Tensor], generator: torch.Generator) -> Params:
        """The same functions, with their units in another order."""
        return PermutationBatch.random(self.spec, rows(params), generator)(params)
