"""Adapters added to their base: once in float32 or wider, cast once, and never in silence."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from wsl.base import did_you_mean
from wsl.merging.adapters.lowrank import wide
from wsl.merging.adapters.parts import AdapterParts
from wsl.params import Params


@dataclasses.dataclass(frozen=True, eq=False)
class Applied:
    """The weights of base and adapter, with the relative error that the cast to their type made."""

    params: Params
    cast_error: float


def applied(adapter: AdapterParts, base: Mapping[str, Tensor]) -> Applied:
    """See `Adapter.apply`."""
    exact = _exact(adapter, base)
    found = {name: exact[name].to(t.dtype) if name in exact else t for name, t in base.items()}
    if all(torch.equal(found[name], base[name]) for name in exact):
        raise ValueError(
            f"{adapter.source or 'the adapter'}: the result equals the base: nothing was changed, "
            "or changes are too small for its type"
        )
    return Applied(found, _cast_error(found, exact))


def _exact(adapter: AdapterParts, base: Mapping[str, Tensor]) -> Params:
    """The tensors that the adapter changes under the base's names, not cast to its types yet."""
    names = _resolved(adapter, base)
    exact: Params = {}
    for name in adapter.changes:
        exact[names[name]] = _moved(adapter, name, base, to=names[name])
    for name, bias in adapter.biases.items():
        exact[names[name]] = wide(base[names[name]]) + bias
    for name, tensor in adapter.tensors.items():
        exact[names[name]] = wide(tensor)
    return exact


def _moved(adapter: AdapterParts, name: str, base: Mapping[str, Tensor], *, to: str) -> Tensor:
    """The base's weight ``to`` with the adapter's change ``name``."""
    weight, change = base[to], adapter.changes[name]
    if tuple(weight.shape) != change.shape:
        raise ValueError(
            f"{to}: has shape {tuple(weight.shape)}, but the adapter changes one of shape "
            f"{change.shape}"
        )
    moved = wide(weight) + change.dense().to(weight.device)
    return _magnified(moved, adapter.magnitudes.get(name))


def _magnified(weight: Tensor, magnitude: Tensor | None) -> Tensor:
    """Rows scaled to the magnitudes of DoRA, where there are any."""
    if magnitude is None:
        return weight
    rows = weight.flatten(1)
    lengths = rows.norm(dim=1)
    return (rows * (magnitude.flatten().to(rows) / lengths)[:, None]).view_as(weight)


def _resolved(adapter: AdapterParts, base: Mapping[str, Tensor]) -> dict[str, str]:
    """The base's name of every tensor of the adapter: its own, under a prefix, or flattened.

    Files of kohya's style write dots as underscores, which only the base can undo.
    """
    flat = {name.replace(".", "_"): name for name in base}
    told: Iterable[str] = (*adapter.changes, *adapter.biases, *adapter.tensors)
    found: dict[str, str] = {}
    for name in told:
        known = name if name in base else flat.get(name.replace(".", "_"))
        if known is None:
            endings = [own for own in base if own.endswith("." + name)]
            known = endings[0] if len(endings) == 1 else None
        if known is None:
            raise ValueError(
                f"{name}: the adapter changes it, but the base has no such weight"
                f"{did_you_mean(name, base)}; is it an adapter of another network?"
            )
        found[name] = known
    return found


def _cast_error(found: Mapping[str, Tensor], exact: Mapping[str, Tensor]) -> float:
    """|cast - exact| / |exact| over all tensors that were changed."""
    lost = sum(float((found[n].to(t) - t).double().square().sum()) for n, t in exact.items())
    size = sum(float(t.double().square().sum()) for t in exact.values())
    return (lost / size) ** 0.5 if size else 0.0
