"""Permutations that are hard where they act and soft where gradients pass: straight through.

    P = argmax_P <S, P>,     S = w d<theta_a, P.theta_b>/dP + X,     dL/dX := dL/dP

for each group at once. The first part of S is what weight matching of the group would take, all
else standing where it stands; X starts at zero and follows the loss, by an optimiser of the caller.
With w = 1 this is the straight-through estimator of Ainsworth et al. (2023), section 3.3, arXiv
2209.04836, whose target theta' drifts from theta_a: here the drift is kept as the n x n matrix that
the assignment sees of it. With w = 0 nothing but the loss chooses, from the order that stands; X is
then counted beside the identity.

Groups that a matrix acts on, heads, and what is inside them stay as they are: what fits inside a
head depends on which two heads are compared. Nothing is guaranteed of the loss.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from wsl.matching.solvers.assignment import assign
from wsl.matching.solvers.sinkhorn import apply_soft
from wsl.params import Params
from wsl.symmetry import Permutation, PermutationSpec, mixing


def free_groups(spec: PermutationSpec) -> tuple[str, ...]:
    """The groups whose order no matrix and no family of the specification depends on."""
    families = {group.name for group in spec.declared if group.per}
    parents = {group.per for group in spec.declared if group.per}
    mixed = {unit.group for unit in mixing(spec)}
    return tuple(name for name in spec.groups if name not in families | parents | mixed)


class StraightPermutations:
    """One permutation for each group of ``names``, at first the identity.

    pull: the weight w of what weight matching would take.
    """

    def __init__(
        self,
        spec: PermutationSpec,
        a: Mapping[str, Tensor],
        names: tuple[str, ...],
        *,
        pull: float = 1.0,
    ) -> None:
        part = spec.without_units()
        tensors = {place.tensor for name in names for place in part.occurrences(name)}
        floating = [name for name in part.axes if name in tensors and a[name].is_floating_point()]
        self.spec, self.part = spec, part.restrict(floating) if floating else part
        self.a, self.pull = {name: a[name] for name in floating}, pull
        device = next(iter(a.values())).device
        sizes = {name: part.groups[name] for name in names}
        self.moves = {
            n: torch.zeros(k, k, device=device, requires_grad=True) for n, k in sizes.items()
        }
        self.hard = {name: torch.arange(size, device=device) for name, size in sizes.items()}

    def __call__(self, b: Mapping[str, Tensor]) -> Params:
        """b under the permutations that are best now, with gradients for ``moves``."""
        if not self.moves:
            return dict(b)
        inside = {name: b[name] for name in self.a}
        scores = self._scores({name: tensor.detach() for name, tensor in inside.items()})
        self.hard = {name: assign(score) for name, score in scores.items()}
        soft = {n: _one_hot(self.hard[n]) + move - move.detach() for n, move in self.moves.items()}
        return {**b, **apply_soft(self.part, soft, inside)}

    @property
    def permutation(self) -> Permutation:
        """What stands now; other groups stand still."""
        still = Permutation.identity(self.spec).indices
        return Permutation(self.spec, {**still, **{n: i.cpu() for n, i in self.hard.items()}})

    def _scores(self, b: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """S of every group."""
        stand = {name: _one_hot(index).requires_grad_() for name, index in self.hard.items()}
        if not self.pull:
            return {
                n: torch.eye(len(move)).to(move) + move.detach() for n, move in self.moves.items()
            }
        with torch.enable_grad():
            moved = apply_soft(self.part, stand, b)
            alike = sum((self.a[name] * moved[name].to(self.a[name])).sum() for name in self.a)
        slopes = torch.autograd.grad(torch.as_tensor(alike), list(stand.values()))
        pulls = zip(self.moves.items(), slopes, strict=True)
        return {name: self.pull * slope + move.detach() for (name, move), slope in pulls}


def _one_hot(index: Tensor) -> Tensor:
    return torch.nn.functional.one_hot(index, len(index)).to(torch.float32)
