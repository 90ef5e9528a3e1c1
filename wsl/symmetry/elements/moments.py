"""What an optimiser remembers of each weight moves with the weight.

    m <- b m + (1 - b) dL,    v <- b v + (1 - b) dL^2
    m(g.theta) = g.m(theta),    v(g.theta) = g.v(theta)

for a permutation g, since the gradient dL is permuted as its weight is. Training that is resumed
from a permuted checkpoint with the permuted state goes on as it would have without. Not for scales
and signs, under which squares move otherwise than what they are squares of. An average of weights
(EMA) has the names of the weights: ``g(average)`` is its counterpart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from wsl.symmetry.elements.permutation import Permutation


def permute_optimizer(
    g: Permutation, state: Mapping[str, Any], names: Sequence[str]
) -> dict[str, Any]:
    """The ``state_dict()`` of an optimiser whose network is permuted by ``g``.

    names: of the parameters in the optimiser's order, such as ``[n for n, _ in
    model.named_parameters()]``; all parameter groups are counted through.

    Tensors of the shape of their parameter (``exp_avg``, ``exp_avg_sq``, ``momentum_buffer``) are
    permuted, numbers stay; no memory is shared. Raises ValueError for another number of names, a
    name that the specification lacks, and a tensor of another shape, such as a factored moment.
    """
    numbers = [number for group in state["param_groups"] for number in group["params"]]
    if len(numbers) != len(names):
        raise ValueError(
            f"permute_optimizer: the optimiser has {len(numbers)} parameters, but {len(names)} "
            "names were given; one for each, in its order, is needed"
        )
    known = dict(zip(numbers, names, strict=True))
    moved = {n: _moved(g, slots, known[n]) for n, slots in state["state"].items()}
    return {**state, "state": moved}


def _moved(g: Permutation, slots: Mapping[str, Any], name: str) -> dict[str, Any]:
    if name not in g.spec.shapes:
        raise ValueError(f"permute_optimizer: the specification has no tensor {name}")
    return {slot: _permuted(g, value, name=name, slot=slot) for slot, value in slots.items()}


def _permuted(g: Permutation, value: Any, *, name: str, slot: str) -> Any:
    """A moment, permuted as the tensor ``name``."""
    if not isinstance(value, Tensor):
        return value
    value = value.clone()  # an optimiser that loads a state writes into its tensors
    if not value.dim():
        return value
    if value.shape != g.spec.shapes[name]:
        raise ValueError(
            f"permute_optimizer: {slot} of {name} has shape {tuple(value.shape)}, but the weight "
            f"has {tuple(g.spec.shapes[name])}; only moments entry by entry can be permuted"
        )
    for i, axis in enumerate(g.spec.axes[name]):
        index = g.axis_index(axis, value.device)
        value = value if index is None else value.index_select(i, index)
    return value
