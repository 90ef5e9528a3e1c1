"""Linear streams averaged as the product that they are: no gauge between them counts.

    Z = sum_i lambda_i Y_i^T X_i = U S V^T,    X = X_1 V V^T,   Y^T = U S V^T X^+   (n values of S)

Where one linear map meets another with nothing between them (a head's values and outputs, queries
and keys, a linear bottleneck, low-rank factors, a stream without nonlinearity), the network sees
nothing but products, and (X, Y) and (M X, M^-T Y) are one network for each M in GL(n). The product
of the mean factors depends on M; the mean of the products does not. Its best approximation of rank
n in the Frobenius norm is that of Eckart and Young (1936), doi 10.1007/BF02288367; X are all
tensors that write the n units, Y all that read them. The factors are chosen near the first
member's.

Guarantees: members that differ by such matrices give the first of them, to rounding; matrices on
the other members do not change the result; the error of the products is at most that of the
product of the means. Not done: a symmetry whose tensors were already replaced for another (three
linear maps in a row) stays as it was averaged: bring the members to each other by
`wsl.matching.align_linear` first. Rotary queries and keys are no such product.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from wsl.connectivity.repairs.result import shares_of
from wsl.params import Params
from wsl.symmetry import PermutationSpec, Place, UnitSymmetry, at_place, heads_of, mixing

_ROUNDING = 1e-12
"""Singular values below this beside the largest are rounding."""
_ILL = 1e6
"""Condition from which the first member's factors are not what is chosen near to."""
Factors = tuple[Tensor, Tensor]
"""X and Y of every head, (heads, n, columns) each."""


@torch.no_grad()
def average_products(
    spec: PermutationSpec,
    params: Mapping[str, Tensor],
    members: Sequence[Mapping[str, Tensor]],
    *,
    weights: Sequence[float] | None = None,
) -> Params:
    """``params``, merged of aligned ``members``, with factors of the mean of their products.

    spec: with its unit symmetries, as `wsl.symmetry.symmetry_spec` finds them; where none is
    linear, nothing changes. weights: the shares lambda of the members, equal unless given.
    Raises `SpecError` for weights that do not fit, ValueError for members unlike ``params``.
    """
    shares = shares_of(params, members, weights, what="average_products")
    spec.validate(params)
    fresh = dict(params)
    for unit in _separate(spec):
        each = [_factors(spec, unit, member) for member in members]
        pairs = [_product(heads, shares) for heads in _by_head(each)]
        x, y = (torch.stack(part) for part in zip(*pairs, strict=True))
        _write(spec, unit, fresh, factors=(x, y))
    return fresh


def _separate(spec: PermutationSpec) -> Iterator[UnitSymmetry]:
    """Linear maps with both sides, but those that share entries with an earlier one."""
    taken: list[Place] = []
    for unit in mixing(spec):
        sides = {place.exponent for place in unit.places}
        if unit.kind == "linear" and len(sides) == 2 and not _meets(unit, taken):
            taken += unit.places
            yield unit


def _meets(unit: UnitSymmetry, taken: Sequence[Place]) -> bool:
    return any(
        a.tensor == b.tensor and (a.axis != b.axis or a.segment == b.segment)
        for a in unit.places
        for b in taken
    )


def _factors(spec: PermutationSpec, unit: UnitSymmetry, params: Mapping[str, Tensor]) -> Factors:
    found: dict[bool, list[Tensor]] = {True: [], False: []}
    for place in unit.places:
        found[place.exponent > 0].append(_block(spec, unit, params[place.tensor], place=place))
    return torch.cat(found[True], -1), torch.cat(found[False], -1)


def _block(spec: PermutationSpec, unit: UnitSymmetry, tensor: Tensor, *, place: Place) -> Tensor:
    """The units of one place, (heads, n, columns), float64."""
    seen: list[Tensor] = []

    def see(units: Tensor) -> Tensor:
        seen.append(units)
        return units

    at_place(spec, unit, see, place=place)(tensor.double(), 0)
    (units,) = seen
    heads = units.shape[-2] if heads_of(spec, unit) else 1
    return units.reshape(-1, heads, units.shape[-1]).permute(1, 2, 0)


def _by_head(each: Sequence[Factors]) -> Iterator[list[Factors]]:
    """The factors of all members, head by head."""
    for head in range(len(each[0][0])):
        yield [(x[head], y[head]) for x, y in each]


def _product(members: Sequence[Factors], shares: Sequence[float]) -> Factors:
    """X and Y (n, columns) of one head, whose product is nearest to the mean."""
    first = members[0][0]
    read, s, written = _mean_product(members, shares)
    rank = min(len(first), int((s > _ROUNDING * s[:1]).sum()))
    read, written, s = read[:, :rank], written[:, :rank], s[:rank]
    return _near(first, written, read * s, balance=s.sqrt())


def _mean_product(
    members: Sequence[Factors], shares: Sequence[float]
) -> tuple[Tensor, Tensor, Tensor]:
    """U, S and V of sum_i lambda_i Y_i^T X_i, by the factors: the product itself may be large."""
    x, right = torch.linalg.qr(torch.cat([x for x, _ in members]).mT)
    scaled = [share * y for share, (_, y) in zip(shares, members, strict=True)]
    y, left = torch.linalg.qr(torch.cat(scaled).mT)
    u, s, v = torch.linalg.svd(left @ right.mT, full_matrices=False)
    return y @ u, s, x @ v.mT


def _near(given: Tensor, written: Tensor, read: Tensor, *, balance: Tensor) -> Factors:
    """Factors of read @ written^T, the first near ``given`` unless that is ill-conditioned."""
    inside = given @ written
    if not len(balance) or torch.linalg.cond(inside) > _ILL:
        # As many rows as there are singular values, of equal lengths on both sides; zeros below.
        inside = torch.eye(len(given), len(balance)).to(given) * balance
    return inside @ written.mT, torch.linalg.pinv(inside).mT @ read.mT


def _write(spec: PermutationSpec, unit: UnitSymmetry, params: Params, *, factors: Factors) -> None:
    """Write X and Y (heads, n, columns) to the places where `_factors` has read them."""
    rest = {True: factors[0], False: factors[1]}
    for place in unit.places:
        side, tensor = place.exponent > 0, params[place.tensor]
        columns = _block(spec, unit, tensor, place=place).shape[-1]
        new, rest[side] = rest[side].tensor_split([columns], -1)
        params[place.tensor] = _replaced(spec, unit, tensor, new=(place, new))


def _replaced(
    spec: PermutationSpec, unit: UnitSymmetry, tensor: Tensor, *, new: tuple[Place, Tensor]
) -> Tensor:
    """A tensor with another block at one place: the inverse of `_block`."""
    place, block = new
    rows = block.permute(2, 0, 1)
    act = at_place(spec, unit, lambda units: rows.reshape(units.shape), place=place)
    return act(tensor.double(), 0).to(tensor)
