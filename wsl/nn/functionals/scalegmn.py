"""`ScaleGMN`: a graph metanetwork blind to permutations, signs, scales and phases of units.

    m_i = sum_j sum_k W_ij[k] A_k h_j,      h_i <- update(h_i, m_i, context)
    f(theta) = MLP(mean h, max h, sum_i V_i h_i)

Kalogeropoulos, Bouritsas, Panagakis (2024), Scale Equivariant Graph Metanetworks, arXiv 2406.10685.
Messages are products of the weights themselves with node features, one matrix product for each
tensor: E d + N d^2, not a perceptron on each edge.

Signs: nodes carry features that flip with their units and features that do not (see `nodes`,
`parity`). Scales: weights are first divided by the covariant sizes of their two ends
(`canonical_scales`), so that an edge and its reverse are both invariant and nothing overflows; the
published code's backward edge of a positive scale is not equivariant. Phases are made canonical too
(`canonical_phases`), which jumps where a bias is half way between two of them.

What is read up to which symmetry is decided by the unit lines of the specification, and by ``odd``,
``positive``, ``phases``. It does not use linear symmetries (attention) and refuses tensors with
three permutable axes. It does not run the network that it reads, but its signed features can
imitate a sine network at learned inputs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from wsl.nn.baselines import STATISTICS, weight_statistics
from wsl.nn.engine import validate
from wsl.nn.functional import Functional
from wsl.nn.functionals.nodes import NodeBlocks
from wsl.nn.functionals.parity import NodeUpdate, linear
from wsl.nn.functionals.passing import Messages, NodeLift, Reader
from wsl.nn.inputs import UnitNormalizer, head
from wsl.symmetry import PermutationSpec, with_units


class ScaleGMN(Functional):
    """Weights (batch, *shape) to (batch, out_features).

    ``hidden`` features of each kind on every unit, ``layers`` rounds of messages with weights of
    their own, backward messages too if ``bidirectional``. ``odd`` and ``positive`` name groups with
    odd and with positively homogeneous activations, ``phases`` maps groups of sines to their
    omega_0; groups with lines in the specification need not be named. Raises `SpecError` for a
    tensor with three permutable axes, and for signs of a group of one unit.
    """

    equivariance = "invariant"
    invariant_units = ("scale", "sign", "phase")
    """Kinds of unit symmetries in the specification that change nothing either."""

    def __init__(
        self,
        spec: PermutationSpec,
        *,
        hidden: int = 64,
        layers: int = 4,
        bidirectional: bool = True,
        out_features: int = 1,
        head_hidden: int = 64,
        dropout: float = 0.0,
        odd: Sequence[str] = (),
        positive: Sequence[str] = (),
        phases: Mapping[str, float] | None = None,
    ):
        super().__init__()
        self.spec, self.units = spec, with_units(spec, odd=odd, positive=positive, phases=phases)
        self.blocks = NodeBlocks(self.units)
        self.normalizer = UnitNormalizer(self.units)
        self.lift = NodeLift(self.blocks, hidden)
        self.messages = nn.ModuleList(
            Messages(self.blocks, hidden, bidirectional=bidirectional) for _ in range(layers)
        )
        sizes, signed = self.blocks.sizes, self.blocks.signed
        self.updates = nn.ModuleList(NodeUpdate(hidden, sizes, signed) for _ in range(layers))
        readers = [Reader(self.blocks, hidden, maximum=i == layers) for i in range(layers + 1)]
        self.readers = nn.ModuleList(readers)
        self.contexts = nn.ModuleList(
            _context(reader.features, hidden) for reader in readers[:layers]
        )
        width = readers[-1].features + STATISTICS * len(spec.axes)
        self.head = head(width, head_hidden, head_hidden, out_features, dropout=dropout)

    def forward(self, params: Mapping[str, Tensor]) -> Tensor:
        """Raises `SpecError` for tensors that do not fit."""
        validate(self.spec, params)
        x = self.normalizer(params)
        pieces = self.blocks.split(x)
        e, o = self._features(pieces)
        # A sign of a unit must not reach the head: statistics are those of magnitudes there.
        signed = self.normalizer.signed
        magnitudes = {name: t.abs() if name in signed else t for name, t in x.items()}
        read = self.readers[-1](pieces, e, o)
        return self.head(torch.cat([read, weight_statistics(magnitudes)], 1))

    def _features(self, pieces: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Even and signed features of all nodes after all rounds of messages."""
        e, o = self.lift(pieces)
        start = o
        for messages, update, reader, context in zip(
            self.messages, self.updates, self.readers, self.contexts, strict=False
        ):
            even, odd = messages(pieces, e, o)
            e, o = update(e, o, start, even=even, odd=odd, context=context(reader(pieces, e, o)))
        return e, o


def _context(width: int, hidden: int) -> nn.Module:
    return nn.Sequential(nn.LayerNorm(width), linear(width, hidden))
