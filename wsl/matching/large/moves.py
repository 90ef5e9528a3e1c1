"""One tensor in a file as an element of the group moves it: gathered, then turned.

    permutation     gathers along axes, in the type of the file, to the bit
    maps            matrices on heads and streams, rotations of rotary pairs; rounded to that type

Parts along the first axis where that stands still and nothing turns; otherwise the tensor whole.
Signs and scales are not done here: an element that has them is refused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from wsl.matching.large.files import TensorSlices
from wsl.symmetry import (
    Axis,
    LinearMaps,
    Permutation,
    Rescaling,
    SpecError,
    SymmetryElement,
    act_at,
    mixing,
)

BYTES = 2**26
"""What is written at a time, where the first axis stands still."""
ISOMETRY = 1e-6
"""How far from 1 a singular value may be of what counts as keeping lengths."""
_WHOLE_NUMBERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
_SQUARES = re.compile(r"(?:^|[._])(?:sq|square|squared|nu)(?=[._]|$)")

Element = Permutation | SymmetryElement


class Part(NamedTuple):
    """The tensor ``number`` of several, ``names``, that a specification names as one.

    They lie one after the other along ``axis`` there, whose outermost factor says which is where.
    """

    axis: Axis
    number: int
    names: tuple[str, ...]

    def origin(self, permutation: Permutation) -> int:
        """The number of the part that comes to stand here."""
        return int(self._index(permutation)[0]) // self._length(permutation)

    def inside(self, permutation: Permutation) -> Tensor:
        """How that part is gathered along the axis."""
        return self._index(permutation) % self._length(permutation)

    def _length(self, permutation: Permutation) -> int:
        return sum(map(permutation.spec.segment_size, self.axis)) // len(self.names)

    def _index(self, permutation: Permutation) -> Tensor:
        index, length = permutation.axis_index(self.axis), self._length(permutation)
        assert index is not None
        return index[self.number * length : (self.number + 1) * length]


class Move(NamedTuple):
    """What each axis of a file's tensor is in the specification; None stands still.

    ``numbers`` says of each which axis it is of ``tensor`` there; both are empty for a tensor that
    no matrix can act on. ``part`` says which of several tensors this one is that are one there.
    """

    axes: tuple[Axis | None, ...]
    tensor: str = ""
    numbers: tuple[int | None, ...] = ()
    part: Part | None = None

    def origin(self, name: str, element: Element) -> str:
        """The name in the file of the tensor that comes to stand where ``name`` is."""
        if self.part is None:
            return name
        return self.part.names[self.part.origin(permutation_of(element))]

    def index(self, axis: Axis | None, permutation: Permutation) -> Tensor | None:
        """How an axis of the tensor is gathered; None stands still."""
        if axis is None:
            return None
        if self.part is not None and axis == self.part.axis:
            return self.part.inside(permutation)
        return permutation.axis_index(axis)


Moves = Mapping[str, Move]
"""How the tensors of a file move, by their names in the file."""


def own_move(name: str, axes: tuple[Axis, ...]) -> Move:
    """The move of the weight ``name`` of the specification itself."""
    return Move(axes, name, tuple(range(len(axes))))


def permutation_of(element: Element) -> Permutation:
    """The permutation of an element."""
    return element if isinstance(element, Permutation) else element.permutation


def maps_of(element: Element) -> LinearMaps | None:
    """The matrices of an element; raises ValueError where it has scales, signs or phases too."""
    if isinstance(element, Permutation):
        return None
    still = Rescaling.identity(element.spec).values
    pairs = zip(element.rescaling.values, still, strict=True)
    if not all(torch.equal(value.cpu(), one) for value, one in pairs):
        raise ValueError(
            "the element changes scales, signs or phases of units, which is not done out of core; "
            "apply it in memory"
        )
    return element.maps


def check_family(element: Element, moves: Moves) -> None:
    """Raise ValueError, naming the tensor, for one that does not follow an element's matrices.

    Squares of gradients do not turn with the weights, and no moments follow what stretches.
    """
    maps = maps_of(element)
    if maps is None:
        return
    for name, move in moves.items():
        if turning_of(maps, move) and _SQUARES.search(name.removesuffix(move.tensor)):
            raise ValueError(
                f"{name}: squares of gradients do not turn with the weights of {move.tensor}; "
                f"--drop {name} leaves it out"
            )
    if not all(_keeps_lengths(value) for value in maps.values):
        raise ValueError(
            "the element stretches weights, and averages and moments would not follow; apply it "
            "in memory, to weights alone"
        )


def _keeps_lengths(value: Tensor) -> bool:
    sizes = value.abs() if value.is_complex() else torch.linalg.svdvals(value)
    return bool(((sizes - 1).abs() < ISOMETRY).all())


Turn = Callable[[Tensor], Tensor]


def turning_of(maps: LinearMaps | None, move: Move) -> list[Turn]:
    """What the matrices do to a tensor that moves so, in the order in which they act."""
    found: list[Turn] = []
    if maps is None:
        return found
    for unit, value in zip(mixing(maps.spec), maps.values, strict=True):
        for place in unit.places:
            if place.tensor == move.tensor and place.axis in move.numbers and not _still(value):
                act = act_at(maps.spec, unit, value, place=place)
                lead = move.numbers.index(place.axis) - place.axis
                found.append(lambda tensor, act=act, lead=lead: act(tensor, lead))
    return found


def _still(value: Tensor) -> bool:
    one = torch.ones(()) if value.is_complex() else torch.eye(value.shape[-1])
    return bool((value == one.to(value)).all())


def moved_parts(tensor: TensorSlices, move: Move, element: Element) -> Iterator[Tensor]:
    """The tensor moved by an element, in parts along its first axis if that stands still.

    Of several that are one in the specification it is the one that `Move.origin` names.
    """
    permutation, turns = permutation_of(element), turning_of(maps_of(element), move)
    index = [move.index(axis, permutation) for axis in move.axes]
    for rows in _cuts(tensor, whole=bool(turns) or (bool(index) and index[0] is not None)):
        part = tensor[rows] if tensor.shape else tensor[...]
        # Types in which torch cannot gather are moved as whole numbers of the same size.
        plain = part.view(_WHOLE_NUMBERS[part.dtype.itemsize])
        for axis, of_axis in enumerate(index):
            plain = plain if of_axis is None else plain.index_select(axis, of_axis)
        yield turned(plain.view(part.dtype), turns)


def turned(tensor: Tensor, turns: list[Turn]) -> Tensor:
    """The tensor after all turns, rounded once to its own type."""
    if not turns:
        return tensor
    here = tensor.to(torch.promote_types(tensor.dtype, torch.float32))
    for turn in turns:
        here = turn(here)
    return here.to(tensor.dtype)


def moved_tensor(tensor: TensorSlices, move: Move, element: Element) -> Tensor:
    """The tensor moved by an element, whole and in memory."""
    parts = list(moved_parts(tensor, move, element))
    return torch.cat(parts) if len(parts) > 1 else parts[0]


def _cuts(tensor: TensorSlices, *, whole: bool) -> list[slice]:
    if whole or not tensor.shape:
        return [slice(None)]
    row = tensor.dtype.itemsize * math.prod(tensor.shape[1:])
    step = max(1, BYTES // max(1, row))
    return [slice(i, i + step) for i in range(0, tensor.shape[0], step)]


def load_element(path: str) -> Element:
    """The element in a file: a permutation as JSON, or any element as safetensors.

    Raises `SpecError` if it is neither.
    """
    with open(path, "rb") as file:
        text = file.read(1) == b"{"
    if text:
        return Permutation.load(path)
    element = SymmetryElement.load(path)
    try:
        maps_of(element)
    except ValueError as error:
        raise SpecError(f"{path}: {error}") from None
    return element
