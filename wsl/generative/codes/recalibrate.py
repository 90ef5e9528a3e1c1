"""Batch-norm statistics of drawn networks, measured instead of generated.

    mu, var <- what the drawn weights themselves see on ``inputs``

Statistics and weights that were drawn apart from each other do not fit; one pass over inputs,
without labels, makes them fit. All arms of a comparison are to be treated alike. See
`reset_batch_norm`.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from wsl.connectivity import reset_batch_norm
from wsl.params import Params, stack, unstack


class Recalibration:
    """Networks (n, ...) with the statistics that ``model`` sees with them on inputs.

    limit: of inputs that are read, in batches of ``batch_size``.
    """

    def __init__(self, *, limit: int = 1024, batch_size: int = 256) -> None:
        self.limit, self.batch_size = limit, batch_size
        self.model: nn.Module | None = None
        self.inputs: Tensor | None = None

    def fit(self, model: nn.Module | None, inputs: Tensor | None) -> Recalibration:
        """Keep the network, as a template, and inputs (N, ...) of its task."""
        if model is None or inputs is None:
            raise ValueError("recalibrate: the training members come without model and inputs")
        self.model, self.inputs = model, inputs[: self.limit]
        return self

    def __call__(self, params: Mapping[str, Tensor]) -> Params:
        """Raises ValueError where there are no inputs, as in a generator read from a file."""
        if self.model is None or self.inputs is None:
            raise ValueError(
                "recalibrate: a file holds no network and no inputs; give them with "
                "generator.recalibration.fit(model, inputs)"
            )
        model, batches = self.model, self.inputs.split(self.batch_size)
        return stack([reset_batch_norm(model, theta, batches) for theta in unstack(params)])
