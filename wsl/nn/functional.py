"""`Functional`: what every network on weights says of itself, as class attributes.

    f(g.theta) = f(theta)   "invariant",       f(g.theta) = g.f(theta)   "equivariant"

for all g in the group of the specification that it was built from; "none" claims neither. Training
and the command line ask these attributes and never which class they were given, so that a network
of another package is trained by the same code once it declares them. Claims are tested: the laws of
the family (`tests/laws/functionals.py`) hold a network to what it declares.
"""

from __future__ import annotations

from typing import Any, ClassVar

from torch import nn

EQUIVARIANCES = ("invariant", "equivariant", "none")
"""What a functional can claim of the permutations of its specification."""


class Functional(nn.Module):
    """Base of networks that are called with weights (batch, *shape), a dict of tensors.

    A class declares ``equivariance`` and whatever of the rest is not the default. TypeError for an
    ``equivariance`` that is none of `EQUIVARIANCES`.
    """

    equivariance: str
    """One of `EQUIVARIANCES`."""
    reads_function: ClassVar[bool] = False
    """It runs the networks whose weights it reads: its constructor takes ``base``, one of them, and
    ``input_shape``."""
    takes_columns: ClassVar[bool] = False
    """Its constructor takes ``columns``, and its calls the codes of a batch after the weights."""
    gives_weights: ClassVar[bool] = False
    """It gives a tensor for every tensor that it reads, not (batch, out_features)."""
    fitted_at_once: ClassVar[bool] = False
    """``fit(params, targets)`` fits it on a whole training set; there are no epochs."""
    columns: Any = None
    """The `Columns` of metadata that it is told, or None."""
    normalizer: Any
    """Its `InputNormalizer`, or another module with ``fit(statistics)``; None if it has none."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        claim = cls.__dict__.get("equivariance", "none")
        if claim not in EQUIVARIANCES:
            raise TypeError(
                f"{cls.__name__}.equivariance is {claim!r}; a functional claims one of "
                f"{', '.join(EQUIVARIANCES)}"
            )

    def __init__(self) -> None:
        super().__init__()
        # Not a class attribute: it would hide the module of that name that a network registers.
        self.normalizer = None


def check_heads(who: str, hidden: int, heads: int) -> None:
    """Raise ValueError unless ``heads`` of attention can share out ``hidden`` channels."""
    if hidden % heads:
        raise ValueError(f"{who}: hidden={hidden} is not a multiple of heads={heads}")
