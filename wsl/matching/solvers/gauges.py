"""The best matrix between two sets of vectors, in closed form where there is one.

    orthogonal   argmax_{M in O(n)} tr(M^T S) = U V^T,     S = X_a X_b^T + Y_a Y_b^T = U D V^T
    rotation     argmax_{|c| = 1} Re(c^* S) = S / |S|,     S = sum_q q_a q_b^* + sum_k k_a k_b^*
    general      argmin_M |X_a - M X_b|^2 + |Y_a - M^-T Y_b|^2

X are the vectors on which M acts, Y those on which its inverse transpose does; every leading axis
is a problem of its own. Orthogonal Procrustes: Schönemann (1966), doi 10.1007/BF02289451. The
rotation has one number for each frequency and each head of keys, summed over the queries that read
it. The general matrix is found by Gauss-Newton steps M <- (1 + E) M from the best of three closed
forms: E solves a Sylvester equation, and a step is halved until it gains. It is a local minimum.
Everything but rotations is done on n x n products, in float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

_HALVINGS = 8
_STEPS = 50
_SMALLEST_GAIN = 1e-9


class Grams(NamedTuple):
    """Products (..., n, n): X_a X_b^T, X_b X_b^T, Y_a Y_b^T, Y_b Y_b^T."""

    x: Tensor
    xx: Tensor
    y: Tensor
    yy: Tensor

    @classmethod
    def of(cls, x: tuple[Tensor, Tensor], y: tuple[Tensor, Tensor]) -> Grams:
        """From vectors (..., n, columns) of a and of b, where M acts and where M^-T does."""
        products = (x[0] @ x[1].mT, x[1] @ x[1].mT, y[0] @ y[1].mT, y[1] @ y[1].mT)
        return cls(*(product.double() for product in products))


def procrustes(products: Tensor) -> Tensor:
    """The orthogonal matrices M (..., n, n) of largest <M, S>; 1 where S is 0."""
    still = torch.eye(products.shape[-1]).to(products)
    nothing = (products == 0).flatten(-2).all(-1)[..., None, None]
    u, _, v = torch.linalg.svd(torch.where(nothing, still, products))
    return u @ v


def centred_procrustes(products: Tensor, basis: Tensor) -> Tensor:
    """The same among matrices that keep the ones; ``basis`` (n, n - 1) spans what may turn."""
    inside = procrustes(basis.T @ products @ basis)
    return basis @ inside @ basis.T + 1 / products.shape[-1]


def phases(products: Tensor) -> Tensor:
    """The complex numbers c with |c| = 1 and largest Re(c^* S); 1 where S is 0."""
    size = products.abs()
    return torch.where(size > 0, products / size.clamp_min(torch.finfo(size.dtype).tiny), 1)


def stretched_phases(products: Sequence[Tensor], sizes: Sequence[Tensor]) -> Tensor:
    """The complex numbers c of least |q_a - c q_b|^2 + |k_a - k_b / c^*|^2.

    ``products`` are the sums of q_a q_b^* and k_a k_b^*, ``sizes`` those of |q_b|^2 and |k_b|^2. By
    turns the phase, in closed form, and Gauss-Newton steps of log |c|.
    """
    p, q = products
    r, turn = torch.ones_like(sizes[0]), phases(p + q)
    for _ in range(_STEPS):
        turn = phases(r * p + q / r)
        along = (r * (turn.conj() * p).real, (turn.conj() * q).real / r)
        r = r * _log_step(along, (r.square() * sizes[0], sizes[1] / r.square())).exp()
    return r * turn


def _log_step(products: tuple[Tensor, Tensor], sizes: tuple[Tensor, Tensor]) -> Tensor:
    """The Gauss-Newton step of log |c|, at most 1: of both sides where c has brought them."""
    curve = sizes[0] + sizes[1]
    step = (products[0] - sizes[0] - products[1] + sizes[1]) / curve.clamp_min(1e-300)
    return step.clamp(-1, 1)


def general(grams: Grams) -> Tensor:
    """Invertible matrices M (..., n, n) that `cost` cannot be lowered from by small steps."""
    here = _start(grams)
    now = cost(grams, here)
    for _ in range(_STEPS):
        new, then = _stepped(grams, here, now)
        better = then < now
        here = torch.where(better[..., None, None], new, here)
        gained = (now - then).clamp_min(0).max()
        now = torch.minimum(now, then)
        if not gained > _SMALLEST_GAIN * _scale(grams):
            break
    return here


def cost(grams: Grams, matrix: Tensor) -> Tensor:
    """|X_a - M X_b|^2 + |Y_a - M^-T Y_b|^2 less |X_a|^2 + |Y_a|^2; infinite if M is singular."""
    back, singular = torch.linalg.inv_ex(matrix)
    mine = _trace(matrix @ grams.xx, matrix) - 2 * _trace(grams.x, matrix)
    other = _trace(back.mT @ grams.yy, back.mT) - 2 * _trace(grams.y, back.mT)
    total = mine + other
    return torch.where((singular == 0) & total.isfinite(), total, torch.inf)


def _start(grams: Grams) -> Tensor:
    """The best of an orthogonal matrix and the two that suit one side alone."""
    from_x, from_y = _fit(grams.x, grams.xx), _fit(grams.y, grams.yy)
    back = torch.linalg.inv_ex(from_y)[0].mT.nan_to_num(0.0, 0.0, 0.0)
    tried = torch.stack([procrustes(grams.x + grams.y), from_x, back])
    best = torch.stack([cost(grams, matrix) for matrix in tried]).argmin(0)
    return tried.take_along_dim(best[None, ..., None, None], 0)[0]


def _fit(products: Tensor, own: Tensor) -> Tensor:
    """The matrix of least squares of one side: A B^T (B B^T)^+."""
    return products @ torch.linalg.pinv(own, hermitian=True)


def _stepped(grams: Grams, here: Tensor, now: Tensor) -> tuple[Tensor, Tensor]:
    """The first of a step and its halves that gains, in each problem, and its cost."""
    step = _newton(grams, here) @ here
    new, then = here, now
    for k in range(_HALVINGS):
        tried = here + step / 2**k
        worth = cost(grams, tried)
        take = (worth < now) & (then >= now)
        new, then = torch.where(take[..., None, None], tried, new), torch.where(take, worth, then)
        if bool((then < now).all()):
            break
    return new, then


def _newton(grams: Grams, here: Tensor) -> Tensor:
    """E of the step: E (P P^T) + (N N^T) E = R P^T - N T^T.

    P = M X_b and N = M^-T Y_b are what is moved, R and T what they miss.
    """
    back = torch.linalg.inv(here)
    pp, nn = here @ grams.xx @ here.mT, back.mT @ grams.yy @ back
    missing = (grams.x @ here.mT - pp) - ((grams.y @ back).mT - nn)
    return _sylvester(nn, pp, missing)


def _sylvester(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """E with A E + E B = C, for symmetric A and B without negative eigenvalues."""
    (left, u), (right, v) = torch.linalg.eigh(a), torch.linalg.eigh(b)
    sums = (left[..., :, None] + right[..., None, :]).clamp_min(0)
    sums = sums + torch.finfo(sums.dtype).eps * sums.amax((-2, -1), keepdim=True)
    return u @ ((u.mT @ c @ v) / sums) @ v.mT


def _trace(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum((-2, -1))


def _scale(grams: Grams) -> Tensor:
    return (grams.xx + grams.yy).diagonal(dim1=-2, dim2=-1).sum(-1).max()
