"""What a code of weights is: P standardised numbers into a few and back.

    z = E(x),   x' = D(z)

Codes of the training rows have zero mean and unit variance, as diffusion wants them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, Protocol

import torch
from torch import Tensor

from wsl.base import Progress

Penalty = Callable[[Tensor, Tensor, torch.Generator], Tensor]
"""A number to be made small, of decoded vectors, the vectors that were encoded, and a source of
randomness.
"""


class DrawnTerm(NamedTuple):
    """A number to be made small, of vectors that drawn codes decode to, ``count`` at each step."""

    count: int
    loss: Callable[[Tensor, torch.Generator], Tensor]


class WeightCode(Protocol):
    """What the pipeline needs of a code: a module that its ``config`` rebuilds.

    latent: the length of a code. trains: whether `fit` takes steps, which a penalty can act on;
    such a code is given ``drawn=`` too where there is a `DrawnTerm`.
    """

    latent: int
    trains: ClassVar[bool]

    @property
    def config(self) -> dict[str, Any]: ...  # noqa: D102

    def fit(  # noqa: D102
        self,
        x: Tensor,
        *,
        steps: int,
        penalty: Penalty | None,
        seed: int,
        progress: Progress | None,
    ) -> Any: ...

    def encode(self, x: Tensor) -> Tensor: ...  # noqa: D102

    def decode(self, z: Tensor) -> Tensor: ...  # noqa: D102
