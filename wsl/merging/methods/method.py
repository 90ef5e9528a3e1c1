"""What a method of merging is: hyper-parameters, what it needs, and one function on tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol

from torch import Tensor

from wsl.params import Params


class MergeMethod(Protocol):
    """A frozen dataclass of hyper-parameters; members have been aligned by then, if they are to be.

    needs: what it needs besides the members, of "base" (the weights that all members started from)
    and "statistics" (one mapping for each member, of what the method's documentation says).
    """

    needs: ClassVar[frozenset[str]]

    def solve(
        self,
        members: Sequence[Mapping[str, Tensor]],
        *,
        base: Mapping[str, Tensor] | None = None,
        statistics: Sequence[Mapping[str, Any]] | None = None,
    ) -> Params:
        """One network of at least one member; raises ValueError for members that differ."""
        ...
