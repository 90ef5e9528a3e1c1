"""Residual sums: where they are, and how far what is added last has to be scaled.

a^2 var f + 2 a cov(x, f) + var x = (goal std)^2
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, fx

from wsl.connectivity.repairs.moments import Moments
from wsl.connectivity.repairs.program import LayerProgram, bound, operation, readers, source
from wsl.connectivity.repairs.writers import Writer

_NEAR = 3.0
"""How far a factor may be from the one that the summand by itself asks for."""


@dataclasses.dataclass(frozen=True, eq=False)
class StreamSum:
    """The sum of two values of one shape.

    writers: of the operands, those that write for this sum alone, in order of depth, each with the
    operand that carries what it writes. rest: the other operand, None if both are written.
    """

    node: fx.Node
    writers: tuple[tuple[Writer, fx.Node], ...]
    rest: fx.Node | None


def sums(program: LayerProgram, free: Mapping[fx.Node, Writer]) -> dict[fx.Node, StreamSum]:
    """The sums of a program by their node; ``free`` are the writers that can be written."""
    depth = {node: i for i, node in enumerate(program.operations)}
    found = {}
    for node in program.operations:
        if not _is_sum(program, node):
            continue
        written = list(_written(node, free))
        written.sort(key=lambda pair: depth[pair[0].node])
        others = [n for n in node.all_input_nodes if all(n is not o for _, o in written)]
        found[node] = StreamSum(node, tuple(written), others[0] if others else None)
    return found


def _written(node: fx.Node, free: Mapping[fx.Node, Writer]) -> Iterator[tuple[Writer, fx.Node]]:
    """The operands of a sum that are written for it alone, each after its writer."""
    for operand in node.all_input_nodes:
        origin = source(operand)
        if origin in free and list(readers(origin)) == [node]:
            yield free[origin], operand


def factor(
    f: Moments, x: Moments, covariance: Tensor, *, aim: Moments, near: Tensor
) -> tuple[Tensor, Tensor]:
    """The factor a of f with which x + a f has the deviation of ``aim``, and where there is one.

    Elsewhere, that is without a root near ``near``, it is ``near``.
    """
    variance = f.std.square().clamp(min=torch.finfo(f.std.dtype).tiny)
    discriminant = covariance.square() - variance * (x.std.square() - aim.std.square())
    half = discriminant.clamp(min=0).sqrt()
    high, low = (half - covariance) / variance, (-half - covariance) / variance
    root = torch.where((low - near).abs() < (high - near).abs(), low, high)
    met = (discriminant >= 0) & (root > near / _NEAR) & (root < near * _NEAR)
    return torch.where(met, root, near), met


def total(first: Sequence[Tensor], second: Sequence[Tensor]) -> list[Tensor]:
    """The sums, batch by batch."""
    return [a + b for a, b in zip(first, second, strict=True)]


def _is_sum(program: LayerProgram, node: fx.Node) -> bool:
    if node.op != "call_function" or operation(node) != "add":
        return False
    operands = node.all_input_nodes
    data = [n for n in operands if n not in program.weights and n not in program.constants]
    shapes = {tuple(n.meta["val"].shape) for n in [*data, node]}
    real = node.meta["val"].is_floating_point()
    return len(data) == 2 and len(shapes) == 1 and real and bound(node).get("alpha", 1) == 1
