"""One representative for each network: align all members of a population to one reference.

    canonical(theta) = g.theta,   g = argmax_g <theta_ref, g.theta>                      (weight
        matching)
    theta_ref <- mean_n canonical(theta_n), repeated
        (generalised Procrustes)

A generator that sees raw weights must learn every permutation of every network; one that sees
canonical weights need not. Ainsworth et al. (2023), arXiv 2209.04836; for generation
DeepWeightFlow, Gupta et al. (2026), arXiv 2601.05052.

Guaranteed: a member's function never changes; where matching finds the optimum and it is unique,
``canonical(g.theta) == canonical(theta)`` for every g. Matching several layers is a local search,
so otherwise the two agree only in being aligned about equally well. Scales and signs of units are
left as they are.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from wsl.matching import Matcher, match
from wsl.params import Params, stack, unstack
from wsl.symmetry import PermutationSpec, SpecError


class Canonicalizer(nn.Module):
    """Moves members to ``reference``, weights of one network; the reference is stored in buffers
    ``reference/NAME``.
    """

    def __init__(
        self,
        spec: PermutationSpec,
        reference: Mapping[str, Tensor],
        *,
        matcher: Matcher | None = None,
    ) -> None:
        super().__init__()
        if batch := spec.validate(reference):
            raise SpecError(
                f"reference: has batch axes {tuple(batch)}, but one network is needed; index or "
                "unstack it first"
            )
        self.spec, self.matcher = spec, matcher
        for name in spec.axes:
            self.register_buffer(_key(name), reference[name].detach().clone())

    @property
    def reference(self) -> Params:
        """The network that all others are aligned to."""
        return {name: self.get_buffer(_key(name)) for name in self.spec.axes}

    def fit(
        self, params: Mapping[str, Tensor], *, start: int = 0, rounds: int = 2, limit: int = 256
    ) -> Canonicalizer:
        """Take row ``start`` as reference, then ``rounds`` times the mean of up to ``limit``
        members aligned to it.

        Integer tensors stay those of the row.
        """
        every = -(-_members(self.spec, params) // limit)
        some = {name: tensor[::every] for name, tensor in params.items()}
        self._set({name: tensor[start] for name, tensor in params.items()})
        for _ in range(rounds):
            self._set({name: t.mean(0) for name, t in self(some).items() if t.is_floating_point()})
        return self

    def _set(self, values: Mapping[str, Tensor]) -> None:
        for name, value in values.items():
            self.get_buffer(_key(name)).copy_(value)

    def forward(self, params: Mapping[str, Tensor], *, member: Tensor | None = None) -> Params:
        """Align ``params`` (N, ...). Rows with the same number in ``member`` (N,) are moved by one
        permutation.

        For checkpoints of one run: ``sum_i <ref, g.theta_i> = <ref, g.sum_i theta_i>``, so their
        sum is matched.
        """
        count = _members(self.spec, params)
        if member is None:
            return stack([self._aligned(theta, theta) for theta in unstack(params)])
        if member.shape != (count,):
            raise ValueError(
                f"member: shape {tuple(member.shape)}, but one number for each of the {count} "
                "rows is needed"
            )
        moved = {name: torch.empty_like(tensor) for name, tensor in params.items()}
        for m in member.unique():
            rows = (member == m).nonzero()[:, 0]
            run = {name: tensor[rows] for name, tensor in params.items()}
            total = {name: t.sum(0) if t.is_floating_point() else t[0] for name, t in run.items()}
            for name, tensor in self._aligned(total, run).items():
                moved[name][rows] = tensor
        return moved

    def _aligned(self, theta: Params, move: Params) -> Params:
        return match(self.spec, self.reference, theta, self.matcher).permutation(move)


def _key(name: str) -> str:
    return "reference/" + name.replace(".", "/")


def _members(spec: PermutationSpec, params: Mapping[str, Tensor]) -> int:
    batch = spec.validate(params)
    if len(batch) != 1 or not batch[0]:
        raise SpecError(
            f"params: leading axes {tuple(batch)}, but one axis with at least one member is "
            "needed; see params.stack"
        )
    return batch[0]
