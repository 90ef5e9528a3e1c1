"""`LearnedMatching`: matrices of units trained so that networks between the two have a low loss.

    minimise over m   E_lambda L(lambda theta_a + (1 - lambda) m p theta_b),   lambda ~ U(.4, .6)
    m = (1 - A)(1 + A)^-1 m_0,   A = - A^T               orthogonal: residual stream, inside heads
    c = exp(i phi) c_0                                   rotary positions

from p and m_0 of another matcher, by Adam. Theus et al. (2025), section 4, arXiv 2506.22712, find
that permutations stay where weight matching puts them while the residual map moves, and that the
start is essential; so p is kept. Both ends may be said to move (dual matching, arXiv 2606.23607):

    L(lambda g_a theta_a + (1 - lambda) g_b theta_b) = L(lambda theta_a + (1 - lambda) g theta_b)

with g = g_a^-1 g_b, since elements act linearly and leave L. So one element for b can do what two
can, and a stays as it is. The loss of both ends is what it was, to rounding. Not guaranteed: a low
barrier, nor a distance below that of the start.
"""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from wsl.matching.result import Match, Matcher
from wsl.matching.solvers.circuits import CircuitMatching
from wsl.matching.solvers.sums import inner_product
from wsl.params import Params
from wsl.symmetry import (
    LinearMaps,
    PermutationSpec,
    SymmetryElement,
    UnitSymmetry,
    act_at,
    centred_basis,
)

Loss = Callable[[Params, Any], Tensor]
"""The loss of weights on one batch, a scalar that can be differentiated."""


@dataclasses.dataclass(frozen=True)
class LearnedMatching:
    """Gradient descent on the loss between the networks, over the matrices of the specification.

    loss, batches: what is minimised, and what it is given in turn.
    steps: updates, one batch each. rate: of Adam; it falls to zero along a cosine.
    middle: lambda is uniform between these.
    start: a matcher that returns a `SymmetryElement`, by default `CircuitMatching`.
    seed: of lambda. kinds: which symmetries are trained; others stay as the start leaves them.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"weights", "loss"})
    searches: ClassVar[frozenset[str]] = CircuitMatching.searches
    many: ClassVar[bool] = False

    loss: Loss
    batches: Sequence[Any]
    steps: int = 300
    rate: float = 0.01
    middle: tuple[float, float] = (0.4, 0.6)
    start: Matcher = dataclasses.field(default_factory=CircuitMatching)
    seed: int = 0
    kinds: tuple[str, ...] = ("orthogonal", "linear", "rotation")

    def __post_init__(self) -> None:
        if self.steps < 1 or not len(self.batches):
            raise ValueError(
                f"LearnedMatching: {self.steps} steps on {len(self.batches)} batches; at least one "
                "of each is needed"
            )
        low, high = self.middle
        if not 0 <= low <= high <= 1:
            raise ValueError(
                f"LearnedMatching: middle is {self.middle}; it must be two numbers between 0 and "
                "1, the smaller one first"
            )

    def solve(
        self, spec: PermutationSpec, a: Mapping[str, Tensor], b: Mapping[str, Tensor], /
    ) -> Match:
        """The element that brings ``b`` to ``a``; see `wsl.match`, which checks its inputs first.

        The result is that of ``start`` with other matrices: its objective is <a, g.b>, ``losses``
        has the loss of every step. Without matrices in the specification it is that of ``start``.
        """
        begun = time.perf_counter()
        found = self.start.solve(spec, a, b)
        if not isinstance(found.element, SymmetryElement):
            return found
        learned, losses = self._train(a, b, found.element)
        floating = [name for name, tensor in a.items() if tensor.is_floating_point()]
        return dataclasses.replace(
            found,
            element=learned,
            objective=inner_product(a, learned(b), floating),
            sweeps=self.steps,
            converged=False,
            trace=None,
            losses=losses,
            seconds={**found.seconds, "total": time.perf_counter() - begun},
        )

    def _train(
        self, a: Mapping[str, Tensor], b: Mapping[str, Tensor], start: SymmetryElement
    ) -> tuple[SymmetryElement, Tensor]:
        """The element with its maps after all steps, and the loss at each."""
        maps = start.maps or LinearMaps.identity(start.spec)
        permuted = start.rescaling(start.permutation(b))
        learned = _Learned(maps, next(iter(a.values())).device)

        def lost(share: float, batch: Any) -> Tensor:
            moved = _act(maps.spec, learned.values(), permuted)
            return self.loss(_between(a, moved, share), batch)

        with torch.enable_grad():
            losses = self._descend(lost, learned.trained(self.kinds))
        last = tuple(value.detach().cpu() for value in learned.values())
        element = SymmetryElement(start.permutation, start.rescaling, LinearMaps(maps.spec, last))
        return element, losses

    def _shares(self) -> list[float]:
        """lambda of every step."""
        low, high = self.middle
        drawn = torch.rand(self.steps, generator=torch.Generator().manual_seed(self.seed))
        return [low + (high - low) * share for share in drawn.tolist()]

    def _descend(self, lost: Callable[[float, Any], Tensor], leaves: Sequence[Tensor]) -> Tensor:
        """Adam on what is ``lost`` at a share of a and a batch; the loss of every step."""
        optimiser = torch.optim.Adam(leaves, self.rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, self.steps)
        losses = []
        for share, batch in zip(self._shares(), itertools.cycle(self.batches), strict=False):
            loss = lost(share, batch)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            losses.append(loss.detach())
        return torch.stack(losses).cpu()


class _Learned:
    """Maps with a move from each, which starts at zero."""

    def __init__(self, maps: LinearMaps, device: torch.device) -> None:
        self.units = [unit for unit in maps.spec.units if unit.mixes]
        self.begun = [value.to(device) for value in maps.values]
        pairs = zip(self.units, self.begun, strict=True)
        self.moves = [torch.zeros_like(_generator(*pair)) for pair in pairs]

    def trained(self, kinds: Sequence[str]) -> list[Tensor]:
        """The moves of these kinds, from now on with gradients."""
        pairs = zip(self.units, self.moves, strict=True)
        return [move.requires_grad_() for unit, move in pairs if unit.kind in kinds]

    def values(self) -> list[Tensor]:
        """The values after the moves."""
        triples = zip(self.units, self.begun, self.moves, strict=True)
        return [moved_value(*each) for each in triples]


def moved_value(unit: UnitSymmetry, value: Tensor, move: Tensor) -> Tensor:
    """The value of a unit after a move from it: a Cayley map of a matrix, or a turn by angles.

    A move of zero leaves it. An orthogonal matrix stays orthogonal; a rotation keeps its lengths.
    """
    if unit.kind == "rotation":
        return value * torch.polar(torch.ones_like(move), move)
    skew = (move - move.mT) / 2
    one = torch.eye(skew.shape[-1]).to(skew)
    turn = torch.linalg.solve(one + skew, one - skew)
    if unit.form == "centred":
        basis = centred_basis(value.shape[-1]).to(value)
        turn = basis @ turn @ basis.T + 1 / value.shape[-1]
    return turn @ value


def _generator(unit: UnitSymmetry, value: Tensor) -> Tensor:
    """A tensor of the shape of a move: angles, or a matrix of which the skew part counts."""
    if unit.kind == "rotation":
        return value.real
    return value[..., 1:, 1:] if unit.form == "centred" else value


def _act(spec: PermutationSpec, values: Sequence[Tensor], params: Mapping[str, Tensor]) -> Params:
    """The action of maps that are being learned, without the checks of `LinearMaps`."""
    moved = dict(params)
    units = (unit for unit in spec.units if unit.mixes)
    for unit, value in zip(units, values, strict=True):
        for place in unit.places:
            moved[place.tensor] = act_at(spec, unit, value, place=place)(moved[place.tensor], 0)
    return moved


def _between(a: Mapping[str, Tensor], b: Mapping[str, Tensor], share: float) -> Params:
    """The weights of which ``share`` comes from a; integer tensors are a's."""
    return {
        name: torch.lerp(b[name].to(tensor), tensor, share)
        if tensor.is_floating_point()
        else tensor
        for name, tensor in a.items()
    }
