"""Weights are plain dicts of tensors, named as in a state dict; leading axes are batch.

    theta = from_module(model);  f_theta(x) = call(model, theta, x)
    stack([theta_1, ..., theta_N])  ->  tensors (N, ...);   ravel(theta)  ->  one vector (..., P)

Nothing here knows about symmetry. There is no container class: anything that
`torch.func.functional_call` takes is `Params`.

>>> import torch
>>> from wsl import params
>>> model = torch.nn.Linear(3, 2)
>>> theta = params.from_module(model)
>>> params.ravel(theta).shape
torch.Size([8])
>>> members = params.stack([theta, theta, theta])
>>> params.members(members)
3
>>> params.call(model, members, torch.ones(5, 3)).shape
torch.Size([3, 5, 2])
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

BATCH_NORM_BUFFERS = ("running_mean", "running_var", "num_batches_tracked")
"""Last component of the names of what batch norm measures, and does not learn."""

_NEAR = 2**17
"""Entries that a processor keeps near, so that a second look at them is free."""

EXTRA_STATE = "_extra_state"
"""Last component of the name under which a state dict keeps a module's ``get_extra_state``."""


def is_running_variance(name: str) -> bool:
    """Whether a tensor of this name is a running variance of batch norm, hence never negative."""
    return name.rpartition(".")[2] == BATCH_NORM_BUFFERS[1]


def is_running_statistic(name: str) -> bool:
    """Whether a tensor of this name is what batch norm measures or counts."""
    return name.rpartition(".")[2] in BATCH_NORM_BUFFERS


def is_learned(name: str, tensor: Tensor) -> bool:
    """Whether training changes a tensor by gradients: no counter, no mask, no running statistic."""
    real = tensor.is_floating_point() or tensor.is_complex()
    return real and not is_running_statistic(name)


def from_module(model: nn.Module) -> Params:
    """Parameters and persistent buffers of ``model`` as detached copies, in state-dict order.

    What a module says of itself in ``get_extra_state`` is left out: weights are tensors with shapes
    that the architecture knows.
    """
    return {name: tensor.detach().clone() for name, tensor in _own(model).items()}


def _own(model: nn.Module) -> Params:
    """The model's own parameters and persistent buffers by every name, without extra state."""
    return {
        name: value
        for name, value in model.state_dict(keep_vars=True).items()
        if name.rpartition(".")[2] != EXTRA_STATE
    }


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
                "member 0; only weights of one architecture can be stacked"
            )
    return {name: torch.stack([member[name] for member in members]) for name in names}


def on_device(params: Mapping[str, Tensor], device: torch.device) -> Params:
    """The tensors on ``device``; those that are there already are not copied."""
    return {name: tensor.to(device) for name, tensor in params.items()}


def members(params: Mapping[str, Tensor]) -> int:
    """The length N of the one leading axis of stacked weights, as `stack` makes them.

    Raises ValueError without tensors, and for a tensor without that axis or with another length.
    """
    if not params:
        raise ValueError("members: no tensors given; at least one is needed")
    count = None
    for name, tensor in params.items():
        if not tensor.dim():
            raise ValueError(f"{name}: has no leading axis of members; see params.stack")
        if count is not None and len(tensor) != count:
            raise ValueError(
                f"{name}: has {len(tensor)} members, but the tensors before have {count}; only "
                "stacked weights have one leading axis in common"
            )
        count = len(tensor)
    return int(count or 0)


def unstack(params: Mapping[str, Tensor]) -> list[Params]:
    """Inverse of `stack`: one dict of views per index of the leading axis."""
    count = len(next(iter(params.values())))
    return [{name: tensor[i] for name, tensor in params.items()} for i in range(count)]


def check_alike(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> None:
    """Raise ValueError unless both have the same tensors in the same shapes."""
    if only := sorted(set(a) ^ set(b)):
        where = "first" if only[0] in a else "second"
        raise ValueError(
            f"{only[0]}: only the {where} of the two has it; only weights of one architecture can "
            "be merged"
        )
    for name, tensor in a.items():
        if tensor.shape != b[name].shape:
            raise ValueError(
                f"{name}: shapes {tuple(tensor.shape)} and {tuple(b[name].shape)} differ; "
                "only weights of one architecture can be merged"
            )


def check_range(params: Mapping[str, Tensor], *parents: Mapping[str, Tensor], what: str) -> None:
    """Raise ValueError for a half-precision tensor that left its type's range, by name.

    That is one with infinite or NaN entries where every one of ``parents`` is finite; ``what`` says
    how ``params`` came about. Wider types are not looked at: it would cost a pass over each.
    """
    for name, tensor in params.items():
        half = tensor.is_floating_point() and tensor.element_size() <= 2
        if not half or all_finite(tensor):
            continue
        if all(all_finite(parent[name]) for parent in parents):
            raise ValueError(
                f"{name}: {what} leaves the range of {str(tensor.dtype).removeprefix('torch.')} "
                f"(beyond {torch.finfo(tensor.dtype).max:g}); use float32 or bfloat16"
            )


def all_finite(tensor: Tensor) -> bool:
    """Whether a tensor holds no NaN and no infinity.

    The bits of a modulus are ordered as the numbers, and from infinity on they are none: the
    largest is found twenty times as fast as every entry is tested.
    """
    if not (tensor.is_floating_point() or tensor.is_complex()):
        return True
    if tensor.device.type != "cpu":
        return bool(tensor.isfinite().all())
    real = torch.view_as_real(tensor) if tensor.is_complex() else tensor
    wide = real.float() if real.dtype.itemsize == 1 else real
    bits = {2: torch.int16, 4: torch.int32, 8: torch.int64}[wide.dtype.itemsize]
    limit = int(wide.new_tensor(torch.inf).view(bits))
    parts = wide.detach().reshape(-1).split(_NEAR)
    return all(int(part.abs().view(bits).amax()) < limit for part in parts if len(part))


def ravel(params: Mapping[str, Tensor], batch_dims: int = 0) -> Tensor:
    """All weights as one vector (*batch, P), in the order of the dict.

    The vector has the type of the first floating-point tensor; integer tensors are cast to it.
    """
    dtype = next((t.dtype for t in params.values() if t.is_floating_point()), torch.float32)
    parts = [
        t.flatten(batch_dims).to(dtype) if t.dim() > batch_dims else t.unsqueeze(-1).to(dtype)
        for t in params.values()
    ]
    return torch.cat(parts, dim=-1)


def unravel(vector: Tensor, shapes: Shapes) -> Params:
    """Inverse of `ravel`: cut (*batch, P) into tensors (*batch, *shape).

    Raises ValueError if P does not fit.
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


def call(
    model: nn.Module, params: Mapping[str, Tensor], *inputs: Tensor, **named: Tensor
) -> Tensor:
    """f_theta(x): run ``model`` on the ``inputs`` with ``params`` in place of its own weights.

    A tensor that the model knows by several names (tied weights) is read under each of them; of a
    module that is registered under several names, the last name counts. With one leading batch axis
    on every tensor of ``params`` the call is vectorised over it, all members reading the same
    ``inputs``, and the outputs gain that axis. The model itself keeps its weights.
    """
    name, own = next(iter(_own(model).items()))
    if name not in params:
        raise ValueError(f"{name}: the model has it, but the weights do not; see from_module")
    extra = params[name].dim() - own.dim()
    if extra not in (0, 1):
        raise ValueError(
            f"{name}: has {extra} axes more than in the model; one leading batch axis is allowed"
        )

    def one(theta: Params) -> Tensor:
        return torch.func.functional_call(model, theta, inputs, named, tie_weights=False)

    theta = _one_name_each(model, params)
    return torch.vmap(one, randomness="different")(theta) if extra else one(theta)


def _one_name_each(model: nn.Module, params: Mapping[str, Tensor]) -> Params:
    """The entries of ``params``, but one for each attribute of a module.

    `functional_call` exchanges tensors name by name and puts them back in the same order. Under a
    second name of the same module it would take the first exchange for the model's own tensor, and
    leave that in the model (pytorch issue 164759). The last name is kept, as it is the one read.
    """
    params = {name: t for name, t in params.items() if name.rpartition(".")[2] != EXTRA_STATE}
    modules = dict(model.named_modules(remove_duplicate=False))
    last: dict[tuple[int | str, str], str] = {}
    for name in params:
        prefix, _, attribute = name.rpartition(".")
        owner = id(modules[prefix]) if prefix in modules else prefix
        last[owner, attribute] = name
    kept = set(last.values())
    return {name: tensor for name, tensor in params.items() if name in kept}
