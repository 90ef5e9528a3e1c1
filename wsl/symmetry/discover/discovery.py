"""`permutation_spec`: read the permutation symmetries of any network off its exported graph.

Every axis of every parameter and buffer starts as an unknown of its own, axes of inputs and outputs
cannot move, and each operation of the graph adds the equations that it needs: the largest group of
axis permutations G such that, by the rules, f_{g.theta}(x) = f_theta(x) for every g in G, every
theta and every x. Hecht-Nielsen (1990); the graph of permutations of a network: Ainsworth et al.
(2023), arXiv 2209.04836, which writes it by hand.

It reads `torch.export` without decompositions, so weights may live on the meta device; see
`program_of` for what it does where a network cannot be exported. It never guesses: equal sizes are
not a reason to tie two axes, an operation without a rule fixes what it touches and is named in
``spec.pinned``. It does not find symmetries that are not permutations, nor those of particular
weights. `wsl.verify` proves what is found.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor, fx, nn
from torch.export.graph_signature import OutputKind

from wsl.symmetry.discover.axes import (
    YIELDING,
    Atom,
    Axis,
    Value,
    Yielding,
    atoms,
    fresh,
    is_value,
    pin,
    uniform,
)
from wsl.symmetry.discover.failure import BY_HAND, FAILURES, told
from wsl.symmetry.discover.families import families
from wsl.symmetry.discover.interpret import Interpreter, OpRecord, Overwritten
from wsl.symmetry.discover.naming import annotate, name_groups, write
from wsl.symmetry.discover.program import Program, program_of
from wsl.symmetry.discover.sources import inputs_of, placeholders, weights_of
from wsl.symmetry.discover.unify import unite
from wsl.symmetry.spec import Axes, PermutationSpec, SpecError
from wsl.symmetry.verify import verify

UNUSED = "unused"
"""Why a tensor is fixed that this call does not read."""


class SpecWarning(UserWarning):
    """A specification holds for less than the whole network."""


def permutation_spec(model: nn.Module, *inputs: Any, **kwargs: Any) -> PermutationSpec:
    """The permutation symmetries of ``model``, called as ``model(*inputs, **kwargs)``.

    Parameters
        model: any module, on any device, meta included; it is read in evaluation mode and left as
            it was. Wrappers by `torch.compile` and data parallelism are looked through.
        inputs: example inputs, of a batch size other than one. Shapes are read; values only if the
            network is not exportable.

    Returns the specification of every entry of ``model.state_dict()``, in its order. Groups are
    named in the order in which they are met: ``c1, c2, ...`` where the first tensor has three or
    more axes, ``h1, h2, ...`` elsewhere. ``.pinned`` says of each fixed axis longer than one why it
    cannot move.

    A network that `torch.export` cannot read is read from a single call, and the result proved;
    `SpecWarning` says so where Python's path depended on values. If that fails too, `SpecError`
    names what failed and where in the network's code.
    """
    return discover(model, inputs, kwargs).spec


class Discovery(NamedTuple):
    """A specification with what it was found by: solved axes, the records of all operations, and
    values that overwrite buffers.

    ``program`` is the graph that was read, ``values`` what is known of its nodes, those of graphs
    inside of it included, ``names`` those of the groups, and ``choice`` the one between blocks and
    their inside.
    """

    spec: PermutationSpec
    state: Mapping[str, Tensor]
    weights: Mapping[str, Value]
    records: Sequence[OpRecord]
    written: Sequence[Value]
    program: Program
    values: Mapping[fx.Node, Any]
    names: Mapping[Atom, str]
    choice: Yielding

    @property
    def reads(self) -> bool:
        """Whether Python read values on the way: the graph does not show what depends on them."""
        return bool(self.program.reads)

    def annotations(self) -> dict[fx.Node, Axes]:
        """How the groups act on the tensors of the graph; nodes of which that is not known, or that
        are no tensors, are left out.
        """
        token = YIELDING.set(self.choice)
        try:
            found = {
                node: annotate(value, self.names)
                for node, value in self.values.items()
                if is_value(value)
            }
        finally:
            YIELDING.reset(token)
        return {node: axes for node, axes in found.items() if axes is not None}


def discover(model: nn.Module, inputs: tuple[Any, ...], kwargs: dict[str, Any]) -> Discovery:
    """`permutation_spec`, with the evidence."""
    program = program_of(model, inputs, kwargs)
    entries = model.state_dict(keep_vars=True).items()
    state = {name: tensor for name, tensor in entries if isinstance(tensor, Tensor)}
    found, choice = _reading(program, state, Yielding(inside=False))
    if choice.met:
        inside, _ = _reading(program, state, Yielding(inside=True))
        found = max(found, inside, key=_order)
    if program.failure:
        _prove(found.spec, program, model=model, call=(inputs, kwargs))
    return found


def _order(found: Discovery) -> float:
    return found.spec.log10_order


def _reading(
    program: Program, state: Mapping[str, Tensor], choice: Yielding
) -> tuple[Discovery, Yielding]:
    """One reading of the graph."""
    token = YIELDING.set(choice)
    try:
        try:
            weights, reading, written = _read(program, state, uniform)
        except Overwritten:
            weights, reading, written = _read(program, state, fresh)
        parents = families(list(weights.values()), reading.records)
        names = name_groups(weights, reading.labels)
        found = Discovery(
            write(weights, parents, names),
            state,
            weights,
            reading.records,
            written,
            program,
            reading.values,
            names,
            choice,
        )
        return found, choice
    finally:
        YIELDING.reset(token)


def _read(
    program: Program, state: Mapping[str, Tensor], constant: Callable[[int], Axis]
) -> tuple[dict[str, Value], Interpreter, list[Value]]:
    """Axes of all tensors of the state dict after all equations, and what is written to buffers."""
    weights = weights_of(state)
    reading = Interpreter(constant)
    outputs = reading.run(program.graph_module, inputs_of(program, weights, constant, state=state))
    written = _end(program, weights, outputs)
    _pin_unused(program, weights)
    return weights, reading, written


def _end(program: Program, weights: Mapping[str, Value], outputs: Sequence[Any]) -> list[Value]:
    """Outputs cannot move; what is written to a buffer, which is returned, moves with it."""
    written: list[Value] = []
    for spec, value in zip(program.graph_signature.output_specs, outputs, strict=True):
        if spec.kind == OutputKind.BUFFER_MUTATION and spec.target in weights:
            tuple(map(unite, weights[str(spec.target)], value))
            written += [weights[str(spec.target)], value]
        elif is_value(value):
            _pin(value, "output")
    return written


def _pin_unused(program: Program, weights: Mapping[str, Value]) -> None:
    """What this call does not read could be anything, but no proof would see it."""
    used = [
        weights[str(spec.target)]
        for spec, node in placeholders(program)
        if node.users and spec.target in weights
    ]
    # An unused axis that is tied to a used one is seen through it, and moves along.
    met = {atom for value in used for axis in value for atom in atoms(axis)}
    for axis in (axis for value in weights.values() for axis in value):
        if met.isdisjoint(atoms(axis)):
            pin(axis, UNUSED)


def _pin(value: Value, reason: str) -> None:
    for axis in value:
        pin(axis, reason)


def _prove(
    spec: PermutationSpec,
    program: Program,
    *,
    model: nn.Module,
    call: tuple[tuple[Any, ...], dict[str, Any]],
) -> None:
    """The graph of a single call is believed only together with a proof; on the meta device Python
    cannot have read a value.
    """
    inputs, kwargs = call
    what = f"{type(model).__name__}: torch.export cannot read it ({program.failure})"
    if not any(isinstance(t, Tensor) and t.is_meta for t in model.state_dict().values()):
        try:
            proof = verify(spec, model, *inputs, kwargs=kwargs, groups=False)
        except FAILURES as error:
            raise SpecError(
                f"{what}; what a single call shows cannot be proved ({told(error)}). {BY_HAND}"
            ) from None
        if not proof:
            raise SpecError(
                f"{what}; what a single call shows is not all of it: {', '.join(proof.broken)} do "
                "not preserve the function. "
                f"Give inputs that take every branch. Or: {BY_HAND}"
            )
    if program.reads:
        warnings.warn(
            f"{what}; the specification holds for the branches that a call with these inputs "
            "takes, since Python reads "
            f"{len(program.reads)} values on the way; prove it on inputs that take others",
            SpecWarning,
            stacklevel=4,
        )
