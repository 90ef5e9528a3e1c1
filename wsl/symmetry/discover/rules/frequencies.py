"""Fourier transforms and complex numbers seen as pairs: an axis that is transformed, or holds the
pair, cannot move.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from wsl.symmetry.discover.axes import Value, pin
from wsl.symmetry.discover.exponents import LINEAR_MAP
from wsl.symmetry.discover.rules.row import OpContext, OpTable, row


def transform(
    at: OpContext, self: Value, default: tuple[int, ...] | None, dim: Any = None, **_: Any
) -> Value:
    """Linear along the axes that are transformed, and the same for every position of the others."""
    dims = (dim,) if isinstance(dim, int) else dim or default or range(len(self))
    changed = {d % len(self) for d in dims}
    for d in changed:
        pin(self[d], f"frequencies of {at.name}")
    still = at.fixed("frequencies", at.shape)
    return tuple(still[i] if i in changed else axis for i, axis in enumerate(self))


def as_real(at: OpContext, self: Value, **_: Any) -> Value:
    """A last axis of the real and the imaginary part."""
    return (*self, *at.fixed("parts", [2]))


def as_complex(at: OpContext, self: Value, **_: Any) -> Value:
    """The last axis holds the real and the imaginary part."""
    pin(self[-1], f"parts of {at.name}")
    return self[:-1]


RULES: OpTable = {
    **row(
        "fft_fft fft_ifft fft_rfft fft_irfft fft_hfft fft_ihfft",
        partial(transform, default=(-1,)),
        units=LINEAR_MAP,
    ),
    **row(
        "fft_fft2 fft_ifft2 fft_rfft2 fft_irfft2",
        partial(transform, default=(-2, -1)),
        units=LINEAR_MAP,
    ),
    **row(
        "fft_fftn fft_ifftn fft_rfftn fft_irfftn",
        partial(transform, default=None),
        units=LINEAR_MAP,
    ),
    **row("fft_hfft2 fft_ihfft2", partial(transform, default=(-2, -1)), units=LINEAR_MAP),
    **row(
        "fft_hfftn fft_ihfftn fft_fftshift fft_ifftshift",
        partial(transform, default=None),
        units=LINEAR_MAP,
    ),
    # A number that is added afterwards is added to one part only, so that the origin of a weight's
    # scale does not pass: linear maps, not entries in other places.
    **row("view_as_real", as_real, units=LINEAR_MAP),
    **row("view_as_complex", as_complex, units=LINEAR_MAP),
}
