"""Recurrent layers written out, since torch's own cannot be vectorised over members.

    tanh, relu:  h <- s(W x + b + U h + c)
    gru:         r, z = sigm(W x + b + U h + c)          n = tanh(W x + b + r (U h + c))
                 h <- (1 - z) n + z h
    lstm:        i, f, o = sigm(W x + b + U h + c)       g = tanh(W x + b + U h + c)
                 c <- f c + i g                          h <- o tanh(c)

Equal to `torch.nn.RNN`, `torch.nn.GRU` and `torch.nn.LSTM` (a test), of any depth, in both
directions, without projections, packed sequences or dropout between layers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import _VF, Tensor
from torch.nn import functional as F

from wsl.zoo import ZooError

CellState = tuple[Tensor, ...]
Cell = Callable[[Tensor, Tensor, CellState], CellState]
"""(W x + b, U h + c, state) -> state, whose first entry is h."""


def _gru(a: Tensor, b: Tensor, state: CellState) -> CellState:
    (r, z, n), (s, y, m) = a.chunk(3, -1), b.chunk(3, -1)
    update = torch.sigmoid(z + y)
    return ((1 - update) * torch.tanh(n + torch.sigmoid(r + s) * m) + update * state[0],)


def _lstm(a: Tensor, b: Tensor, state: CellState) -> CellState:
    i, f, g, o = (a + b).chunk(4, -1)
    cell = torch.sigmoid(f) * state[1] + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(cell), cell


CELLS: Mapping[Any, Cell] = {
    _VF.gru: _gru,
    _VF.lstm: _lstm,
    _VF.rnn_tanh: lambda a, b, _: (torch.tanh(a + b),),
    _VF.rnn_relu: lambda a, b, _: (torch.relu(a + b),),
}


class _Settings(NamedTuple):
    """What follows the tensors in the arguments of ``torch.gru`` and its siblings."""

    has_biases: bool
    num_layers: int
    dropout: float
    train: bool
    bidirectional: bool
    batch_first: bool


def recurrent(
    cell: Cell,
    x: Tensor,
    state: Tensor | Sequence[Tensor],
    *rest: Any,
) -> tuple[Tensor, ...]:
    """What ``torch.gru`` and its siblings return, which also take these arguments.

    ``x`` is (batch, time, features) or (time, batch, features), ``state`` the initial one, or the
    pair of an LSTM; ``rest`` are the weights and `_Settings`.
    """
    params, settings = rest[0], _Settings(*rest[1:])
    _check(params, settings)
    states = [state] if isinstance(state, Tensor) else list(state)
    directions, each = 1 + settings.bidirectional, 4 if settings.has_biases else 2
    x, last = (x.transpose(0, 1) if settings.batch_first else x), []
    for layer in range(settings.num_layers):
        outputs = []
        for k in range(layer * directions, (layer + 1) * directions):
            own, begin = params[k * each : (k + 1) * each], tuple(s[k] for s in states)
            y, final = _scan(cell, own, x, begin=begin, backwards=k % directions == 1)
            outputs.append(y)
            last.append(final)
        x = torch.cat(outputs, -1)
    finals = (torch.stack(parts) for parts in zip(*last, strict=True))
    return x.transpose(0, 1) if settings.batch_first else x, *finals


def _check(params: Sequence[Tensor], settings: _Settings) -> None:
    if settings.dropout and settings.train and settings.num_layers > 1:
        raise ZooError(
            "recurrent layers with dropout between them cannot be trained as a population; use "
            "nn.Dropout instead"
        )
    each = (1 + settings.bidirectional) * (4 if settings.has_biases else 2)
    if len(params) != settings.num_layers * each:
        raise ZooError(
            "recurrent layers with projections cannot be trained as a population; use proj_size=0"
        )


def _scan(
    cell: Cell, params: Sequence[Tensor], x: Tensor, *, begin: CellState, backwards: bool
) -> tuple[Tensor, CellState]:
    """Outputs (time, batch, hidden) of one layer in one direction, and its last state."""
    w, u, b, c = params if len(params) == 4 else (*params, None, None)
    inputs, outputs, state = F.linear(x, w, b), [], begin
    for now in reversed(inputs.unbind(0)) if backwards else inputs.unbind(0):
        state = cell(now, F.linear(state[0], u, c), state)
        outputs.append(state[0])
    return torch.stack(outputs[::-1] if backwards else outputs), state
