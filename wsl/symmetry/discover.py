"""`permutation_spec`: read the permutation symmetries of any network off its exported graph.

Every axis of every parameter and buffer starts as an unknown of its own, axes of inputs and outputs cannot move, and each
operation of the graph adds the equations that it needs: the largest group of axis permutations G such that, by the rules,
f_{g.theta}(x) = f_theta(x) for every g in G, every theta and every x. Hecht-Nielsen (1990); the graph of
permutations of a network: Ainsworth et al. (2023), arXiv 2209.04836, which writes it by hand.

It reads `torch.export` without decompositions, so weights may live on the meta device. It never guesses: equal sizes are not a
reason to tie two axes, an operation without a rule fixes what it touches and is named in ``spec.pinned``. It does not find
symmetries that are not permutations, nor those of particular weights. `wsl.verify` proves what is found.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.export.graph_signature import OutputKind
from torch.utils._pytree import tree_map_only

from wsl.symmetry.axes import YIELDING, Axis, Value, Yielding, atoms, fresh, pin, uniform
from wsl.symmetry.families import families
from wsl.symmetry.interpret import Interpreter, Overwritten
from wsl.symmetry.naming import write
from wsl.symmetry.rules import is_value
from wsl.symmetry.sources import inputs_of, placeholders, weights_of
from wsl.symmetry.spec import PermutationSpec
from wsl.symmetry.unify import unite


def permutation_spec(model: nn.Module, *inputs: Any, **kwargs: Any) -> PermutationSpec:
    """The permutation symmetries of ``model``, called as ``model(*inputs, **kwargs)``.

    Parameters
        model: any module that `torch.export` accepts, on any device, meta included; it is read in evaluation mode and left
            as it was.
        inputs: example inputs, of a batch size other than one. Shapes are read, values are not.

    Returns the specification of every entry of ``model.state_dict()``, in its order. Groups are named in the order in which
    they are met: ``c1, c2, ...`` where the first tensor has three or more axes, ``h1, h2, ...`` elsewhere. ``.pinned`` says of
    each fixed axis longer than one why it cannot move.
    """
    program = _export(model, inputs, kwargs)
    state = {name: t for name, t in model.state_dict(keep_vars=True).items() if isinstance(t, Tensor)}
    blocks, choice = _specification(program, state, Yielding(inside=False))
    if not choice.met:
        return blocks
    inside, _ = _specification(program, state, Yielding(inside=True))
    return max(blocks, inside, key=lambda spec: spec.log10_order)


def _specification(
    program: torch.export.ExportedProgram, state: Mapping[str, Tensor], choice: Yielding
) -> tuple[PermutationSpec, Yielding]:
    """One reading of the graph."""
    token = YIELDING.set(choice)
    try:
        try:
            weights, reading = _read(program, state, uniform)
        except Overwritten:
            weights, reading = _read(program, state, fresh)
        return write(weights, families(list(weights.values()), reading.steps), reading.labels), choice
    finally:
        YIELDING.reset(token)


def _read(
    program: torch.export.ExportedProgram, state: Mapping[str, Tensor], constant: Callable[[int], Axis]
) -> tuple[dict[str, Value], Interpreter]:
    """Axes of every tensor of the state dict after all equations of the graph."""
    weights = weights_of(state)
    reading = Interpreter(constant)
    outputs = reading.run(program.graph_module, inputs_of(program, weights, constant))
    for spec, value in zip(program.graph_signature.output_specs, outputs, strict=True):
        if spec.kind == OutputKind.BUFFER_MUTATION and spec.target in weights:
            tuple(map(unite, weights[str(spec.target)], value))
        elif is_value(value):
            _pin(value, "output")
    used = [weights[str(spec.target)] for spec, node in placeholders(program) if node.users and spec.target in weights]
    met = {atom for value in used for axis in value for atom in atoms(axis)}
    for axis in (axis for value in weights.values() for axis in value):
        if met.isdisjoint(atoms(axis)):
            pin(axis, "unused")
    return weights, reading


def _pin(value: Value, reason: str) -> None:
    for axis in value:
        pin(axis, reason)


def _export(model: nn.Module, inputs: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.export.ExportedProgram:
    if any(t.is_meta for t in model.state_dict().values()):
        inputs, kwargs = tree_map_only(Tensor, lambda t: t.to("meta"), (inputs, kwargs))
    with evaluation_mode(model), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The tensor attributes? .* assigned during export")
        return torch.export.export(model, inputs, kwargs, strict=False)


@contextlib.contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """``model.eval()`` for the time of a block; every submodule's own flag comes back."""
    flags = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in flags:
            module.training = training
