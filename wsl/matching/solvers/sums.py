"""Sums over weights, in float64, where the first of them lie."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor


def inner_product(a: Mapping[str, Tensor], b: Mapping[str, Tensor], names: Iterable[str]) -> float:
    """sum_t <a_t, b_t> over the tensors ``names``."""
    products = (a[n].double() * b[n].to(a[n].device, torch.float64) for n in names)
    return sum(float(product.sum()) for product in products)


def squared_norm(theta: Mapping[str, Tensor], names: Iterable[str]) -> float:
    """sum_t |theta_t|^2 over the tensors ``names``."""
    return sum(float(theta[name].double().square().sum()) for name in names)


def squared_distance(
    a: Mapping[str, Tensor], b: Mapping[str, Tensor], names: Iterable[str]
) -> float:
    """sum_t |a_t - b_t|^2 over the tensors ``names``."""
    apart = (a[n].double() - b[n].to(a[n].device).double() for n in names)
    return sum(float(part.square().sum()) for part in apart)
