"""Temperature calibration: the loss that is left when only the confidence is put right.

    T = argmin_T  -mean_n log softmax(z_n / T)[y_n]

Guo et al. (2017), section 4.2, arXiv 1706.04599; the loss at T is what arXiv 2510.08023 calls
calibrated: averaged networks are often right and too unsure, which one number mends. The objective
is convex in 1/T. Fitted on the logits that are given: fit on other data than the loss is told on,
if that matters. The predicted classes stay as they are.
"""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor
from torch.nn import functional as F

_WIDEST = math.log(1e3)


@dataclasses.dataclass(frozen=True)
class Calibration:
    """The fitted ``temperature``, and the mean cross-entropy with it and without."""

    temperature: float
    loss: float
    uncalibrated_loss: float


def calibrated(logits: Tensor, labels: Tensor) -> Calibration:
    """Fit one temperature on ``logits`` (N, classes) and ``labels`` (N,), classes as integers.

    By L-BFGS on log T, in float64; T stays between 1/1000 and 1000, since logits that separate the
    classes would be sharpened for ever. Log-probabilities are logits too. Raises ValueError for
    other shapes and for logits that are not finite.
    """
    _check(logits, labels)
    z = logits.detach().double()
    fitted = _fitted(z, labels)
    before = F.cross_entropy(z, labels)
    return Calibration(float(fitted.exp()), float(_loss(z, labels, fitted)), float(before))


def _check(logits: Tensor, labels: Tensor) -> None:
    if logits.dim() != 2 or labels.shape != logits.shape[:1] or not len(labels):
        raise ValueError(
            f"calibrated: logits of shape {tuple(logits.shape)} and labels of shape "
            f"{tuple(labels.shape)}; (N, classes) and (N,) are needed, N at least 1"
        )
    if not logits.isfinite().all():
        raise ValueError("calibrated: the logits hold NaN or infinite values")


def _fitted(z: Tensor, labels: Tensor) -> Tensor:
    """The logarithm of the best temperature, from that of one on."""
    log_t = torch.zeros((), dtype=torch.float64, device=z.device, requires_grad=True)
    options = {"line_search_fn": "strong_wolfe", "tolerance_grad": 1e-10, "max_iter": 100}
    solver = torch.optim.LBFGS([log_t], **options)

    def objective() -> Tensor:
        solver.zero_grad()
        loss = _loss(z, labels, log_t)
        loss.backward()
        return loss

    with torch.enable_grad():
        solver.step(objective)
    return log_t.detach().clamp(-_WIDEST, _WIDEST)


def _loss(logits: Tensor, labels: Tensor, log_t: Tensor) -> Tensor:
    return F.cross_entropy(logits * (-log_t.clamp(-_WIDEST, _WIDEST)).exp(), labels)
