"""What an adapter consists of, as files hold it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from torch import Tensor

from wsl.merging.adapters.lowrank import LowRank


@dataclasses.dataclass(frozen=True, eq=False)
class AdapterParts:
    """``changes`` by the name of the weight, as in the base's state dict without wrappers.

    magnitudes: of DoRA, (m,), by the name of the weight.
    biases: additions to biases, by the name of the bias.
    tensors: whole tensors that take the place of the base's (``modules_to_save``).
    kind: what the file called itself; ``source`` where it was read.
    """

    changes: Mapping[str, LowRank]
    magnitudes: Mapping[str, Tensor] = dataclasses.field(default_factory=dict)
    biases: Mapping[str, Tensor] = dataclasses.field(default_factory=dict)
    tensors: Mapping[str, Tensor] = dataclasses.field(default_factory=dict)
    kind: str = "LoRA"
    source: str = ""
