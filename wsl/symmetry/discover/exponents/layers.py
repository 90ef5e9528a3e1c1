"""Charges in fused layers: normalizations, gates, attention and recurrences.

batch norm      y = w (x - m) / sqrt(v + eps) + b         evaluation mode: m, v are weights, and v
                                                          is scaled from -eps
layer norm      units are mixed: input 0, output w        RMS norm: as layer norm, but signs pass,
                                                          x^2 does not see them
attention       softmax(q k^T) v                          q + k = 0, output v
recurrence      h' = f(W x + b + U h + c)                 W, b, U, c = h on the rows, x + W = h + U
                                                          = 0 on the columns
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from wsl.symmetry.discover.exponents.constraints import Event, Meeting
from wsl.symmetry.discover.exponents.exponents import Charges, lacks
from wsl.symmetry.discover.exponents.functions import INVERSE_ROOT, ODD, POSITIVE, Function
from wsl.symmetry.discover.exponents.kernel import Row, plus

Rule = Callable[[Charges, Event], None]


def batch_norm(c: Charges, event: Event) -> None:
    """With running statistics; with those of the batch, signs pass."""
    for meeting in event.meetings:
        if not _channels(meeting) or c.kind == "linear":
            c.forbid(meeting)
        elif event.arguments.get("training") or event.arguments.get("running_mean") is None:
            _affine(c, event, meeting, _statistics(c, meeting))
        else:
            _affine(c, event, meeting, _running(c, event, meeting))


def instance_norm(c: Charges, event: Event) -> None:
    """Statistics of each channel of each sample."""
    for meeting in event.meetings:
        if _channels(meeting) and event.arguments.get("use_input_stats") and c.kind != "linear":
            _affine(c, event, meeting, _statistics(c, meeting))
        else:
            c.forbid(meeting)


def _channels(meeting: Meeting) -> bool:
    return all(term.axis == 1 for term in meeting.terms if term.argument == "input")


def _statistics(c: Charges, meeting: Meeting) -> Row:
    form = c.total(meeting.of("input"))
    return form if c.kind == "sign" else c.through(Function(), form)


def _running(c: Charges, event: Event, meeting: Meeting) -> Row:
    form, eps = c.total(meeting.of("input")), float(event.arguments.get("eps", 0.0))
    means = [c.use(charge) for charge in meeting.of("running_mean")] or [{}]
    for mean in means:
        c.equal(form, mean)
    for charge in meeting.of("running_var"):
        form = plus(form, c.through(INVERSE_ROOT, c.use(charge, eps)))
    return form


def _affine(c: Charges, event: Event, meeting: Meeting, form: Row) -> None:
    form = plus(form, c.total(meeting.of("weight")))
    for charge in meeting.of("bias"):
        c.equal(form, c.use(charge))
    if lacks(meeting, event.arguments.get("bias"), "bias"):
        c.vanish(form)
        form = {}
    c.give(meeting, form)


def layer_norm(c: Charges, event: Event, *, signs: bool) -> None:
    """Statistics over the last axes; ``signs``: they do not see the sign of any single unit."""
    first = len(event.outputs[0]) - len(event.arguments["normalized_shape"])
    for meeting in event.meetings:
        axes = [term.axis for term in meeting.terms if term.argument == "input"]
        inside = all(axis >= first for axis in axes)
        if c.kind == "linear" or not (inside or all(axis < first for axis in axes)):
            c.forbid(meeting)
            continue
        form = c.total(meeting.of("input"))
        if c.kind != "sign" or (inside and not signs):
            c.vanish(form)
            form = {}
        if inside:
            _affine(c, event, meeting, form)
        else:
            _outside(c, event, meeting, form)


def _outside(c: Charges, event: Event, meeting: Meeting, form: Row) -> None:
    """Units along which the shift of a layer norm is the same."""
    if event.arguments.get("bias") is not None:
        c.vanish(form)
        form = {}
    c.give(meeting, form)


def group_norm(c: Charges, event: Event) -> None:
    """Channels of a group are mixed."""
    for meeting in event.meetings:
        if not _channels(meeting) or c.kind == "linear":
            c.forbid(meeting)
            continue
        c.vanish(c.total(meeting.of("input")))
        _affine(c, event, meeting, {})


def weight_norm(c: Charges, event: Event) -> None:
    """g v / ||v||: the length of v does not matter for each position of one axis, on the others its
    entries are mixed.
    """
    dim = event.arguments.get("dim", 0)
    for meeting in event.meetings:
        direction, length = c.total(meeting.of("v")), c.total(meeting.of("g"))
        if c.kind == "linear":
            c.forbid(meeting)
            continue
        if c.kind == "scale":
            if any(
                term.axis != dim for term in meeting.terms if term.argument == "v"
            ) or not meeting.of("g"):
                c.vanish(direction)
            direction = {}
        c.give(meeting, plus(direction, length))


def prelu(c: Charges, event: Event) -> None:
    """The slopes have no charge."""
    for meeting in event.meetings:
        c.vanish(c.total(meeting.of("weight")))
        c.give(meeting, c.through(POSITIVE, c.total(meeting.of("self"))))


def glu(c: Charges, event: Event) -> None:
    """a sigmoid(b): the first half passes."""
    dim = event.arguments.get("dim", -1) % len(event.outputs[0])
    for meeting in event.meetings:
        if (
            c.kind == "linear"
            or len(meeting.terms) != 1
            or len(meeting.tied) != 1
            or meeting.terms[0].axis != dim
        ):
            c.tie(meeting)
            c.forbid(meeting)
            continue
        ((first, second),) = meeting.tied
        c.vanish(c.use(second))
        c.give(meeting, c.use(first))


def attention(c: Charges, event: Event) -> None:
    """Scores have no charge; queries and keys are contracted over their features, values over
    positions.
    """
    for meeting in event.meetings:
        scores, values = meeting.of("query", "key"), meeting.of("value")
        if c.kind == "linear" and len(scores) + len(values) > (1 if meeting.results else 2):
            c.forbid(meeting)
            continue
        c.vanish(c.total(scores))
        c.vanish(c.total(meeting.of("attn_mask")))
        form = c.total(values)
        if not meeting.results:
            c.vanish(form)
        c.give(meeting, form)


def recurrent(c: Charges, event: Event, function: Function) -> None:
    """The charge of a state is that of the rows; every weight that reads it cancels it, layer by
    layer.
    """
    for meeting in event.meetings:
        weights = [term for term in meeting.terms if term.argument == "params"]
        rows = [c.use(term.charge) for term in weights if term.axis == 0]
        if not weights:
            c.forbid(meeting)
            continue
        state = c.through(function, rows[0]) if rows else c.total(meeting.of("input"))
        for form in (*rows, *(_initial(c, event, meeting) if rows else ())):
            c.equal(state, form)
        for term in weights:
            if term.axis == 1:
                c.vanish(plus(state, c.use(term.charge)))
        c.give(meeting, state if rows else {})


def _initial(c: Charges, event: Event, meeting: Meeting) -> Iterator[Row]:
    """Charges of the first states, where they are not zero."""
    given: Any = event.arguments["hx"]
    for i, state in enumerate(given if isinstance(given, list) else [given]):
        if not c.is_zero(state):
            here = [
                term.charge for term in meeting.terms if term.argument == "hx" and term.index == i
            ]
            yield from map(c.use, here) if here else [{}]


LAYERS: dict[str, Rule] = {
    "batch_norm": batch_norm,
    "instance_norm": instance_norm,
    "layer_norm": partial(layer_norm, signs=False),
    "rms_norm": partial(layer_norm, signs=True),
    "group_norm": group_norm,
    "_weight_norm": weight_norm,
    "prelu": prelu,
    "glu": glu,
    "scaled_dot_product_attention": attention,
    "rnn_tanh": partial(recurrent, function=ODD),
    "rnn_relu": partial(recurrent, function=POSITIVE),
    "gru": partial(recurrent, function=Function()),
    "lstm": partial(recurrent, function=Function()),
}

UNTIED = frozenset({"glu"})
"""Segments of one operand that meet here play different parts."""

FOLDING = frozenset({"rnn_tanh", "rnn_relu", "gru", "lstm"})
"""Rules that understand units on several axes of one operand, like those of recurrent weights."""
