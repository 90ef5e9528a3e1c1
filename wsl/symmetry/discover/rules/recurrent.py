"""Recurrent layers: gates cannot move, one permutation of the hidden units serves every gate and
both sides of the recurrence.

Each layer and each direction has its own; a bidirectional output is the concatenation of two. With
a projection the state that recurs is the projected one, and the cell moves on its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial, reduce
from typing import Any

from wsl.symmetry.discover.axes import Axis, Value, concat, fixed, fresh, multiply, pin, size
from wsl.symmetry.discover.exponents import (
    LINEAR_MAP,
    NONE,
    ODD,
    POSITIVE,
    VANISH,
    Constraint,
    Exponents,
    LinearForm,
    OpConstraints,
    ScalarFunction,
    UnitRule,
    depending,
    folding,
    plus,
)
from wsl.symmetry.discover.lazy import factor
from wsl.symmetry.discover.rules.row import OpContext, OpTable, row
from wsl.symmetry.discover.unify import unite


def recurrent(
    at: OpContext,
    hx: Value | list[Value],
    params: list[Value],
    num_layers: int,
    bidirectional: bool,
    gates: int,
    input: Value = (),
    data: Value = (),
    batch_sizes: Value = (),
    batch_first: bool = False,
    **_: Any,
) -> list[Value]:
    """Stacked layers over (batch, time, feature), (time, batch, feature), or the ``data`` of packed
    sequences (step, feature); returns the outputs and the last states.
    """
    initial = hx if isinstance(hx, list) else [hx]
    sequence = data or input
    # Time is fixed in the results even where all inputs are alike: states differ from step to step.
    steps = sequence[0 if data else int(batch_first)]
    (time,) = at.fixed("time", [size(steps)])
    unite(steps, time)
    if data:
        lead, batch = (time,), _packed_batch(at, initial, batch_sizes)
    else:
        batch = reduce(unite, (state[1] for state in initial), input[1 - batch_first])
        lead = (batch, time) if batch_first else (time, batch)
    each = len(params) // (num_layers * (1 + bidirectional))
    cells = [params[i : i + each] for i in range(0, len(params), each)]
    outputs, states = _layers(at, sequence[-1], cells, directions=1 + bidirectional, gates=gates)
    pairs = zip(initial, zip(*states, strict=True), strict=False)
    return [(*lead, outputs), *(_state(given, batch, list(axes)) for given, axes in pairs)]


def _packed_batch(at: OpContext, initial: list[Value], batch_sizes: Value) -> Axis:
    """The steps of packed sequences hold members of the batch, which are ordered by length."""
    (batch,) = at.fixed("time", [size(initial[0][1])])
    for axis in (*batch_sizes, *(state[1] for state in initial)):
        pin(axis, f"time of {at.name}")
    return batch


def pack(at: OpContext, input: Value, lengths: Value, **_: Any) -> list[Value]:
    """Sequences of several lengths, step by step; features pass."""
    for axis in (*input[:2], *lengths):
        pin(axis, f"time of {at.name}")
    steps, sizes = (at.fixed("time", lengths) for lengths in at.shapes)
    return [(steps[0], *input[2:]), sizes]


def unpack(at: OpContext, data: Value, batch_sizes: Value, **_: Any) -> list[Value]:
    """The same backwards, with a number where a sequence has ended."""
    for axis in (data[0], *batch_sizes):
        pin(axis, f"time of {at.name}")
    padded, sizes = (at.fixed("time", lengths) for lengths in at.shapes)
    return [(*padded[:2], *data[1:]), sizes]


def unpack_units(arguments: Mapping[str, Any]) -> UnitRule:
    """Zeros are as good with every factor, other numbers are not."""
    return VANISH if arguments.get("padding_value") else LINEAR_MAP


def _layers(
    at: OpContext, inputs: Axis, cells: list[list[Value]], *, directions: int, gates: int
) -> tuple[Axis, list[tuple[Axis, Axis]]]:
    """The axis of the last layer's outputs, and of every layer and direction state and cell."""
    states: list[tuple[Axis, Axis]] = []
    for first in range(0, len(cells), directions):
        layer = [_cell(at, inputs, cell, gates) for cell in cells[first : first + directions]]
        states += layer
        inputs = concat(state for state, _ in layer)
    return inputs, states


def _cell(at: OpContext, inputs: Axis, weights: list[Value], gates: int) -> tuple[Axis, Axis]:
    """Axes of the state and of the cell: weights are W_ih, W_hh, then b_ih and b_hh, then a
    projection.
    """
    w_ih, w_hh, *others = weights
    cell = fresh(size(w_ih[0]) // gates)
    gated = multiply(fixed(gates, f"gates of {at.name}"), cell)
    for weight in (w_ih, w_hh, *(other for other in others if len(other) == 1)):
        unite(weight[0], gated)
    state = cell
    for projection in (other for other in others if len(other) == 2):
        unite(projection[1], cell)
        state = projection[0]
    unite(w_ih[1], inputs)
    unite(w_hh[1], state)
    return state, cell


def single(
    at: OpContext,
    input: Value,
    hx: Value | list[Value],
    w_ih: Value,
    w_hh: Value,
    b_ih: Value | None = None,
    b_hh: Value | None = None,
    *,
    gates: int,
    **_: Any,
) -> Any:
    """One step of one layer, from one state or, in an LSTM, two."""
    given = hx if isinstance(hx, list) else [hx]
    weights = [each for each in (w_ih, w_hh, b_ih, b_hh) if each is not None]
    units = _cell(at, input[-1], weights, gates)[0]
    lead = reduce(lambda a, b: tuple(map(unite, a, b)), (state[:-1] for state in given), input[:-1])
    states = [(*lead, unite(state[-1], units)) for state in given]
    return states if isinstance(hx, list) else states[0]


def _state(given: Value, batch: Axis, axes: list[Axis]) -> Value:
    """States of all layers and directions, stacked: each part moves as its layer does."""
    for axis in axes:
        unite(given[2], axis)
    place, units = factor(concat(axes), (len(axes), size(axes[0])))
    return (place, batch, units)


def recurrent_units(e: Exponents, op: OpConstraints, function: ScalarFunction) -> None:
    """The exponent of a state is that of the rows; every weight that reads it cancels it, layer by
    layer.
    """
    for constraint in op.constraints:
        if any(term.argument in WEIGHTS for term in constraint.terms):
            _recurrence(e, op, constraint, function=function)
        else:
            e.forbid(constraint)


def _recurrence(
    e: Exponents, op: OpConstraints, constraint: Constraint, *, function: ScalarFunction
) -> None:
    weights = [term for term in constraint.terms if term.argument in WEIGHTS]
    rows = [e.use(term.exponent) for term in weights if term.axis == 0]
    # Without rows these are the units of the input, which only the columns of weights read.
    state = e.through(function, rows[0]) if rows else e.total(constraint.of("input"))
    for form in (*rows, *(_initial(e, op, constraint) if rows else ())):
        e.equal(state, form)
    for term in (term for term in weights if term.axis == 1):
        e.vanish(plus(state, e.use(term.exponent)))
    e.give(constraint, state if rows else {})


def _initial(e: Exponents, op: OpConstraints, constraint: Constraint) -> Iterator[LinearForm]:
    """Exponents of the first states, where they are not zero."""
    given: Any = op.arguments["hx"]
    for i, state in enumerate(given if isinstance(given, list) else [given]):
        if not e.is_zero(state):
            here = [
                term.exponent
                for term in constraint.terms
                if term.argument == "hx" and term.index == i
            ]
            yield from map(e.use, here) if here else [{}]


WEIGHTS = ("params", "w_ih", "w_hh", "b_ih", "b_hh")
NO_SCALE = folding(partial(recurrent_units, function=NONE))
SIGNED = folding(partial(recurrent_units, function=ODD))
SCALED = folding(partial(recurrent_units, function=POSITIVE))

RULES: OpTable = {
    **row("lstm", partial(recurrent, gates=4), units=NO_SCALE),
    **row("gru", partial(recurrent, gates=3), units=NO_SCALE),
    **row("rnn_tanh", partial(recurrent, gates=1), units=SIGNED),
    **row("rnn_relu", partial(recurrent, gates=1), units=SCALED),
    **row("_pack_padded_sequence", pack, units=LINEAR_MAP),
    **row("_pad_packed_sequence", unpack, units=depending(unpack_units)),
    **row("lstm_cell", partial(single, gates=4), units=NO_SCALE),
    **row("gru_cell", partial(single, gates=3), units=NO_SCALE),
    **row("rnn_tanh_cell", partial(single, gates=1), units=SIGNED),
    **row("rnn_relu_cell", partial(single, gates=1), units=SCALED),
}
