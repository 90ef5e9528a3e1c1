"""`verify`: does a specification preserve the function of a network? A numerical proof in float64.

    error(g) = || f_{g.theta}(x) - f_theta(x) || / || f_theta(x) ||

for theta drawn at random, buffers included: at their defaults (batch norm 0 and 1, layer norm 1,
biases 0) many wrong specifications pass; and scaled so that every layer's output is of unit size,
since late biases are lost in large ones. A true symmetry gives rounding error, about 1e-15; a wrong
one an error of order one. In training mode the running statistics that f_{g.theta} leaves must be g
of those of f_theta; for gradients, grad f(g.theta) = g(grad f(theta)).

It tells whether each permutation and each unit symmetry in the specification is a symmetry. Whether
the specification holds all there are is not decided; the negative controls (``controls``,
``unions``, ``pinned``) look for what it might lack.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypedDict, Unpack

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from wsl.symmetry.elements import Permutation
from wsl.symmetry.spec import PermutationSpec, SpecError
from wsl.symmetry.verify.calls import Example
from wsl.symmetry.verify.controls import loose, strict
from wsl.symmetry.verify.evidence import UnitVerification, Verification
from wsl.symmetry.verify.function import Function
from wsl.symmetry.verify.moves import Moves, moves_of
from wsl.symmetry.verify.unions import apart
from wsl.symmetry.verify.units import measure_units

Call = tuple[tuple[Any, ...], Mapping[str, Any]]
"""Positional inputs, and those given by name."""


@dataclasses.dataclass(frozen=True)
class Checks:
    """What `verify` measures beside the whole group on the given inputs; keywords of `verify`.

    others     more inputs, of other batch sizes, lengths or resolutions: each a tuple of positional
               inputs, which goes with the same ``kwargs``, or a pair ``(args, kwargs)``
    groups     each group and each unit symmetry alone; without it, that is done only where all
               together do not preserve the function
    training   also in training mode: outputs, and the buffers that the pass updates; dropout
               modules stay off
    gradients  also that gradients of a random weighting of the output move as the weights do
    controls   untie every occurrence of every group, and every place of a unit symmetry: this must
               break the function; one more forward pass each, or two
    unions     look for groups that fall into parts which need not move together; a few passes for
               each occurrence
    pinned     exchange entries of every fixed axis: this must break the function; three passes for
               each fixed axis
    """

    others: Sequence[tuple[Any, ...]] = ()
    groups: bool = True
    training: bool = False
    gradients: bool = False
    controls: bool = False
    unions: bool = False
    pinned: bool = False


class _Keywords(TypedDict, total=False):
    """The fields of `Checks`, for type checkers and editors."""

    others: Sequence[tuple[Any, ...]]
    groups: bool
    training: bool
    gradients: bool
    controls: bool
    unions: bool
    pinned: bool


def verify(
    spec: PermutationSpec,
    model: nn.Module,
    *inputs: Any,
    kwargs: Mapping[str, Any] | None = None,
    seed: int = 0,
    tolerance: float = 1e-9,
    materialize: bool = False,
    **checks: Unpack[_Keywords],
) -> Verification:
    """Measure whether ``spec`` preserves the function of ``model(*inputs, **kwargs)``.

    A float64 copy in evaluation mode gets random weights and buffers; integer buffers are kept. The
    network is computed in float64 even where it asks for less. The caller's model and random state
    stay untouched. ``materialize`` gives weights to a model on the meta device. All other keywords
    are the fields of `Checks`.

    Raises `SpecError` if the specification does not fit the model, if weights are on the meta
    device, if the output is zero or not finite for random weights, or if the network is no function
    of its input and weights: it draws random numbers that do not move with the units, or remembers
    earlier calls.

    >>> import torch, wsl
    >>> model = torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.ReLU(), torch.nn.Linear(7, 3))
    >>> spec = wsl.symmetry.symmetry_spec(model, torch.randn(4, 5))
    >>> wsl.verify(spec, model, torch.randn(4, 5)).ok
    True
    """
    asked = Checks(**checks)
    examples = [*_examples((inputs, dict(kwargs or {})), asked)]
    f = Function(model, seed=seed, materialize=materialize)
    spec.validate(f.state)
    permutations = _measure_permutations(f, spec, examples, asked=asked, tolerance=tolerance)
    if not spec.units:
        return permutations
    del f  # before a second copy of the network, which has seen no call yet, is made
    f = Function(model, seed=seed, materialize=materialize)
    plain = [example for example in examples if not (example.training or example.gradients)]
    units = measure_units(
        f, spec, plain, tolerance=tolerance, alone=asked.groups, controls=asked.controls
    )
    return dataclasses.replace(permutations, units=units)


def _measure_permutations(
    f: Function,
    spec: PermutationSpec,
    examples: Sequence[Example],
    *,
    asked: Checks,
    tolerance: float,
) -> Verification:
    """The evidence about groups, and the negative controls."""
    generator = torch.Generator().manual_seed(f.seed)
    f.randomize(generator, examples[0])
    alone = {name: _random_alone(spec, name, generator) for name in spec.groups}
    elements = moves_of(Permutation.random(spec, generator)), alone
    errors, groups = zip(
        *(
            _errors(f, e, elements, each=asked.groups and not i, tolerance=tolerance)
            for i, e in enumerate(examples)
        ),
        strict=True,
    )
    return Verification(
        errors[0],
        _worst(groups),
        tolerance,
        conditions=_conditions(examples, errors),
        units=UnitVerification(tolerance=tolerance),
        **_controls(f, spec, examples[0], alone=alone, asked=asked, generator=generator),
    )


def _conditions(examples: Sequence[Example], errors: Sequence[float]) -> Mapping[str, float]:
    """The error under each condition but the first, which is that of the given inputs."""
    found = {f"{i}: {e}": errors[i] for i, e in enumerate(examples) if i > 0}
    return MappingProxyType(found)


def _worst(errors: Sequence[Mapping[str, float]]) -> Mapping[str, float]:
    """The largest error of each group under all conditions."""
    names = dict.fromkeys(name for each in errors for name in each)
    return MappingProxyType({name: max(each.get(name, 0.0) for each in errors) for name in names})


def _errors(
    f: Function,
    example: Example,
    elements: tuple[Moves, Mapping[str, Permutation]],
    *,
    each: bool,
    tolerance: float,
) -> tuple[float, dict[str, float]]:
    """The error of the whole element, and of each group's where it is asked for or needed.

    Raises `SpecError` where the errors are the network's own, which is no function of its weights.
    """
    whole, alone = elements
    reference = f.reference(example)
    error = f.error(example, whole, reference)
    single: dict[str, float] = {}
    if each or not error <= tolerance:
        single = {name: f.error(example, moves_of(g), reference) for name, g in alone.items()}
    if not max([error, *single.values()]) <= tolerance:
        f.refuse_if_no_function(example, reference, tolerance)
    return error, single


def _controls(
    f: Function,
    spec: PermutationSpec,
    example: Example,
    *,
    alone: Mapping[str, Permutation],
    asked: Checks,
    generator: torch.Generator,
) -> dict[str, Any]:
    """Fields of the evidence about what the specification might lack; only those asked for."""
    fields: dict[str, Any] = {}
    if asked.controls:
        fields["controls"], fields["loose"] = loose(
            f, spec, example, alone=alone, generator=generator
        )
    if asked.unions:
        fields["apart"] = MappingProxyType(apart(f, spec, example, generator=generator))
    if asked.pinned:
        tried, free, unreached = strict(f, spec, example, generator=generator)
        fields |= {"pins": len(tried), "strict": tuple(free), "unreached": tuple(unreached)}
    return fields


def _examples(first: Call, asked: Checks) -> Iterator[Example]:
    """The given inputs, the other inputs; gradients on the given ones; all of them in training."""
    calls = [first, *(_call(i, other, first[1]) for i, other in enumerate(asked.others))]
    if any(isinstance(leaf, Tensor) and leaf.is_meta for leaf in tree_leaves(calls)):
        raise SpecError("verify: an input is on the meta device; give inputs that have values")
    yield from (Example(*call) for call in calls)
    if asked.gradients:
        yield Example(*first, gradients=True)
    if asked.training:
        for call in calls:
            gradients = asked.gradients and call is first
            yield Example(*call, training=True, gradients=gradients)


def _call(i: int, other: Any, kwargs: Mapping[str, Any]) -> Call:
    """One of the other inputs: a tuple of inputs, or a pair of a tuple and a mapping."""
    if not isinstance(other, tuple):
        raise SpecError(
            f"others[{i}] is a {type(other).__name__}; write a tuple of inputs, or a pair "
            "(args, kwargs)"
        )
    is_pair = len(other) == 2 and isinstance(other[0], tuple) and isinstance(other[1], Mapping)
    return (other[0], dict(other[1])) if is_pair else (other, kwargs)


def _random_alone(spec: PermutationSpec, name: str, generator: torch.Generator) -> Permutation:
    """A random element that moves one group and nothing else.

    It is not the identity, unless the group has one element.
    """
    identity = Permutation.identity(spec)
    while True:
        index = Permutation.random(spec, generator).indices[name]
        if spec.groups[name] < 2 or not torch.equal(index, identity.indices[name]):
            return Permutation(spec, {**identity.indices, name: index})
