"""What else moves with a network's units: adapters, moving averages, moments of optimisers.

    NAME                            the weight itself, with or without a wrapper's prefix
    exp_avg.NAME, NAME.exp_avg      a tensor of the same shape: averages, moments, gradients
    NAME.lora_A.weight  (r, in)     moves as the last axes of NAME, its rank stands still
    NAME.lora_B.weight  (out, r)    moves as the first axis of NAME

All of this is done for each expert of a mixture as well, ``experts.3.NAME``, whose place in a file
another expert takes.

Steps and other single numbers stand still. What cannot be told is refused by name: a tensor that
stays where the weights move would be wrong in silence.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from torch import Tensor

from wsl.base import did_you_mean
from wsl.matching.large.experts import ExpertTensors, expert_tensors
from wsl.matching.large.moves import Move, Moves, Part
from wsl.symmetry import PermutationSpec

_LORA = re.compile(r"(.*)\.lora_(embedding_)?(A|B)(\.\w+)*?(\.weight)?$")

_Numbers = tuple[int | None, ...]


def family_moves(
    spec: PermutationSpec, tensors: Mapping[str, Tensor], *, drop: Iterable[str] = ()
) -> Moves:
    """Which axes of a file's tensors move as which axes of ``spec``; ``drop`` are left out.

    Raises ValueError, naming it, for a tensor that belongs to none of the specification's.
    """
    gone = tuple(each.rstrip(".*") for each in drop)
    kept = [n for n in tensors if not any(n == each or n.startswith(f"{each}.") for each in gone)]
    experts = {name: each for each in expert_tensors(kept) for name in each.names}
    return {name: _move(spec, name, tensors[name], of=experts.get(name)) for name in kept}


def _move(spec: PermutationSpec, name: str, tensor: Tensor, *, of: ExpertTensors | None) -> Move:
    for move in (*_whole_moves(spec, name), *(_expert_moves(spec, name, of) if of else ())):
        if _fits(spec, move, tensor):
            return move
    if tensor.numel() <= 1:
        return Move((None,) * tensor.dim())
    raise ValueError(
        f"{name}: {tuple(tensor.shape)}: belongs to no tensor of the element's network"
        f"{did_you_mean(name, spec.axes)}; --drop {name} leaves it out"
    )


def _whole_moves(spec: PermutationSpec, name: str) -> Iterator[Move]:
    """How a tensor of that name may move."""
    lora = _LORA.fullmatch(name)
    for ours in _candidates(spec, lora[1] if lora else name, weight=bool(lora)):
        theirs = spec.axes[ours]
        numbers: _Numbers = tuple(range(len(theirs)))
        numbers = _factor(numbers, lora[3], lora[2]) if lora else numbers
        yield Move(tuple(None if k is None else theirs[k] for k in numbers), ours, numbers)


def _expert_moves(spec: PermutationSpec, name: str, of: ExpertTensors) -> Iterator[Move]:
    """How the tensor of one expert may move, from how that of all experts would."""
    number = of.names.index(name)
    for move in _whole_moves(spec, of.name):
        for axis in spec.axes[move.tensor]:
            first = axis[0][0]
            if isinstance(first, str) and spec.groups[first] == len(of.names):
                # Where experts alone stand on an axis, the tensor of one expert lacks it.
                kept = [k for k, own in enumerate(move.axes) if own != axis or axis != ((first,),)]
                yield Move(
                    tuple(move.axes[k] for k in kept),
                    move.tensor,
                    tuple(move.numbers[k] for k in kept),
                    Part(axis, number, of.names),
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


def _fits(spec: PermutationSpec, move: Move, tensor: Tensor) -> bool:
    """Whether the tensor has these axes; one that stands still may have any size."""
    sizes = [None if axis is None else sum(map(spec.segment_size, axis)) for axis in move.axes]
    if move.part is not None:
        count, joined = len(move.part.names), move.part.axis
        sizes = [
            size // count if size is not None and axis == joined else size
            for size, axis in zip(sizes, move.axes, strict=True)
        ]
    return len(sizes) == tensor.dim() and all(
        size is None or size == length for size, length in zip(sizes, tensor.shape, strict=True)
    )
