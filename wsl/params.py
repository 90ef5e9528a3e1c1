"""Weights are plain dicts of tensors, named as in a state dict; leading axes are batch.

    theta = from_module(model);  f_theta(x) = call(model, theta, x)
    stack([theta_1, ..., theta_N])  ->  tensors (N, ...);   ravel(theta)  ->  one vector (..., P)

Nothing here knows about symmetry. No container class: anything `torch.func.functional_call` takes
is `Params`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

Params = dict[str, Tensor]
"""A state dict: parameters and buffers by name."""

Shapes = Mapping[str, torch.Size]
"""Shape of each tensor without batch axes, in the order of the state dict."""


def from_module(model: nn.Module) -> Params:
    """Parameters and persistent buffers of ``model`` as detached copies, in state-dict order."""
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def shapes(params: Mapping[str, Tensor], batch_dims: int = 0) -> dict[str, torch.Size]:
    """Shape of each tensor after its first ``batch_dims`` axes."""
    return {name: tensor.shape[batch_dims:] for name, tensor in params.items()}


def stack(members: Sequence[Mapping[str, Tensor]]) -> Params:
    """N weights of one architecture as tensors with a new leading axis of N.

    Raises ValueError when the names differ; shapes are compared by `torch.stack`.
    """
    if not members:
        raise ValueError("stack: no members given; at least one is needed")
    names = list(members[0])
    for i, member in enumerate(members):
        if set(member) != set(names):
            raise ValueError(
                f"stack: member {i} differs in {sorted(set(member) ^ set(names))[0]!r} from "
                "member 0; "
                "only weights of one architecture can be stacked"
            )
    return {name: torch.stack([member[name] for member in members]) for name in names}


def on_device(params: Mapping[str, Tensor], device: torch.device) -> Params:
    """The tensors on ``device``; those that are there already are not copied."""
    return {name: tensor.to(device) for name, tensor in params.items()}


def unstack(params: Mapping[str, Tensor]) -> list[Params]:
    """Inverse of `stack`: one dict of views per index of the leading axis."""
    count = len(next(iter(params.values())))
    return [{name: tensor[i] for name, tensor in params.items()} for i in range(count)]


def ravel(params: Mapping[str, Tensor], batch_dims: int = 0) -> Tensor:
    """All weights as one vector, shape (*batch, P), in the order of the dict; integer tensors are
    cast to the float type.
    """
    dtype = next((t.dtype for t in params.values() if t.is_floating_point()), torch.float32)
    return torch.cat(
        [
            t.flatten(batch_dims).to(dtype) if t.dim() > batch_dims else t.unsqueeze(-1).to(dtype)
            for t in params.values()
        ],
        dim=-1,
    )


def unravel(vector: Tensor, shapes: Shapes) -> Params:
    """Inverse of `ravel`: cut (*batch, P) into tensors (*batch, *shape). Raises ValueError if P
    does not fit.
    """
    sizes = [math.prod(shape) for shape in shapes.values()]
    if vector.shape[-1] != sum(sizes):
        raise ValueError(
            f"unravel: the vector has {vector.shape[-1]} entries, but the shapes need {sum(sizes)}"
        )
    parts = vector.split(sizes, dim=-1)
    return {
        name: part.reshape((*vector.shape[:-1], *shape))
        for part, (name, shape) in zip(parts, shapes.items(), strict=True)
    }


def call(model: nn.Module, params: Mapping[str, Tensor], *inputs: Tensor) -> Tensor:
    """f_theta(x): run ``model`` with ``params`` in place of its own weights.

    A tensor that the model knows by several names (tied weights) is read under each of them.
    With one leading batch axis on every tensor of ``params`` the call is vectorised over it, all
    members reading the same ``inputs``, and the outputs gain that axis.
    """
    name, own = next(iter(model.state_dict(keep_vars=True).items()))
    extra = params[name].dim() - own.dim()
    if extra == 0:
        return torch.func.functional_call(model, dict(params), inputs, tie_weights=False)
    if extra != 1:
        raise ValueError(
            f"{name}: has {extra} axes more than in the model; one leading batch axis is allowed"
        )

    def one(theta: Params) -> Tensor:
        return torch.func.functional_call(model, theta, inputs, tie_weights=False)

    return torch.vmap(one, randomness="different")(dict(params))
