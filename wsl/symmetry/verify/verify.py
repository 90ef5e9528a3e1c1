"""`verify`: does a specification's group preserve the function of a network? A numerical proof, in
float64.

    error(g) = || f_{g.theta}(x) - f_theta(x) || / || f_theta(x) ||

for theta drawn at random, buffers included: at their defaults (batch norm 0 and 1, layer norm 1,
biases 0) many wrong specifications pass; and scaled so that every layer's output is of unit size,
since late biases are lost in large ones. A true symmetry gives rounding error, about 1e-15; a wrong
one an error of order one. In training mode the running statistics that f_{g.theta} leaves must be g
of those of f_theta; for gradients, grad f(g.theta) = g(grad f(theta)).

It tells whether each permutation in the specification is a symmetry. Whether the specification
holds all there are is not decided; the negative controls (``controls``, ``unions``, ``pinned``)
look for what it might lack.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from wsl.symmetry.elements import Permutation
from wsl.symmetry.spec import PermutationSpec, SpecError
from wsl.symmetry.verify.calls import Example, Run
from wsl.symmetry.verify.controls import loose, strict
from wsl.symmetry.verify.evidence import Verification
from wsl.symmetry.verify.function import Function
from wsl.symmetry.verify.moves import Moves, moves_of
from wsl.symmetry.verify.unions import apart


def verify(
    spec: PermutationSpec,
    model: nn.Module,
    *inputs: Any,
    kwargs: Mapping[str, Any] | None = None,
    others: Sequence[tuple[Any, ...]] = (),
    seed: int = 0,
    tolerance: float = 1e-9,
    groups: bool = True,
    training: bool = False,
    gradients: bool = False,
    controls: bool = False,
    unions: bool = False,
    pinned: bool = False,
    materialize: bool = False,
) -> Verification:
    """Measure whether ``spec`` preserves the function of ``model``, called as ``model(*inputs,
    **kwargs)``.

    A float64 copy in evaluation mode gets random weights and buffers; integer buffers are kept. The
    network is computed in float64 even where it asks for less. The caller's model and random state
    stay untouched.

    Parameters
        others: more inputs, of other batch sizes, lengths or resolutions: each a tuple of
        positional inputs, which goes with
            the same ``kwargs``, or a pair ``(args, kwargs)``.
        groups: measure each group alone. Without it, that is done only where all together do not
        preserve the function.
        training: measure also in training mode: outputs, and the buffers that the pass updates.
        Dropout modules stay off.
        gradients: measure also that gradients of a random weighting of the output move as the
        weights do.
        controls: untie every occurrence of every group: this must break the function. One more
        forward pass each, or two.
        unions: look for groups that fall into parts which need not move together. A few passes for
        each occurrence.
        pinned: exchange entries of every fixed axis: this must break the function. Three passes for
        each fixed axis.
        materialize: give weights to a model on the meta device.

    Raises `SpecError` if the specification does not fit the model, if weights are on the meta
    device, if the output is zero or not finite for random weights, or if random numbers are drawn
    in training that do not move with the units.
    """
    generator = torch.Generator().manual_seed(seed)
    f = Function(model, seed=seed, materialize=materialize)
    spec.validate(f.state)
    first, *rest = _examples(
        (inputs, dict(kwargs or {})), others, training=training, gradients=gradients
    )
    f.randomize(generator, first)
    alone = {name: _alone(spec, name, generator) for name in spec.groups}
    whole = moves_of(Permutation.random(spec, generator))
    errors, single = {}, {}
    for example in (first, *rest):
        reference = f.reference(example)
        measure = partial(_error, f, example, reference=reference, tolerance=tolerance)
        errors[example] = measure(whole)
        if (groups and example is first) or not errors[example] <= tolerance:
            for name, g in alone.items():
                single[name] = max(single.get(name, 0.0), measure(moves_of(g)))
    count, untied = loose(f, spec, first, alone, generator) if controls else (0, ())
    parts = apart(f, spec, first, generator) if unions else {}
    tried, without_effect, unreached = strict(f, spec, first, generator) if pinned else ([], [], [])
    return Verification(
        whole=errors[first],
        groups=MappingProxyType(single),
        tolerance=tolerance,
        conditions=MappingProxyType(
            {f"{i}: {example}": errors[example] for i, example in enumerate(rest, 1)}
        ),
        controls=count,
        loose=untied,
        apart=MappingProxyType(parts),
        pins=len(tried),
        strict=tuple(without_effect),
        unreached=tuple(unreached),
    )


def _examples(
    first: tuple[tuple[Any, ...], dict[str, Any]],
    others: Sequence[tuple[Any, ...]],
    *,
    training: bool,
    gradients: bool,
) -> Iterator[Example]:
    """The given inputs, the other inputs; gradients on the given ones; all of them in training."""
    calls = [first]
    for i, other in enumerate(others):
        if not isinstance(other, tuple):
            raise SpecError(
                f"others[{i}] is a {type(other).__name__}; write a tuple of inputs, or a pair "
                "(args, kwargs)"
            )
        pair = len(other) == 2 and isinstance(other[0], tuple) and isinstance(other[1], Mapping)
        calls.append((other[0], dict(other[1])) if pair else (other, first[1]))
    if any(isinstance(leaf, Tensor) and leaf.is_meta for leaf in tree_leaves(calls)):
        raise SpecError("verify: an input is on the meta device; give inputs that have values")
    yield from (Example(*call) for call in calls)
    if gradients:
        yield Example(*first, gradients=True)
    if training:
        yield from (
            Example(*call, training=True, gradients=gradients and call is first) for call in calls
        )


def _error(
    f: Function, example: Example, moves: Moves, *, reference: Run, tolerance: float
) -> float:
    error = f.error(example, moves, reference)
    if example.training and reference.random and not error <= tolerance:
        raise SpecError(
            f"verify: the model draws random numbers in training ({reference.random}), which stay "
            "in place while units move, "
            "so nothing can be told; set the dropout probabilities inside its layers to 0, or "
            "leave training out"
        )
    return error


def _alone(spec: PermutationSpec, name: str, generator: torch.Generator) -> Permutation:
    """A random element that moves one group and nothing else; not the identity, unless the group
    has one element.
    """
    identity = Permutation.identity(spec)
    while True:
        index = Permutation.random(spec, generator).indices[name]
        if spec.groups[name] < 2 or not torch.equal(index, identity.indices[name]):
            return Permutation(spec, {**identity.indices, name: index})
