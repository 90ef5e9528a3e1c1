"""`LearnedMatching`: an element trained so that networks between the two have a low loss.

    minimise over m, p   E_lambda L(lambda theta_a + (1 - lambda) m p theta_b),  lambda ~ U(.4, .6)
    m = (1 - A)(1 + A)^-1 m_0,   A = - A^T               orthogonal: residual stream, inside heads
    c = exp(i phi) c_0                                   rotary positions
    p = q p_0,   q hard forwards and soft backwards      units of feed-forward layers (`straight`)

from p_0 and m_0 of another matcher, matrices by Adam and permutations by gradient descent. Theus et
al. (2025), section 4, arXiv 2506.22712, find the start essential. They also find that permutations
stay where weight matching puts them; in the small networks tried here most of them move, and the
barrier is lower for it (``docs/matching.md``). Heads stay where the start puts them. Both ends may
be said to move (dual matching, arXiv 2606.23607):

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
from wsl.matching.solvers.straight import StraightPermutations, free_groups
from wsl.matching.solvers.sums import inner_product
from wsl.params import Params
from wsl.symmetry import (
    LinearMaps,
    Permutation,
    PermutationSpec,
    Rescaling,
    SymmetryElement,
    UnitSymmetry,
    act_at,
    centred_basis,
    mixing,
)

Loss = Callable[[Params, Any], Tensor]
"""The loss of weights on one batch, a scalar that can be differentiated."""

MATRICES = ("orthogonal", "linear", "rotation")
"""The kinds of matrices that can be trained."""


@dataclasses.dataclass(frozen=True)
class LearnedMatching:
    """Gradient descent on the loss between the networks, over matrices and permutations.

    loss, batches: what is minimised, and what it is given in turn.
    steps: updates, one batch each. rate: of Adam on the matrices; it falls to zero along a cosine.
    order_rate: of gradient descent on the permutations, with a momentum of 0.9; it falls alike.
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
    order_rate: float = 0.1
    middle: tuple[float, float] = (0.4, 0.6)
    start: Matcher = dataclasses.field(default_factory=CircuitMatching)
    seed: int = 0
    kinds: tuple[str, ...] = ("permutation", *MATRICES)

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

        The result is that of ``start`` with another element: its objective is <a, g.b>, ``losses``
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
            permutation=Permutation(spec, learned.permutation.indices),
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
        """The element after all steps, and the loss at each."""
        learned = _Learned(a, start, kinds=self.kinds)
        moved = start.rescaling(start.permutation(b))

        def lost(share: float, batch: Any) -> Tensor:
            return self.loss(_between(a, learned(moved), share), batch)

        with torch.enable_grad():
            losses = self._descend(lost, learned)
        return learned.element(moved), losses

    def _shares(self) -> list[float]:
        """lambda of every step."""
        low, high = self.middle
        drawn = torch.rand(self.steps, generator=torch.Generator().manual_seed(self.seed))
        return [low + (high - low) * share for share in drawn.tolist()]

    def _descend(self, lost: Callable[[float, Any], Tensor], learned: _Learned) -> Tensor:
        """Steps on what is ``lost`` at a share of a and a batch; the loss of every step."""
        optimisers = self._optimisers(learned)
        if not optimisers:
            return torch.empty(0)
        schedules = [torch.optim.lr_scheduler.CosineAnnealingLR(o, self.steps) for o in optimisers]
        losses = []
        for share, batch in zip(self._shares(), itertools.cycle(self.batches), strict=False):
            loss = lost(share, batch)
            for optimiser in optimisers:
                optimiser.zero_grad()
            loss.backward()
            for each in (*optimisers, *schedules):
                each.step()
            losses.append(loss.detach())
        return torch.stack(losses).cpu()

    def _optimisers(self, learned: _Learned) -> list[torch.optim.Optimizer]:
        """One for the matrices and one for the permutations, where there are any."""
        matrices, orders = learned.trained, list(learned.orders.moves.values())
        found: list[torch.optim.Optimizer] = []
        if matrices:
            found.append(torch.optim.Adam(matrices, self.rate))
        if orders:
            found.append(torch.optim.SGD(orders, self.order_rate, momentum=0.9))
        return found


class _Learned:
    """Maps with a move from each, which starts at zero, and permutations before them."""

    def __init__(
        self, a: Mapping[str, Tensor], start: SymmetryElement, *, kinds: Sequence[str]
    ) -> None:
        self.start, device = start, next(iter(a.values())).device
        maps = start.maps or LinearMaps.identity(start.spec)
        self.spec, self.units = maps.spec, mixing(maps.spec)
        self.begun = [value.to(device) for value in maps.values]
        pairs = zip(self.units, self.begun, strict=True)
        self.moves = [torch.zeros_like(_generator(*pair)) for pair in pairs]
        pairs = zip(self.units, self.moves, strict=True)
        self.trained = [move.requires_grad_() for unit, move in pairs if unit.kind in kinds]
        names = free_groups(maps.spec) if "permutation" in kinds else ()
        self.orders = StraightPermutations(maps.spec, a, names)

    def __call__(self, params: Mapping[str, Tensor]) -> Params:
        """The action on what the start has permuted and rescaled."""
        # Matrices act on other groups than those that are ordered anew, so both commute.
        return self.orders(_act(self.spec, self._values(), params))

    def element(self, params: Mapping[str, Tensor]) -> SymmetryElement:
        """The start's permutation and rescaling, and all that came after, on weights as above."""
        with torch.no_grad():
            self(params)
        last = tuple(value.detach().cpu() for value in self._values())
        moved = SymmetryElement(self.orders.permutation, Rescaling.identity(self.spec))
        begun = SymmetryElement(self.start.permutation, self.start.rescaling)
        both = moved @ begun
        return SymmetryElement(both.permutation, both.rescaling, LinearMaps(self.spec, last))

    def _values(self) -> list[Tensor]:
        """The matrices after the moves."""
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
    for unit, value in zip(mixing(spec), values, strict=True):
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
