"""Recurrent layers written out, since torch's own cannot be vectorised over members.

    tanh, relu:  h <- s(W x + b + U h + c)
    gru:         r, z = sigm(W x + b + U h + c);   n = tanh(W x + b + r (U h + c));   h <- (1 - z) n
        + z h
    lstm:        i, f, o = sigm(.), g = tanh(.);   c <- f c + i g;   h <- o tanh(c)

Equal to `torch.nn.RNN`, `torch.nn.GRU` and `torch.nn.LSTM` (a test), of any depth, in both
directions, without projections, packed sequences or dropout between layers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import _VF, Tensor
from torch.nn import functional as F

from wsl.zoo import ZooError

State = tuple[Tensor, ...]
Cell = Callable[[Tensor, Tensor, State], State]
"""(W x + b, U h + c, state) -> state, whose first entry is h."""


def _gru(a: Tensor, b: Tensor, state: State) -> State:
    (r, z, n), (s, y, m) = a.chunk(3, -1), b.chunk(3, -1)
    update = torch.sigmoid(z + y)
    return ((1 - update) * torch.tanh(n + torch.sigmoid(r + s) * m) + update * state[0],)


def _lstm(a: Tensor, b: Tensor, state: State) -> State:
    i, f, g, o = (a + b).chunk(4, -1)
    cell = torch.sigmoid(f) * state[1] + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(cell), cell


CELLS: Mapping[Any, Cell] = {
    _VF.gru: _gru,
    _VF.lstm: _lstm,
    _VF.rnn_tanh: lambda a, b, _: (torch.tanh(a + b),),
    _VF.rnn_relu: lambda a, b, _: (torch.relu(a + b),),
}


def recurrent(
    cell: Cell,
    input: Tensor,
    hx: Tensor | Sequence[Tensor],
    params: Sequence[Tensor],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[Tensor, ...]:
    """What ``torch.gru`` and its siblings return for a tensor ``input`` (batch, time, features) or
    (time, batch, features).
    """
    if dropout and train and num_layers > 1:
        raise ZooError(
            "recurrent layers with dropout between them cannot be trained as a population; use "
            "nn.Dropout instead"
        )
    states = [hx] if isinstance(hx, Tensor) else list(hx)
    directions, each = 1 + bidirectional, 4 if has_biases else 2
    if len(params) != num_layers * directions * each:
        raise ZooError(
            "recurrent layers with projections cannot be trained as a population; use proj_size=0"
        )
    x, last = (input.transpose(0, 1) if batch_first else input), []
    for layer in range(num_layers):
        outputs = []
        for k in range(layer * directions, (layer + 1) * directions):
            y, final = _scan(
                cell,
                x,
                params[k * each : (k + 1) * each],
                tuple(s[k] for s in states),
                backwards=k % directions == 1,
            )
            outputs.append(y)
            last.append(final)
        x = torch.cat(outputs, -1)
    return x.transpose(0, 1) if batch_first else x, *(
        torch.stack(parts) for parts in zip(*last, strict=True)
    )


def _scan(
    cell: Cell, x: Tensor, params: Sequence[Tensor], state: State, *, backwards: bool
) -> tuple[Tensor, State]:
    w, u, b, c = params if len(params) == 4 else (*params, None, None)
    inputs, outputs = F.linear(x, w, b), []
    for now in reversed(inputs.unbind(0)) if backwards else inputs.unbind(0):
        state = cell(now, F.linear(state[0], u, c), state)
        outputs.append(state[0])
    return torch.stack(outputs[::-1] if backwards else outputs), state
