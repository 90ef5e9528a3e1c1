"""`verify`: does a specification's group preserve the function of a network? A numerical proof, in float64.

    error(g) = || f_{g.theta}(x) - f_theta(x) || / || f_theta(x) ||

for theta drawn at random, buffers included: at their defaults (batch norm 0 and 1, layer norm 1, biases 0) many wrong
specifications pass. A true symmetry gives rounding error, about 1e-15; a wrong one an error of order one. The negative control
unties one occurrence of a group at a time: it must break the function, or else that occurrence did not need the tie.

It tells whether each permutation in the specification is a symmetry, not whether the specification holds all there are.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map_only

from wsl.params import Params
from wsl.symmetry.double import Double, widened
from wsl.symmetry.grammar import SpecError
from wsl.symmetry.permutation import Permutation
from wsl.symmetry.spec import Occurrence, PermutationSpec
from wsl.symmetry.untie import untied

BROKEN = 1e-3
"""An untied occurrence must change the output by more than this, relatively."""


@dataclasses.dataclass(frozen=True)
class Verification:
    """Evidence about a specification: relative errors of a random element of the whole group, and of each group alone.

    ``loose`` lists occurrences whose untying did not change the function; it is empty unless controls were asked for.
    """

    whole: float
    groups: Mapping[str, float]
    tolerance: float
    loose: tuple[Occurrence, ...] = ()

    @property
    def broken(self) -> tuple[str, ...]:
        """Groups that do not preserve the function."""
        return tuple(name for name, error in self.groups.items() if not error <= self.tolerance)

    @property
    def ok(self) -> bool:
        """Whether every group, and all of them together, preserve the function."""
        return self.whole <= self.tolerance and not self.broken

    def __bool__(self) -> bool:
        return self.ok

    def __str__(self) -> str:
        head = f"{'preserves' if self.ok else 'DOES NOT preserve'} the function: relative error {self.whole:.1e}, float64"
        lines = [f"  {name}: {error:.1e}{'  BROKEN' * (name in self.broken)}" for name, error in self.groups.items()]
        loose = [f"  {o.tensor} axis {o.axis}: moves or stays without effect" for o in self.loose]
        return "\n".join([head, *lines, *loose])


def verify(
    spec: PermutationSpec,
    model: nn.Module,
    *inputs: Any,
    kwargs: Mapping[str, Any] | None = None,
    seed: int = 0,
    tolerance: float = 1e-9,
    groups: bool = True,
    controls: bool = False,
) -> Verification:
    """Measure whether ``spec`` preserves the function of ``model``, called as ``model(*inputs, **kwargs)``.

    A float64 copy in evaluation mode gets random weights and buffers; integer buffers are kept. Without ``groups``, single groups
    are measured only if all of them together do not preserve the function. ``controls`` adds the negative control of every
    occurrence, one more forward pass each. The caller's model and random state stay untouched.

    Raises `SpecError` if the specification does not fit the model, if weights are on the meta device, or if the output is zero
    or not finite for random weights, so that nothing can be told.
    """
    generator = torch.Generator().manual_seed(seed)
    f = _Function(model, (inputs, dict(kwargs or {})), seed)
    spec.validate(f.state)
    theta = f.randomize(generator)
    error = f.error_against(theta)
    alone = {name: _alone(spec, name, generator) for name in spec.groups}
    whole = error(Permutation.random(spec, generator)(theta))
    single = {name: error(g(theta)) for name, g in alone.items()} if groups or not whole <= tolerance else {}
    loose = _loose(spec, alone, f, generator) if controls else ()
    return Verification(whole, MappingProxyType(single), tolerance, loose)


class _Function:
    """A float64 copy of a model as a function of its weights."""

    def __init__(self, model: nn.Module, inputs: tuple[tuple[Any, ...], dict[str, Any]], seed: int) -> None:
        if meta := [name for name, t in model.state_dict().items() if t.is_meta]:
            raise SpecError(f"{meta[0]}: is on the meta device; verify needs weights, build the model on a real device")
        self.model = copy.deepcopy(model)._apply(widened).eval()
        self.inputs = tree_map_only(Tensor, widened, inputs)
        self.seed = seed
        self.state = {name: t for name, t in self.model.state_dict(keep_vars=True).items() if isinstance(t, Tensor)}

    @torch.no_grad()
    def randomize(self, generator: torch.Generator) -> Params:
        """Matrices of unit gain; vectors and buffers away from 0 and 1, positive where they were. Returns a copy of all."""
        for tensor in self.state.values():
            if not (tensor.is_floating_point() or tensor.is_complex()) or not tensor.numel():
                continue
            drawn = torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype)
            if isinstance(tensor, nn.Parameter) and tensor.dim() > 1:
                drawn *= (2 / tensor[0].numel()) ** 0.5
            elif not tensor.is_complex() and bool((tensor > 0).all()):
                drawn = 0.5 + drawn.abs()
            else:
                drawn *= 0.5
            tensor.copy_(drawn)
        return {name: tensor.detach().clone() for name, tensor in self.state.items()}

    @torch.no_grad()
    def __call__(self, theta: Params) -> Tensor:
        """Every tensor of the output, as one vector."""
        for name, tensor in self.state.items():
            tensor.copy_(theta[name])
        for name, tensor in self.state.items():
            if not torch.equal(tensor, theta[name]):
                raise SpecError(f"{name}: shares its memory with another tensor, but the specification moves them differently")
        devices = [t.device for t in self.state.values() if t.is_cuda]
        with torch.random.fork_rng(devices=sorted(set(devices), key=str)), _default_dtype(torch.float64):
            torch.manual_seed(self.seed)
            args, kwargs = tree_map_only(Tensor, torch.clone, self.inputs)
            with Double():
                outputs = self.model(*args, **kwargs)
        leaves = _tensors(outputs)
        if not leaves:
            raise SpecError(f"verify: the model returns {type(outputs).__name__} without any tensor")
        return torch.cat([_real(t) for t in leaves])

    def error_against(self, theta: Params) -> Any:
        """The relative error of other weights against these."""
        reference = self(theta)
        norm = float(reference.norm())
        if not 0 < norm < float("inf"):
            raise SpecError(f"verify: the output has norm {norm} for random weights, so nothing can be told; try another seed")
        return lambda moved: float((self(moved) - reference).norm()) / norm


@contextlib.contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Tensors that the model makes on its way are float64 too."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _real(tensor: Tensor) -> Tensor:
    """The entries as one float64 vector."""
    return (torch.view_as_real(tensor) if tensor.is_complex() else tensor).double().flatten()


def _tensors(outputs: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(outputs) if isinstance(leaf, Tensor)]


def _alone(spec: PermutationSpec, name: str, generator: torch.Generator) -> Permutation:
    """A random element that moves one group and nothing else; not the identity, unless the group has one element."""
    identity = Permutation.identity(spec)
    while True:
        index = Permutation.random(spec, generator).indices[name]
        if spec.groups[name] < 2 or not torch.equal(index, identity.indices[name]):
            return Permutation(spec, {**identity.indices, name: index})


def _loose(
    spec: PermutationSpec, alone: Mapping[str, Permutation], f: _Function, generator: torch.Generator
) -> tuple[Occurrence, ...]:
    """Occurrences that do not need their tie, at two draws of the weights: one draw may be blind, by a unit that is dead."""
    suspects = [o for name, size in spec.groups.items() if size > 1 for o in spec.occurrences(name)]
    for _ in range(2):
        theta = f.randomize(generator)
        error = f.error_against(theta)
        suspects = [o for o in suspects if error(untied(spec, alone, _sharing(f.state, o))(theta)) <= BROKEN]
    return tuple(suspects)


def _sharing(state: Mapping[str, Tensor], occurrence: Occurrence) -> frozenset[Occurrence]:
    """The same place in every tensor that shares the memory: one tensor cannot be untied from itself."""
    own = state[occurrence.tensor]
    return frozenset(occurrence._replace(tensor=name) for name, t in state.items()
                     if t.data_ptr() == own.data_ptr() and t.shape == own.shape)  # fmt: skip
