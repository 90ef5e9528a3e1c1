"""`WeightTokens`: a transformer on pieces of weights, for networks too large for anything finer.

    t_n = E x[piece n] + e(tensor) + p(row, column)
    f(theta) = MLP(mean_n Transformer(t_1, ..., t_N)_n)

Tensors are cut into rows (the weights into one unit) and rows into pieces of ``token`` weights,
each weight as its value and signed logarithm. Schuerholt et al. (2024), Towards Scalable and
Versatile Weight Space Learning, arXiv 2406.09997, for sequences of weight tokens. No symmetry is
built in: rows carry their places, so permuted weights are other weights to it; train it on aligned
networks or on permuted copies. Attention is softmax over the N tokens: quadratic time, linear
memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from wsl.nn.engine import validate
from wsl.nn.functional import Functional, check_heads
from wsl.nn.functionals.trunk import with_logarithm
from wsl.nn.inputs import InputNormalizer, head, positional_waves
from wsl.params import ravel
from wsl.symmetry import PermutationSpec


class WeightTokens(Functional):
    """Weights (batch, *shape) to (batch, out_features).

    ``token`` weights in a token, ``frequencies`` of the waves that tell rows and columns. Raises
    ValueError if there would be more than ``max_tokens`` tokens, or unless ``heads`` divides
    ``hidden``.
    """

    equivariance = "none"

    def __init__(
        self,
        spec: PermutationSpec,
        *,
        token: int = 32,
        hidden: int = 64,
        layers: int = 3,
        heads: int = 4,
        frequencies: int = 6,
        out_features: int = 1,
        head_hidden: int = 64,
        dropout: float = 0.0,
        odd: Sequence[str] = (),
        max_tokens: int = 16_384,
    ):
        super().__init__()
        check_heads("WeightTokens", hidden, heads)
        held = _tokens(spec, token, most=max_tokens)
        self.spec, self.normalizer = spec, InputNormalizer(spec, odd=odd)
        self.frequencies = frequencies
        self.entries: Tensor
        self.tensors: Tensor
        self.places: Tensor
        for name, buffer in zip(("entries", "tensors", "places"), held, strict=True):
            self.register_buffer(name, buffer, persistent=False)
        self.embed, self.tensor = nn.Linear(2 * token, hidden), nn.Embedding(len(spec.axes), hidden)
        self.place = nn.Linear(2 * (1 + 2 * frequencies), hidden, bias=False)
        self.layers = nn.ModuleList(_layer(hidden, heads, dropout) for _ in range(layers))
        self.head = head(hidden, head_hidden, head_hidden, out_features, dropout=dropout)

    def forward(self, params: Mapping[str, Tensor]) -> Tensor:
        """Raises `SpecError` for tensors that do not fit."""
        validate(self.spec, params)
        # One zero behind the weights fills up the last piece of a row.
        x = F.pad(ravel(self.normalizer(params), 1), (0, 1))[:, self.entries]
        waves = positional_waves(self.places, self.frequencies)
        where = self.tensor(self.tensors) + self.place(
            rearrange(waves, "n side wave -> n (side wave)")
        )
        h = self.embed(with_logarithm(x)) + where
        for layer in self.layers:
            h = layer(h)
        return self.head(h.mean(1))


def _layer(hidden: int, heads: int, dropout: float) -> nn.TransformerEncoderLayer:
    """Shares of attention are not dropped: torch would then store all N x N of them."""
    layer = nn.TransformerEncoderLayer(
        hidden, heads, 2 * hidden, dropout, "gelu", batch_first=True, norm_first=True
    )
    layer.self_attn.dropout = 0.0
    return layer


def _tokens(spec: PermutationSpec, token: int, *, most: int) -> tuple[Tensor, Tensor, Tensor]:
    """Of N tokens: what they hold (N, token), of which tensor (N,), in which row and column (N, 2).

    What they hold are positions in the raveled weights, or their number where a piece is short.
    Raises ValueError if there are more than ``most`` tokens.
    """
    sizes = [shape.numel() for shape in spec.shapes.values()]
    entries, tensors, places = [], [], []
    flat = torch.arange(sum(sizes)).split(sizes)
    for i, (index, shape) in enumerate(zip(flat, spec.shapes.values(), strict=True)):
        rows = shape[0] if len(shape) > 1 else 1
        entries.append(_rows_in_pieces(index, rows, token, filler=sum(sizes)))
        count = len(entries[-1])
        tensors.append(torch.full((count,), i))
        places.append(torch.cartesian_prod(_line(rows), _line(count // rows)))
    _check_count(sum(map(len, entries)), token, most=most)
    return torch.cat(entries), torch.cat(tensors), torch.cat(places)


def _check_count(count: int, token: int, *, most: int) -> None:
    if count > most:
        raise ValueError(
            f"WeightTokens: token={token} cuts the weights into {count:,} tokens, more than "
            f"max_tokens={most:,}; take longer tokens"
        )


def _rows_in_pieces(index: Tensor, rows: int, token: int, *, filler: int) -> Tensor:
    """Pieces of ``token`` entries, row after row; the last of each row is filled up."""
    matrix = rearrange(index, "(row entry) -> row entry", row=rows)
    padded = F.pad(matrix, (0, -matrix.shape[1] % token), value=filler)
    return rearrange(padded, "row (column n) -> (row column) n", n=token)


def _line(size: int) -> Tensor:
    return torch.linspace(-1, 1, size) if size > 1 else torch.zeros(1)
