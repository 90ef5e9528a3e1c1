"""One checkpoint, or one axis of members: how many weights of a specification are given at once."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from wsl.symmetry.spec.grammar import SpecError
from wsl.symmetry.spec.specification import PermutationSpec


def check_one(
    spec: PermutationSpec,
    params: Mapping[str, Tensor],
    which: str,
    *,
    needed: str = "one checkpoint is needed",
) -> None:
    """Raise `SpecError` unless ``params`` are weights of ``spec`` without batch axes.

    ``which`` names them in the error, as the caller's argument is called; ``needed`` says who needs
    one, for example "match takes one checkpoint".
    """
    if batch := spec.validate(params):
        raise SpecError(
            f"{which}: has batch axes {tuple(batch)}, but {needed}; index or unstack it first"
        )


def check_members(
    spec: PermutationSpec,
    params: Mapping[str, Tensor],
    which: str,
    *,
    needed: str = "one axis with at least one member is needed",
) -> int:
    """How many members there are; raises `SpecError` unless they are stacked along one axis.

    ``which`` names them in the error, as the caller's argument is called.
    """
    batch = spec.validate(params)
    if len(batch) != 1 or not batch[0]:
        raise SpecError(f"{which}: leading axes {tuple(batch)}, but {needed}; see params.stack")
    return batch[0]
