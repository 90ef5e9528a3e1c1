"""Which charge rule each operation follows, and the reading of a whole graph; a new operation is a
new row.

An operation without a row, neither here nor among the functions of one variable, forces its charges
to zero.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from wsl.symmetry.discover.exponents import rules
from wsl.symmetry.discover.exponents.constraints import Event, Meeting
from wsl.symmetry.discover.exponents.exponents import Charges
from wsl.symmetry.discover.exponents.functions import (
    ABS,
    LINEAR,
    POSITIVE,
    SQUARE,
    Function,
    function_of,
)
from wsl.symmetry.discover.exponents.kernel import plus
from wsl.symmetry.discover.exponents.layers import FOLDING, LAYERS, UNTIED
from wsl.symmetry.discover.rules import is_value

Rule = Callable[[Charges, Event], None]


def _rows(names: str, rule: Rule) -> dict[str, Rule]:
    return dict.fromkeys(names.split(), rule)


_CARRIED = """
_to_copy alias clone contiguous detach lift_fresh lift_fresh_copy to type_as view reshape
_unsafe_view view_as reshape_as flatten unflatten squeeze unsqueeze ravel permute transpose
swapaxes swapdims t numpy_T mT adjoint movedim moveaxis expand expand_as broadcast_to repeat
tile repeat_interleave split chunk split_with_sizes tensor_split unsafe_split unsafe_chunk
unbind select slice
"""
CARRIED = frozenset(_CARRIED.split())
"""Entries of one tensor, each as it is, in other places."""

MEAN = partial(rules.reduce, function=LINEAR)
LARGEST = partial(rules.reduce, function=POSITIVE)
AFFINE = partial(rules.polynomial, added="bias", factors="input weight")

RULES: dict[str, Rule] = {
    **LAYERS,
    **dict.fromkeys(CARRIED, rules.carry),
    **_rows(
        "index index_select gather embedding pixel_shuffle pixel_unshuffle channel_shuffle",
        rules.carry,
    ),
    **_rows("alpha_dropout dropout feature_alpha_dropout feature_dropout", rules.dropout),
    **_rows("unfold im2col conj conj_physical real imag", rules.carry),
    **_rows(
        "avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d "
        "adaptive_avg_pool3d",
        MEAN,
    ),
    **_rows(
        "upsample_nearest1d upsample_nearest2d upsample_nearest3d upsample_linear1d "
        "upsample_bilinear2d",
        MEAN,
    ),
    **_rows(
        "upsample_trilinear3d upsample_bicubic2d _upsample_bilinear2d_aa _upsample_bicubic2d_aa "
        "col2im",
        MEAN,
    ),
    **_rows(
        "max_pool1d max_pool2d max_pool3d adaptive_max_pool1d adaptive_max_pool2d "
        "adaptive_max_pool3d",
        LARGEST,
    ),
    **_rows("max_pool1d_with_indices max_pool2d_with_indices max_pool3d_with_indices", LARGEST),
    **_rows(
        "full full_like zeros zeros_like ones ones_like new_full new_zeros new_ones scalar_tensor",
        rules.ignore,
    ),
    **_rows("empty empty_like new_empty", rules.ignore),
    **_rows("cat concat concatenate", partial(rules.join, along=True)),
    **_rows("stack", partial(rules.join, along=False)),
    **_rows("add", partial(rules.shifted, sign=1)),
    **_rows("sub subtract rsub", partial(rules.shifted, sign=-1)),
    **_rows("copy", partial(rules.polynomial, added="src")),
    **_rows("mul multiply", partial(rules.polynomial, factors="self other")),
    **_rows("div divide true_divide", rules.quotient),
    **_rows("matmul", partial(rules.polynomial, factors="self other")),
    **_rows("mm bmm", partial(rules.polynomial, factors="self mat2")),
    **_rows("mv", partial(rules.polynomial, factors="self vec")),
    **_rows("dot", partial(rules.polynomial, factors="self tensor")),
    **_rows("vdot", partial(rules.polynomial, factors="self other")),
    **_rows("outer ger", partial(rules.polynomial, factors="self vec2")),
    **_rows("einsum", partial(rules.polynomial, factors="tensors")),
    **_rows("addmm", partial(rules.polynomial, added="self", factors="mat1 mat2")),
    **_rows("baddbmm", partial(rules.polynomial, added="self", factors="batch1 batch2")),
    **_rows("addcmul", partial(rules.polynomial, added="self", factors="tensor1 tensor2")),
    **_rows(
        "addcdiv", partial(rules.polynomial, added="self", factors="tensor1", divisors="tensor2")
    ),
    **_rows(
        "linear conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d", AFFINE
    ),
    **_rows("bilinear", partial(rules.polynomial, added="bias", factors="input1 input2 weight")),
    **_rows("lerp", rules.lerp),
    **_rows("where", partial(rules.choose, chooser="condition", added="self other")),
    **_rows(
        "maximum minimum fmax fmin",
        partial(rules.choose, chooser="", added="self other", function=POSITIVE),
    ),
    **_rows("hypot", partial(rules.choose, chooser="", added="self other", function=ABS)),
    **_rows("masked_fill", rules.fill),
    **_rows("pad constant_pad_nd", rules.padding),
    **_rows("sum mean", MEAN),
    **_rows("amax amin", LARGEST),
    **_rows("var", partial(rules.reduce, function=SQUARE)),
    **_rows("std", partial(rules.reduce, function=ABS)),
    **_rows("norm linalg_vector_norm", rules.norm),
    **_rows("max min", rules.extremum),
    **_rows("softmax log_softmax _softmax _log_softmax", rules.nothing),
}


def read(c: Charges, events: Sequence[Event], known: bool) -> None:
    """All equations of a graph; ``known`` says that no operation may have changed a tensor of zeros
    unseen.
    """
    known = known and not any(event.overwrites for event in events)
    for number, event in enumerate(events):
        function = function_of(event.name, event.arguments)
        if event.name not in UNTIED:
            _each(event, c.tie)
        if function is not None:
            _apply(c, event, function, number)
        else:
            RULES.get(event.name, rules.nothing)(c, event)
        if event.name not in FOLDING:
            _each(
                event._replace(
                    meetings=tuple(meeting for meeting in event.meetings if meeting.folded)
                ),
                c.forbid,
            )
        c.finish(event)
        if known and _stays_zero(c, event):
            c.zeros |= set(map(id, event.outputs))


def _apply(c: Charges, event: Event, function: Function, number: int) -> None:
    """A function of each entry; a phase flips the sign of a sine or a cosine."""
    if sum(map(is_value, event.arguments.values())) > 1:
        rules.nothing(c, event)
        return
    for i, meeting in enumerate(event.meetings):
        form = c.through(function, c.total([term.charge for term in meeting.terms]))
        c.give(meeting, plus(form, c.phases.get((number, i), {})))


def _each(event: Event, do: Callable[[Meeting], None]) -> None:
    for meeting in event.meetings:
        do(meeting)


def _stays_zero(c: Charges, event: Event) -> bool:
    if event.name in ("zeros", "zeros_like", "new_zeros"):
        return True
    if event.name in ("full", "full_like", "new_full"):
        return event.arguments.get("fill_value") == 0
    operands = [argument for argument in event.arguments.values() if is_value(argument)]
    return event.name in CARRIED and len(operands) == 1 and c.is_zero(operands[0])
