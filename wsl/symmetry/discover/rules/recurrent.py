"""Recurrent layers: gates cannot move, one permutation of the hidden units serves every gate and
both sides of the recurrence.

Each layer and each direction has its own; a bidirectional output is the concatenation of two. With
a projection the state that recurs is the projected one, and the cell moves on its own.
"""

from __future__ import annotations

from functools import partial, reduce
from typing import Any

from wsl.symmetry.discover.axes import Axis, Value, concat, fixed, fresh, multiply, size
from wsl.symmetry.discover.lazy import factor
from wsl.symmetry.discover.rules.call import Call, Rules, rows
from wsl.symmetry.discover.unify import unite


def recurrent(
    at: Call,
    input: Value,
    hx: Value | list[Value],
    params: list[Value],
    num_layers: int,
    bidirectional: bool,
    batch_first: bool,
    gates: int,
    **_: Any,
) -> list[Value]:
    """Stacked layers over (batch, time, feature) or (time, batch, feature); returns the outputs and
    the last states.
    """
    initial = hx if isinstance(hx, list) else [hx]
    (time,) = at.fixed("time", [size(input[batch_first])])
    unite(input[batch_first], time)
    batch = reduce(unite, (state[1] for state in initial), input[1 - batch_first])
    directions = 1 + bidirectional
    each = len(params) // (num_layers * directions)
    cells = [params[i : i + each] for i in range(0, len(params), each)]
    hidden, cell, inputs = [], [], input[-1]
    for layer in range(num_layers):
        states = [
            _cell(at, inputs, weights, gates)
            for weights in cells[layer * directions : (layer + 1) * directions]
        ]
        hidden, cell = hidden + [h for h, _ in states], cell + [c for _, c in states]
        inputs = concat(h for h, _ in states)
    final = [
        _state(given, batch, axes) for given, axes in zip(initial, (hidden, cell), strict=False)
    ]
    return [(*((batch, time) if batch_first else (time, batch)), inputs), *final]


def _cell(at: Call, inputs: Axis, weights: list[Value], gates: int) -> tuple[Axis, Axis]:
    """Axes of the state and of the cell: weights are W_ih, W_hh, then b_ih and b_hh, then a
    projection.
    """
    w_ih, w_hh, *others = weights
    cell = fresh(size(w_ih[0]) // gates)
    gated = multiply(fixed(gates, f"gates of {at.name}"), cell)
    for weight in (w_ih, w_hh, *(other for other in others if len(other) == 1)):
        unite(weight[0], gated)
    projection = next((other for other in others if len(other) == 2), None)
    state = cell if projection is None else projection[0]
    if projection is not None:
        unite(projection[1], cell)
    unite(w_ih[1], inputs)
    unite(w_hh[1], state)
    return state, cell


def single(
    at: Call,
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
    units = _cell(
        at, input[-1], [w_ih, w_hh, *(bias for bias in (b_ih, b_hh) if bias is not None)], gates
    )[0]
    lead = reduce(lambda a, b: tuple(map(unite, a, b)), (state[:-1] for state in given), input[:-1])
    states = [(*lead, unite(state[-1], units)) for state in given]
    return states if isinstance(hx, list) else states[0]


def _state(given: Value, batch: Axis, axes: list[Axis]) -> Value:
    """States of all layers and directions, stacked: each part moves as its layer does."""
    for axis in axes:
        unite(given[2], axis)
    place, units = factor(concat(axes), (len(axes), size(axes[0])))
    return (place, batch, units)


RULES: Rules = {
    **rows(partial(recurrent, gates=4), "lstm"),
    **rows(partial(recurrent, gates=3), "gru"),
    **rows(partial(recurrent, gates=1), "rnn_tanh rnn_relu"),
    **rows(partial(single, gates=4), "lstm_cell"),
    **rows(partial(single, gates=3), "gru_cell"),
    **rows(partial(single, gates=1), "rnn_tanh_cell rnn_relu_cell"),
}
