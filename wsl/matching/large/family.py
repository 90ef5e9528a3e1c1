"""What else moves with a network's units: adapters, moving averages, moments of optimisers.

    NAME                            the weight itself, with or without a wrapper's prefix
    exp_avg.NAME, NAME.exp_avg      a tensor of the same shape: averages, moments, gradients
    NAME.lora_A.weight  (r, in)     moves as the last axes of NAME, its rank stands still
    NAME.lora_B.weight  (out, r)    moves as the first axis of NAME

Steps and other single numbers stand still. What cannot be told is refused by name: a tensor that
stays where the weights move would be wrong in silence.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from torch import Tensor

from wsl.base import did_you_mean
from wsl.matching.large.moves import Move, Moves
from wsl.symmetry import Axis, PermutationSpec

_LORA = re.compile(r"(.*)\.lora_(embedding_)?(A|B)(\.\w+)*?(\.weight)?$")

_Axes = tuple[Axis | None, ...]
_Numbers = tuple[int | None, ...]


def family_moves(
    spec: PermutationSpec, tensors: Mapping[str, Tensor], *, drop: Iterable[str] = ()
) -> Moves:
    """Which axes of a file's tensors move as which axes of ``spec``; ``drop`` are left out.

    Raises ValueError, naming it, for a tensor that belongs to none of the specification's.
    """
    gone = tuple(drop)
    return {
        name: _move(spec, name, tensor)
        for name, tensor in tensors.items()
        if not any(name == each or name.startswith(each.rstrip(".*") + ".") for each in gone)
    }


def _move(spec: PermutationSpec, name: str, tensor: Tensor) -> Move:
    lora = _LORA.fullmatch(name)
    for ours in _candidates(spec, lora[1] if lora else name, weight=bool(lora)):
        theirs = spec.axes[ours]
        numbers: _Numbers = tuple(range(len(theirs)))
        numbers = _factor(numbers, lora[3], lora[2]) if lora else numbers
        axes = tuple(None if k is None else theirs[k] for k in numbers)
        if _fits(spec, axes, tensor):
            return Move(axes, ours, numbers)
    if tensor.numel() <= 1:
        return Move((None,) * tensor.dim())
    raise ValueError(
        f"{name}: {tuple(tensor.shape)}: belongs to no tensor of the element's network"
        f"{did_you_mean(name, spec.axes)}; --drop {name} leaves it out"
    )


def _candidates(spec: PermutationSpec, name: str, *, weight: bool) -> Iterator[str]:
    """Names of the specification that ``name`` may stand for: without components in front or
    behind, or with some in front.
    """
    parts = name.split(".")
    tails = [".".join(parts[i:]) for i in range(len(parts))]
    heads = [".".join(parts[i:-1]) for i in range(len(parts) - 1)]
    for tail in (*tails, *heads):
        full = f"{tail}.weight" if weight else tail
        if full in spec.axes:
            yield full
        if tail == name:
            longer = [ours for ours in spec.axes if ours.endswith(f".{full}")]
            yield from longer if len(longer) == 1 else ()


def _factor(axes: _Numbers, which: str, embedding: str | None) -> _Numbers:
    """Axes of a low-rank factor of a weight: A reads its input, B writes its output.

    An embedding's weight is the transpose of what its factors multiply to.
    """
    out, into = axes[:1], axes[1:]
    if embedding:
        return (None, *out) if which == "A" else (into[0], None)
    return (None, *into) if which == "A" else (*out, None, *(None for _ in into[1:]))


def _fits(spec: PermutationSpec, axes: _Axes, tensor: Tensor) -> bool:
    """Whether the tensor has these axes; one that stands still may have any size."""
    sizes = [None if axis is None else sum(map(spec.segment_size, axis)) for axis in axes]
    return len(sizes) == tensor.dim() and all(
        size is None or size == length for size, length in zip(sizes, tensor.shape, strict=True)
    )
