"""`copied`: a second network with the same weights, so that the user's own is never written to.

`copy.deepcopy` stops at the first thing that it cannot copy: the computed weight of weight norm and
of pruning, a lock, an open file, an imported module. Here such a tensor is detached, and anything
else that cannot be copied is shared with the original. Weights, buffers and submodules never are.
A class of the user's own is copied attribute by attribute, whatever its ``__deepcopy__`` says.

What lies on the meta device gets memory on request (`materialized`), so that `verify` can fill it.
A shape says nothing of the content, so this is done only for floating-point tensors of the state
dict, which are randomised anyway, and for counters. A table of integers, or a buffer outside the
state dict, would have to be guessed, and is refused.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from wsl.symmetry.spec import SpecError

_TABLES = ("_parameters", "_buffers", "_modules")
_OWN_WAY = ("__deepcopy__", "__reduce_ex__", "__reduce__", "__getstate__", "__setstate__")
_UNCOPYABLE = (TypeError, ValueError, RuntimeError, AttributeError, LookupError, copy.Error)
"""What `copy.deepcopy` raises at things that it cannot copy, or their own methods do."""


def copied(model: nn.Module, memo: dict[int, Any] | None = None) -> nn.Module:
    """A copy with tensors of its own; ``memo`` maps the identity of what was copied to its copy."""
    memo = {} if memo is None else memo
    memo.setdefault(id(memo), [])  # deepcopy keeps its originals alive here, also after a rollback
    modules = [*model.modules()]
    _copy_beforehand(modules, memo)
    # Children first: a module that rebuilds itself looks at its children while it does so.
    for module in reversed(modules):
        _fill(module, memo)
    _refuse_shared(model, memo[id(model)])
    return memo[id(model)]


def _copy_beforehand(modules: list[nn.Module], memo: dict[int, Any]) -> None:
    """What `copy.deepcopy` could not copy, and modules that are still empty."""
    for module in modules:
        memo.update((id(t), t.detach().clone()) for t in _computed(module))
    # Modules may refer to each other in circles, so that all are there before one is filled.
    memo.update((id(m), object.__new__(type(m))) for m in modules if not _has_own_way(m))


def _fill(module: nn.Module, memo: dict[int, Any]) -> None:
    """Copy a module in its own way; where it has none, or that fails, attribute by attribute."""
    if id(module) not in memo and _copy(module, memo) is module:
        memo[id(module)] = object.__new__(type(module))
    if not vars(memo[id(module)]):
        vars(memo[id(module)]).update(_attributes(module, memo))


def _refuse_shared(model: nn.Module, replica: nn.Module) -> None:
    """A tensor whose own way of copying is to stay the same would be written to."""
    theirs = {id(t) for t in model.state_dict(keep_vars=True).values()}
    for name, tensor in replica.state_dict(keep_vars=True).items():
        if isinstance(tensor, Tensor) and id(tensor) in theirs:
            raise SpecError(
                f"{name}: a copy of the model shares this tensor with the original; its "
                "__deepcopy__ must make a copy"
            )


def _computed(module: nn.Module) -> Iterator[Tensor]:
    """Tensors that autograd computed and the module keeps, which refuse to be copied."""
    leaves = tree_leaves(dict(vars(module)))
    yield from (leaf for leaf in leaves if isinstance(leaf, Tensor) and not leaf.is_leaf)


def _has_own_way(module: nn.Module) -> bool:
    """Whether torch says how the class is copied, as for compiled networks and recurrent layers.

    Or whether it holds more than its attributes. What else a class of the user's says of copies is
    not asked: it may refuse, or keep the weights.
    """
    kind = type(module)
    pairs = [(getattr(kind, name, None), getattr(nn.Module, name, None)) for name in _OWN_WAY]
    own = [method for method, usual in pairs if method is not usual]
    of_torch = any(getattr(method, "__module__", "").startswith("torch.") for method in own)
    return of_torch or isinstance(module, (dict, list, tuple))


def _attributes(module: nn.Module, memo: dict[int, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in vars(module).items():
        yield name, copy.deepcopy(value, memo) if name in _TABLES else _copy(value, memo)


def _copy(value: Any, memo: dict[int, Any]) -> Any:
    """A copy, or the value itself; then ``memo`` forgets the parts that had been copied already."""
    before = len(memo)
    try:
        return copy.deepcopy(value, memo)
    except _UNCOPYABLE:
        while len(memo) > before:
            memo.popitem()
        return value


def refuse_meta(model: nn.Module) -> None:
    """Raise `SpecError` if the model has no weights."""
    if meta := [
        name for name, t in model.state_dict().items() if isinstance(t, Tensor) and t.is_meta
    ]:
        raise SpecError(
            f"{meta[0]}: is on the meta device; verify needs weights, build the model on a real "
            "device or let verify make random ones with materialize=True"
        )


def materialized(model: nn.Module) -> nn.Module:
    """The model, its meta tensors replaced by float64 on the CPU: ones, zero for counters.

    Tensors that were tied stay tied.
    """
    known = set(model.state_dict())
    made: dict[int, Tensor] = {}
    for where, module, name, tensor in _meta_tensors(model):
        _refuse_unknown(where, tensor, where in known)
        if id(tensor) not in made:
            made[id(tensor)] = _content(tensor)
        setattr(module, name, made[id(tensor)])
    return model


def _meta_tensors(model: nn.Module) -> Iterator[tuple[str, nn.Module, str, Tensor]]:
    """Every place where a module holds a meta tensor: full name, module, its name there."""
    for prefix, module in model.named_modules():
        for name, tensor in [*module._parameters.items(), *module._buffers.items()]:
            if tensor is not None and tensor.is_meta:
                yield f"{prefix}.{name}".lstrip("."), module, name, tensor


def _refuse_unknown(where: str, tensor: Tensor, saved: bool) -> None:
    if not saved:
        raise SpecError(
            f"{where}: is on the meta device and outside the state dict, so its values cannot be "
            "known or drawn"
        )
    if tensor.dim() and not (tensor.is_floating_point() or tensor.is_complex()):
        raise SpecError(
            f"{where}: holds {tensor.dtype} on the meta device, which cannot be drawn at random; "
            "give it its values"
        )


def _content(tensor: Tensor) -> Tensor:
    if not (tensor.is_floating_point() or tensor.is_complex()):
        return torch.zeros(tensor.shape, dtype=tensor.dtype)
    wide = torch.ones(
        tensor.shape, dtype=torch.complex128 if tensor.is_complex() else torch.float64
    )
    return nn.Parameter(wide) if isinstance(tensor, nn.Parameter) else wide
