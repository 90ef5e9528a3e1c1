"""How charges pass through operations: one rule for each class of them, in the manner of `wsl.symmetry.rules`.

    rule(c, event)        c: the equations so far; event: who meets in the operation, and its arguments by name

Classes: entries in other places (reshape, slice), joined tensors, sums and products, functions, reductions; the rules of
normalizations, attention and recurrences are in `charges_layers`. An operation that is not listed forces its charges to zero.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from wsl.symmetry.charges import Charges
from wsl.symmetry.charges_functions import ABS, LINEAR, POSITIVE, SQUARE, Function, function_of
from wsl.symmetry.charges_kernel import Row, plus
from wsl.symmetry.charges_layers import FOLDING, LAYERS, UNTIED
from wsl.symmetry.charges_meetings import Event, Meeting
from wsl.symmetry.rules import is_value

Rule = Callable[[Charges, Event], None]


def read(c: Charges, events: Sequence[Event], known: bool) -> None:
    """All equations of a graph; ``known`` says that no operation may have changed a tensor of zeros unseen."""
    known = known and not any(event.overwrites for event in events)
    for number, event in enumerate(events):
        function = function_of(event.name, event.arguments)
        if event.name not in UNTIED:
            _each(event, c.tie)
        if function is not None:
            _apply(c, event, function, number)
        else:
            RULES.get(event.name, nothing)(c, event)
        if event.name not in FOLDING:
            _each(event._replace(meetings=tuple(meeting for meeting in event.meetings if meeting.folded)), c.forbid)
        c.finish(event)
        if known and _stays_zero(c, event):
            c.zeros |= set(map(id, event.outputs))


def nothing(c: Charges, event: Event) -> None:
    """Every charge vanishes."""
    for meeting in event.meetings:
        c.forbid(meeting)


def ignore(c: Charges, event: Event) -> None:
    """The result does not depend on the operands' entries."""


def carry(c: Charges, event: Event) -> None:
    """Entries of one tensor in other places, or linear functions of them along other axes."""
    for meeting in event.meetings:
        c.carry(meeting)


def window(c: Charges, event: Event) -> None:
    """The largest entry of each window, and where it is."""
    for meeting in event.meetings:
        c.give(meeting, c.through(POSITIVE, c.total([term.charge for term in meeting.terms])), 0)


def join(c: Charges, event: Event, along: bool) -> None:
    """Tensors side by side: units on another axis than the joined one are the same in all."""
    tensors, rank = event.arguments["tensors"], len(event.outputs[0])
    dim = event.arguments.get("dim", 0) % rank if along else None
    for meeting in event.meetings:
        c.carry(meeting)
        there = {term.index for term in meeting.terms}
        rest = [t for i, t in enumerate(tensors) if i not in there and len(t) == len(tensors[min(there)])]
        if meeting.terms[0].axis != dim and not all(map(c.is_zero, rest)):
            c.forbid(meeting)


def polynomial(c: Charges, event: Event, *, added: str = "", factors: str = "", divisors: str = "") -> None:
    """A sum of operands and of one product, entry by entry or contracted."""
    for meeting in event.meetings:
        form = _product(c, meeting, factors.split(), divisors.split())
        if not meeting.results:
            c.vanish(form)
            continue
        addends = list(_addends(c, event, meeting, added.split()))
        if factors:
            addends.insert(0, form)
        for other in addends[1:]:
            c.equal(addends[0], other)
        c.give(meeting, addends[0] if addends else {})


def shifted(c: Charges, event: Event, sign: int) -> None:
    """x + y, where a number that is added to a weight moves the origin from which it is scaled."""
    number, alpha = event.arguments.get("other"), event.arguments.get("alpha", 1)
    if not isinstance(number, (int, float)) or (event.name == "rsub" and alpha != 1):
        polynomial(c, event, added="self other")
        return
    offset = sign * float(number * alpha)
    for meeting in event.meetings:
        if not offset:
            c.carry(meeting)
        elif len(meeting.terms) == 1 and c.kind != "linear":
            c.give(meeting, c.use(meeting.terms[0].charge, offset))
        else:
            c.forbid(meeting)


def _product(c: Charges, meeting: Meeting, factors: Sequence[str], divisors: Sequence[str]) -> Row:
    over, under = meeting.of(*factors), meeting.of(*divisors)
    form = plus(c.total(over), c.total(under), -1)
    if c.kind == "linear" and (under or len(over) > (1 if meeting.results else 2)):
        for charge in (*over, *under):
            c.vanish(c.use(charge))
        return {}
    return form


def _addends(c: Charges, event: Event, meeting: Meeting, names: Sequence[str]) -> Iterable[Row]:
    for name in names:
        operand = event.arguments.get(name)
        if operand is None or c.is_zero(operand):
            continue
        yield from map(c.use, meeting.of(name)) if meeting.of(name) else [{}]


def choose(c: Charges, event: Event, chooser: str, added: str, function: Function = LINEAR) -> None:
    """Each entry is that of one operand; which one is told by another operand, or by size."""
    for meeting in event.meetings:
        for charge in meeting.of(chooser):
            c.vanish(c.use(charge))
        forms = [c.through(function, form) for form in _addends(c, event, meeting, added.split())]
        for other in forms[1:]:
            c.equal(forms[0], other)
        c.give(meeting, forms[0] if forms else {})


def fill(c: Charges, event: Event) -> None:
    """Some entries become a number; infinity has every positive scale."""
    value = event.arguments.get("value")
    free = not is_value(value) and (value == 0 or (c.kind == "scale" and abs(value or 0) == float("inf")))
    if free:
        choose(c, event, "mask", "self")
    else:
        nothing(c, event)


def padding(c: Charges, event: Event) -> None:
    """A border of zeros has every charge."""
    constant = event.arguments.get("mode", "constant") == "constant" and event.arguments.get("value")
    (nothing if constant else carry)(c, event)


def reduce(c: Charges, event: Event, function: Function, apart: bool = False) -> None:
    """A function of many entries; ``apart``: it does not see the sign of any single one."""
    for meeting in event.meetings:
        form = c.total([term.charge for term in meeting.terms])
        if meeting.results:
            c.give(meeting, c.through(function, form))
        elif not (apart and c.kind == "sign"):
            c.vanish(form)


def norm(c: Charges, event: Event) -> None:
    """(sum |x|^p)^(1/p); for p = 0 it counts."""
    p = event.arguments.get("ord", event.arguments.get("p", 2))
    if p == 0:
        nothing(c, event)
    else:
        reduce(c, event, ABS, apart=True)


def extremum(c: Charges, event: Event) -> None:
    """Of everything, or of two tensors."""
    if event.arguments.get("other") is None:
        reduce(c, event, POSITIVE)
    else:
        choose(c, event, "", "self other", POSITIVE)


def lerp(c: Charges, event: Event) -> None:
    """x + w (y - x) for a number w."""
    if is_value(event.arguments.get("weight")):
        nothing(c, event)
    else:
        polynomial(c, event, added="self end")


def quotient(c: Charges, event: Event) -> None:
    """x / y, unless it is rounded."""
    if event.arguments.get("rounding_mode"):
        nothing(c, event)
    else:
        polynomial(c, event, factors="self", divisors="other")


def _apply(c: Charges, event: Event, function: Function, number: int) -> None:
    """A function of each entry; a phase flips the sign of a sine or a cosine."""
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


def _rows(names: str, rule: Rule) -> dict[str, Rule]:
    return dict.fromkeys(names.split(), rule)


CARRIED = frozenset("""
_to_copy alias clone contiguous detach lift_fresh lift_fresh_copy to type_as alpha_dropout dropout feature_alpha_dropout
feature_dropout view reshape _unsafe_view view_as reshape_as flatten unflatten squeeze unsqueeze ravel permute transpose swapaxes
swapdims t numpy_T mT adjoint movedim moveaxis expand expand_as broadcast_to repeat tile repeat_interleave split chunk
split_with_sizes tensor_split unsafe_split unsafe_chunk unbind select slice
""".split())  # fmt: skip
"""Entries of one tensor, each as it is, in other places."""

RULES: dict[str, Rule] = {
    **LAYERS,
    **dict.fromkeys(CARRIED, carry),
    **_rows("index index_select embedding pixel_shuffle pixel_unshuffle channel_shuffle", carry),
    **_rows("avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d", carry),
    **_rows("upsample_nearest1d upsample_nearest2d upsample_nearest3d upsample_linear1d upsample_bilinear2d", carry),
    **_rows("upsample_trilinear3d upsample_bicubic2d _upsample_bilinear2d_aa _upsample_bicubic2d_aa", carry),
    **_rows("max_pool1d max_pool2d max_pool3d adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d", window),
    **_rows("max_pool1d_with_indices max_pool2d_with_indices max_pool3d_with_indices", window),
    **_rows("full full_like zeros zeros_like ones ones_like new_full new_zeros new_ones scalar_tensor", ignore),
    **_rows("cat concat concatenate", partial(join, along=True)),
    **_rows("stack", partial(join, along=False)),
    **_rows("add", partial(shifted, sign=1)),
    **_rows("sub subtract rsub", partial(shifted, sign=-1)),
    **_rows("copy", partial(polynomial, added="src")),
    **_rows("mul multiply", partial(polynomial, factors="self other")),
    **_rows("div divide true_divide", quotient),
    **_rows("matmul", partial(polynomial, factors="self other")),
    **_rows("mm bmm", partial(polynomial, factors="self mat2")),
    **_rows("mv", partial(polynomial, factors="self vec")),
    **_rows("dot", partial(polynomial, factors="self tensor")),
    **_rows("einsum", partial(polynomial, factors="tensors")),
    **_rows("addmm", partial(polynomial, added="self", factors="mat1 mat2")),
    **_rows("baddbmm", partial(polynomial, added="self", factors="batch1 batch2")),
    **_rows("addcmul", partial(polynomial, added="self", factors="tensor1 tensor2")),
    **_rows("addcdiv", partial(polynomial, added="self", factors="tensor1", divisors="tensor2")),
    **_rows("linear conv1d conv2d conv3d", partial(polynomial, added="bias", factors="input weight")),
    **_rows("conv_transpose1d conv_transpose2d conv_transpose3d", partial(polynomial, added="bias", factors="input weight")),
    **_rows("bilinear", partial(polynomial, added="bias", factors="input1 input2 weight")),
    **_rows("lerp", lerp),
    **_rows("where", partial(choose, chooser="condition", added="self other")),
    **_rows("maximum minimum fmax fmin", partial(choose, chooser="", added="self other", function=POSITIVE)),
    **_rows("hypot", partial(choose, chooser="", added="self other", function=ABS)),
    **_rows("masked_fill", fill),
    **_rows("pad constant_pad_nd", padding),
    **_rows("sum mean", partial(reduce, function=LINEAR)),
    **_rows("amax amin", partial(reduce, function=POSITIVE)),
    **_rows("var", partial(reduce, function=SQUARE)),
    **_rows("std", partial(reduce, function=ABS)),
    **_rows("norm linalg_vector_norm", norm),
    **_rows("max min", extremum),
    **_rows("softmax log_softmax _softmax _log_softmax", nothing),
}
