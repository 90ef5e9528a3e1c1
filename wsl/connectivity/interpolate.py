"""Linear interpolation of two weights of one architecture.

    lerp(a, b, t) = (1 - t) a + t b     tensor by tensor; t = 0 gives a and t = 1 gives b, bit for
                                        bit

Nothing is aligned here: bring b to a first with `wsl.match`. Batch-norm statistics are interpolated
like weights, which keeps variances positive but is not what the interpolated network would measure:
see `reset_batch_norm`. Integer and boolean tensors (counters, masks) have no midpoint and are those
of ``a`` for every t; where a and b agree on them, the ends are exact.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from wsl.params import Params, check_alike, check_range

__all__ = ["check_alike", "lerp"]


def lerp(a: Mapping[str, Tensor], b: Mapping[str, Tensor], t: float) -> Params:
    """Weights at ``t`` on the line from ``a`` to ``b``, in the order, dtype and device of ``a``.

    ``t`` may lie outside [0, 1]; leading axes may be batch.
    Raises ValueError naming the first tensor that only one of them has, whose shapes differ, or
    that leaves the range of its type, such as float16.
    """
    check_alike(a, b)
    between = {
        name: torch.lerp(x, b[name].to(x), t) if _is_real(x) else x.clone() for name, x in a.items()
    }
    check_range(between, a, b, what=f"interpolation at t={t:g}")
    return between


def _is_real(tensor: Tensor) -> bool:
    return tensor.is_floating_point() or tensor.is_complex()
