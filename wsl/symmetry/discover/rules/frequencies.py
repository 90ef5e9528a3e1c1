"""Fourier transforms and complex numbers seen as pairs: an axis that is transformed, or holds the
pair, cannot move.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from wsl.symmetry.discover.axes import Value, pin
from wsl.symmetry.discover.rules.call import Call, Rules, rows


def transform(
    at: Call, self: Value, default: tuple[int, ...] | None, dim: Any = None, **_: Any
) -> Value:
    """Linear along the axes that are transformed, and the same for every position of the others."""
    dims = (dim,) if isinstance(dim, int) else dim or default or range(len(self))
    changed = {d % len(self) for d in dims}
    for d in changed:
        pin(self[d], f"frequencies of {at.name}")
    still = at.fixed("frequencies", at.shape)
    return tuple(still[i] if i in changed else axis for i, axis in enumerate(self))


def as_real(at: Call, self: Value, **_: Any) -> Value:
    """A last axis of the real and the imaginary part."""
    return (*self, *at.fixed("parts", [2]))


def as_complex(at: Call, self: Value, **_: Any) -> Value:
    """The last axis holds the real and the imaginary part."""
    pin(self[-1], f"parts of {at.name}")
    return self[:-1]


RULES: Rules = {
    **rows(
        partial(transform, default=(-1,)), "fft_fft fft_ifft fft_rfft fft_irfft fft_hfft fft_ihfft"
    ),
    **rows(partial(transform, default=(-2, -1)), "fft_fft2 fft_ifft2 fft_rfft2 fft_irfft2"),
    **rows(partial(transform, default=None), "fft_fftn fft_ifftn fft_rfftn fft_irfftn"),
    **rows(as_real, "view_as_real"),
    **rows(as_complex, "view_as_complex"),
}
