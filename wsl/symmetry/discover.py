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
from torch.export.graph_signature import InputKind, InputSpec, OutputKind
from torch.utils._pytree import tree_map_only

from wsl.symmetry.axes import Axis, Value, fixed, fresh, pin, uniform, unite
from wsl.symmetry.families import families
from wsl.symmetry.interpret import Interpreter, Overwritten
from wsl.symmetry.naming import write
from wsl.symmetry.spec import PermutationSpec


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
    try:
        weights, reading = _read(program, state, uniform)
    except Overwritten:
        weights, reading = _read(program, state, fresh)
    return write(weights, families(list(weights.values()), reading.steps), reading.labels)


def _read(
    program: torch.export.ExportedProgram, state: Mapping[str, Tensor], constant: Callable[[int], Axis]
) -> tuple[dict[str, Value], Interpreter]:
    """Axes of every tensor of the state dict after all equations of the graph."""
    weights = _weights(state)
    inputs = [
        _constant(str(spec.target), program.constants[str(spec.target)], constant)
        if spec.target in program.constants and spec.target not in weights
        else _input(spec, node, weights)
        for spec, node in _placeholders(program)
    ]
    used = {spec.target for spec, node in _placeholders(program) if node.users}
    reading = Interpreter(constant)
    outputs = reading.run(program.graph_module, inputs)
    for spec, value in zip(program.graph_signature.output_specs, outputs, strict=True):
        if spec.kind == OutputKind.BUFFER_MUTATION and spec.target in weights:
            tuple(map(unite, weights[str(spec.target)], value))
        elif isinstance(value, tuple):
            _pin(value, "output")
    for names in _tied(state):
        for name in names:
            tuple(map(unite, weights[names[0]], weights[name]))
            if not used.intersection(names):
                _pin(weights[name], "unused")
    return weights, reading


def _weights(state: Mapping[str, Tensor]) -> dict[str, Value]:
    """Unknown axes for every floating-point tensor; integers count or index, and stay."""
    return {
        name: tuple(
            fresh(n) if tensor.is_floating_point() or tensor.is_complex() else fixed(n, "integers") for n in tensor.shape
        )
        for name, tensor in state.items()
    }


def _placeholders(program: torch.export.ExportedProgram) -> list[tuple[InputSpec, torch.fx.Node]]:
    nodes = [node for node in program.graph.nodes if node.op == "placeholder"]
    return list(zip(program.graph_signature.input_specs, nodes, strict=True))


def _input(spec: InputSpec, node: torch.fx.Node, weights: Mapping[str, Value]) -> Any:
    """The value of a placeholder: a weight, or an input, which may be no tensor at all."""
    if spec.kind in (InputKind.PARAMETER, InputKind.BUFFER) and spec.target in weights:
        return weights[str(spec.target)]
    example = node.meta["val"]
    return tuple(fixed(n, "input") for n in example.shape) if isinstance(example, Tensor) else example


def _constant(name: str, content: Any, uniform: Callable[[int], Axis]) -> Any:
    """A constant's axes: uniform where the values say so, pinned elsewhere."""
    if not isinstance(content, Tensor):
        return content

    def axis(dim: int, length: int) -> Axis:
        same = not content.is_meta and length > 0 and bool((content == content.narrow(dim, 0, 1)).all())
        return uniform(length) if same else fixed(length, f"constant {name}")

    return tuple(axis(dim, length) for dim, length in enumerate(content.shape))


def _tied(state: Mapping[str, Tensor]) -> list[list[str]]:
    """Names that hold one tensor, shared by object or by memory."""
    groups: dict[Any, list[str]] = {}
    for name, t in state.items():
        key = (t.untyped_storage()._cdata, t.storage_offset(), t.shape, t.stride()) if t.numel() else name
        groups.setdefault(key, []).append(name)
    return list(groups.values())


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
