"""Fit the weights of a file to the names of a network, saying every step.

    names        wrappers' components and a common prefix are added or removed
    missing      counters of batch norms start at 0; a tied tensor saved once is filled in
    unknown      what is no parameter (counters of tools, positions) is left out, by name;
                 anything else is refused, with the flag that drops it
    shapes       both are shown
    types        float8 becomes float32, since nothing can be computed in it

Every tensor of the input is used or named.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from wsl.params import Params
from wsl.symmetry import PermutationSpec
from wsl.zoo.file import ZooError

COUNTER = "num_batches_tracked"
_TOOLS = (
    "total_ops",
    "total_params",
    "position_ids",
    "inv_freq",
    "decay",
    "num_updates",
    "n_averaged",
)
"""Last names of tensors that tools and older versions of libraries leave in state dicts."""
_SHOWN, _LONG = 5, 1000


@dataclasses.dataclass(frozen=True)
class Expected:
    """What a network's state dict holds: shapes by name, and names that are one tensor (tied)."""

    spec: PermutationSpec
    tied: tuple[tuple[str, ...], ...] = ()

    @classmethod
    def of(cls, spec: PermutationSpec, model: nn.Module | None = None) -> Expected:
        """The names of ``spec``; with the network also which of them are one tensor."""
        names: dict[int, list[str]] = {}
        if model is not None:
            for name, tensor in model.state_dict(keep_vars=True).items():
                if isinstance(tensor, Tensor):
                    names.setdefault(id(tensor), []).append(name)
        return cls(spec, tuple(tuple(group) for group in names.values() if len(group) > 1))


@dataclasses.dataclass(frozen=True)
class Fitted:
    """Weights under a network's names, and what was done to them."""

    params: Params
    notes: tuple[str, ...]


def fit(
    params: Mapping[str, Tensor],
    expected: Expected,
    where: str,
    *,
    prefix: str = "",
    drop: Sequence[str] = (),
    values: bool = True,
) -> Fitted:
    """The tensors of ``params`` as ``expected`` names them; ``where`` names the file in messages.

    ``prefix`` is removed from every name, or added where no name has it; ``drop`` names tensors to
    leave out; without ``values`` tensors may be on the meta device. Raises `ZooError` for what is
    missing, unknown or of another shape.
    """
    said = _Notes(where, [])
    theta = _dropped(dict(params), drop, where)
    theta = with_prefix(theta, prefix, where)
    theta = _renamed(theta, expected.spec, said)
    theta = _with_counters(theta, expected.spec, said)
    theta = _with_tied(theta, expected, said)
    _check_complete(theta, expected.spec, where)
    theta = _without_strangers(theta, expected.spec, said)
    _check_shapes(theta, expected.spec, where)
    if values:
        _check_dense(theta, where)
    theta = {name: theta[name] for name in expected.spec.axes}
    return Fitted(_computable(theta, said), tuple(said.notes))


class _Notes(NamedTuple):
    """What has to be said of the file ``where``."""

    where: str
    notes: list[str]

    def add(self, note: str) -> None:
        self.notes.append(f"{self.where}: {note}")


def _dropped(theta: Params, drop: Iterable[str], where: str) -> Params:
    for pattern in drop:
        gone = [n for n in theta if n == pattern or n.startswith(pattern.rstrip(".*") + ".")]
        if not gone:
            raise ZooError(f"{where}: --drop {pattern}: no tensor is called so or lies in it")
        theta = {name: tensor for name, tensor in theta.items() if name not in gone}
    return theta


def with_prefix(theta: Params, prefix: str, where: str) -> Params:
    """``prefix`` removed where every name has it, added where none has.

    Raises `ZooError`, naming the file ``where``, if only some names have it.
    """
    having = [name for name in theta if name.startswith(prefix)]
    if len(having) == len(theta):
        return {name.removeprefix(prefix): tensor for name, tensor in theta.items()}
    if not having:
        return {prefix + name: tensor for name, tensor in theta.items()}
    other = next(name for name in theta if not name.startswith(prefix))
    raise ZooError(
        f"{where}: {len(having)} of {len(theta)} names start with '{prefix}', but {other} does "
        "not; --prefix is for all names or none"
    )


def _renamed(theta: Params, spec: PermutationSpec, said: _Notes) -> Params:
    """Without wrappers' components, and with or without a common prefix where that makes it fit."""
    aligned = spec.align_keys(theta)
    changed = [(a, b) for a, b in zip(theta, aligned, strict=True) if a != b]
    if changed:
        old, new = changed[0]
        said.add(
            f"{len(changed)} names carry a wrapper's prefix and are read without it, {old} as {new}"
        )
    better = _common_prefix(aligned, spec)
    if better is None:
        return aligned
    sign, prefix = better
    said.add(f"names are read {'without' if sign < 0 else 'with'} the prefix '{prefix}'")
    return {
        (name.removeprefix(prefix) if sign < 0 else prefix + name): tensor
        for name, tensor in aligned.items()
    }


def _common_prefix(theta: Params, spec: PermutationSpec) -> tuple[int, str] | None:
    """A prefix (sign -1 to remove, 1 to add) that turns names of which none fits into ones that
    almost all do; only parameters count, since counters may be absent.
    """
    if any(name in spec.axes for name in theta) or not theta:
        return None
    wanted = [name for name in spec.axes if not name.endswith(COUNTER)]
    for longer, shorter, sign in ((theta, wanted, -1), (wanted, theta, 1)):
        first = next(iter(shorter), None)
        ends = (n.removesuffix(first) for n in longer if first and n.endswith(f".{first}"))
        there = set(longer)
        for prefix in ends:
            hits = sum(prefix + name in there for name in shorter)
            if 2 * hits > len(list(shorter)):
                return sign, prefix
    return None


def _with_counters(theta: Params, spec: PermutationSpec, said: _Notes) -> Params:
    """Files of older versions of torch lack the counters of batch norms."""
    missing = [n for n in spec.axes if n not in theta and n.rpartition(".")[2] == COUNTER]
    if missing:
        said.add(f"{len(missing)} counters {COUNTER} are missing and start at 0")
    return theta | {name: torch.zeros((), dtype=torch.long) for name in missing}


def _with_tied(theta: Params, expected: Expected, said: _Notes) -> Params:
    """A tensor that the network knows by several names is often saved under one of them."""
    theta, told = dict(theta), []
    for names in expected.tied:
        source = next((name for name in names if name in theta), None)
        absent = [name for name in names if name in expected.spec.axes and name not in theta]
        if source is not None:
            theta |= dict.fromkeys(absent, theta[source])
            told += [f"{name} from {source}" for name in absent]
    if told:
        said.add(f"tied weights were saved once, {', '.join(told)}")
    return theta


def _check_complete(theta: Params, spec: PermutationSpec, where: str) -> None:
    if missing := [name for name in spec.axes if name not in theta]:
        differ = str(spec.compare(theta))
        differ = differ if len(differ) <= _LONG else f"{differ[: _LONG - 3]}..."
        raise ZooError(
            f"{where} does not fit the network: {differ}; {_hint(missing, theta)}"
            "the file and the network must be of one architecture"
        )


def _hint(missing: Sequence[str], theta: Params) -> str:
    """What a single missing matrix may mean: the file saves tied weights once."""
    if len(missing) == 1 and missing[0].endswith("weight"):
        return (
            f"if {missing[0]} is tied to another weight, the network says so: give --model "
            "instead of --spec; "
        )
    return "" if theta else "it holds no tensors; "


def _without_strangers(theta: Params, spec: PermutationSpec, said: _Notes) -> Params:
    """Without what the network lacks: named if it is no parameter, refused if it may be one."""
    unknown = [name for name in theta if name not in spec.axes]
    serious = [name for name in unknown if not _is_harmless(name, theta[name])]
    if serious:
        flags = " ".join(f"--drop {name}" for name in serious[:2])
        raise ZooError(
            f"{said.where}: has tensors that the network lacks: {_listed(serious)}; is it of "
            f"another architecture? {flags} leaves them out"
        )
    if unknown:
        said.add(f"left out {_listed(unknown)}: the network has no such parameters")
    return {name: tensor for name, tensor in theta.items() if name in spec.axes}


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (" and more" if len(names) > _SHOWN else "")


def _is_harmless(name: str, tensor: Tensor) -> bool:
    """Single numbers, integers and what tools leave behind are no parameters."""
    return (
        tensor.numel() <= 1
        or not (tensor.is_floating_point() or tensor.is_complex())
        or name.rpartition(".")[2] in _TOOLS
    )


def _check_shapes(theta: Params, spec: PermutationSpec, where: str) -> None:
    for name, shape in spec.shapes.items():
        if theta[name].shape != shape:
            raise ZooError(
                f"{where}: {name}: has shape {tuple(theta[name].shape)}, but the network's is "
                f"{tuple(shape)}"
            )


def _check_dense(theta: Params, where: str) -> None:
    """Nothing here computes with tensors of other layouts, or with ones that have no values."""
    for name, tensor in theta.items():
        if what := no_values(tensor):
            raise ZooError(f"{where}: {name}: is {what}; save it as a plain tensor of numbers")


def no_values(tensor: Tensor) -> str:
    """What a tensor is that has no plain values, one for each index; empty for any other."""
    if tensor.is_meta:
        return "a tensor on the meta device, without values"
    if tensor.is_quantized:
        return f"quantised ({str(tensor.dtype).removeprefix('torch.')})"
    if tensor.layout != torch.strided:
        return f"sparse ({str(tensor.layout).removeprefix('torch.')})"
    return ""


def _computable(theta: Params, said: _Notes) -> Params:
    small = [name for name, t in theta.items() if t.is_floating_point() and t.element_size() == 1]
    if small:
        kind = str(theta[small[0]].dtype).removeprefix("torch.")
        said.add(f"{len(small)} tensors of type {kind} are read as float32")
    return {name: t.float() if name in small else t for name, t in theta.items()}
