"""aTLAS: one learned coefficient for each tensor of each task vector.

    theta = theta_0 + sum_t Lambda_t tau_t,     Lambda_t = one scalar for each tensor
    minimise  loss(theta)  over all Lambda, from zero, by AdamW

Zhang et al. (2024), arXiv 2407.02880. Nothing but the coefficients is trained: T times the number
of tensors.

Limitations: labelled data chooses, so measure the result on other data. The loss must be
differentiable in the weights (`wsl.params.call` is).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from wsl.merging.pieces import Members, Statistics, from_base
from wsl.params import Params, is_learned


@dataclasses.dataclass(frozen=True)
class ATLAS:
    """``loss(theta, batch)`` is minimised over ``batches``, all of them ``epochs`` times.

    lr, weight_decay: of AdamW. clip: the largest norm of a gradient.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"base", "training"})
    whole: ClassVar[bool] = True

    loss: Callable[[Params, Any], Tensor]
    batches: Iterable[Any]
    epochs: int = 20
    lr: float = 1e-2
    weight_decay: float = 0.1
    clip: float = 1.0

    def solve(
        self,
        members: Members,
        *,
        base: Mapping[str, Tensor] | None = None,
        statistics: Statistics | None = None,
    ) -> Params:
        """The network of the coefficients found; raises ValueError when the loss is not finite."""
        start = from_base(members, base, lambda tau, _: torch.zeros_like(tau[0]))
        names = [name for name, tensor in start.items() if is_learned(name, tensor)]
        tau = {n: torch.stack([m[n].to(start[n]) - start[n] for m in members]) for n in names}
        found = self._trained(start, tau)
        coefficients = dict(zip(names, found.T, strict=True))
        return {n: _moved(t, tau.get(n), coefficients.get(n)) for n, t in start.items()}

    def _trained(self, start: Params, tau: Params) -> Tensor:
        """Coefficients (T, number of tensors)."""
        count = len(next(iter(tau.values())))
        lamb = torch.zeros(count, len(tau), requires_grad=True)
        adam = torch.optim.AdamW([lamb], self.lr, weight_decay=self.weight_decay)
        batches = list(self.batches)
        for batch in batches * self.epochs:
            columns = dict(zip(tau, lamb.unbind(1), strict=True))
            theta = {n: _moved(t, tau.get(n), columns.get(n)) for n, t in start.items()}
            with torch.enable_grad():
                loss = self.loss(theta, batch)
            if not loss.isfinite():
                raise ValueError(f"ATLAS: the loss became {float(loss)}; lower lr")
            adam.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_([lamb], self.clip)
            adam.step()
        return lamb.detach()


def _moved(start: Tensor, tau: Tensor | None, coefficients: Tensor | None) -> Tensor:
    if tau is None or coefficients is None:
        return start
    return start + torch.tensordot(coefficients.to(tau), tau, 1)
