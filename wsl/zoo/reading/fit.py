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
_SHOWN = 5


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
) -> Fitted:
    """The tensors of ``params`` as ``expected`` names them; ``where`` names the file in messages.

    ``prefix`` is removed from every name, or added where no name has it; ``drop`` names tensors to
    leave out. Raises `ZooError` for what is missing, unknown or of another shape.
    """
    notes: list[str] = []
    theta = _dropped(dict(params), drop, where)
    theta = _with_prefix(theta, prefix, where) if prefix else theta
    theta = _renamed(theta, expected.spec, where, notes)
    theta = _filled(theta, expected, where, notes)
    theta = _without_strangers(theta, expected.spec, where, notes)
    _check_shapes(theta, expected.spec, where)
    theta = {name: theta[name] for name in expected.spec.axes}
    return Fitted(_computable(theta, where, notes), tuple(notes))


def _dropped(theta: Params, drop: Iterable[str], where: str) -> Params:
    for pattern in drop:
        gone = [n for n in theta if n == pattern or n.startswith(pattern.rstrip(".*") + ".")]
        if not gone:
            raise ZooError(f"{where}: --drop {pattern}: no tensor is called so or lies in it")
        theta = {name: tensor for name, tensor in theta.items() if name not in gone}
    return theta


def _with_prefix(theta: Params, prefix: str, where: str) -> Params:
    """``prefix`` removed where every name has it, added where none has."""
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


def _renamed(theta: Params, spec: PermutationSpec, where: str, notes: list[str]) -> Params:
    """Without wrappers' components, and with or without a common prefix where that makes it fit."""
    aligned = spec.align_keys(theta)
    changed = [(a, b) for a, b in zip(theta, aligned, strict=True) if a != b]
    if changed:
        old, new = changed[0]
        notes.append(
            f"{where}: {len(changed)} names carry a wrapper's prefix and are read without it, "
            f"{old} as {new}"
        )
    better = _common_prefix(aligned, spec)
    if better is None:
        return aligned
    sign, prefix = better
    notes.append(
        f"{where}: names are read {'without' if sign < 0 else 'with'} the prefix '{prefix}'"
    )
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


def _filled(theta: Params, expected: Expected, where: str, notes: list[str]) -> Params:
    """Counters that older files lack, and the other names of a tied tensor."""
    missing = [name for name in expected.spec.axes if name not in theta]
    counters = [name for name in missing if name.rpartition(".")[2] == COUNTER]
    if counters:
        theta = theta | {name: torch.zeros((), dtype=torch.long) for name in counters}
        notes.append(f"{where}: {len(counters)} counters {COUNTER} are missing and start at 0")
    tied = []
    for name in missing:
        names = next((group for group in expected.tied if name in group), ())
        source = next((other for other in names if other in theta), None)
        if source is not None and name not in theta:
            theta = theta | {name: theta[source]}
            tied.append(f"{name} from {source}")
    if tied:
        notes.append(f"{where}: tied weights were saved once, {', '.join(tied)}")
    if still := [name for name in expected.spec.axes if name not in theta]:
        report = expected.spec.compare(theta)
        raise ZooError(
            f"{where} does not fit the network: {report}; {_hint(still, theta)}"
            "the file and the network must be of one architecture"
        )
    return theta


def _hint(missing: Sequence[str], theta: Params) -> str:
    """What a single missing matrix may mean: the file saves tied weights once."""
    if len(missing) == 1 and missing[0].endswith("weight"):
        return (
            f"if {missing[0]} is tied to another weight, the network says so: give --model "
            "instead of --spec; "
        )
    return "" if theta else "it holds no tensors; "


def _without_strangers(
    theta: Params, spec: PermutationSpec, where: str, notes: list[str]
) -> Params:
    """Without tensors that the network lacks: named if they are no parameters, refused if they may
    be.
    """
    unknown = [name for name in theta if name not in spec.axes]
    serious = [name for name in unknown if not _is_harmless(name, theta[name])]
    if serious:
        shown = ", ".join(serious[:_SHOWN]) + (" and more" if len(serious) > _SHOWN else "")
        flags = " ".join(f"--drop {name}" for name in serious[:2])
        raise ZooError(
            f"{where}: has tensors that the network lacks: {shown}; is it of another architecture? "
            f"{flags} leaves them out"
        )
    if unknown:
        notes.append(
            f"{where}: left out {', '.join(unknown[:_SHOWN])}"
            f"{' and more' if len(unknown) > _SHOWN else ''}: the network has no such parameters"
        )
    return {name: tensor for name, tensor in theta.items() if name in spec.axes}


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


def _computable(theta: Params, where: str, notes: list[str]) -> Params:
    small = [name for name, t in theta.items() if t.is_floating_point() and t.element_size() == 1]
    if small:
        kind = str(theta[small[0]].dtype).removeprefix("torch.")
        notes.append(f"{where}: {len(small)} tensors of type {kind} are read as float32")
    return {name: t.float() if name in small else t for name, t in theta.items()}
