"""`Permutation`: an element g of a specification's group, and its action on weights.

    (g.theta)[..., i, ...]      = theta[..., pi(i), ...]
    (g.theta)[..., (a, j), ...] = theta[..., (pi(a), sigma_a(j)), ...]

on every axis that a group pi permutes, with or without a family sigma_a per index a of pi. Hence
``(g @ h)(theta) == g(h(theta))`` bit for bit, with index tensors composed by gathering:
``(g @ h).pi = h.pi[g.pi]``. Only permutations live here; indexing moves values and never rounds
them.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from wsl.params import Params
from wsl.symmetry.elements.action import IndexMaps
from wsl.symmetry.spec import Axis, Group, PermutationSpec, SpecError


@dataclasses.dataclass(frozen=True, eq=False)
class Permutation:
    """A group element: ``indices[name]`` is a permutation of ``arange(size)``, as int64.

    Its shape is (size,), or (size of per, size) for a family.
    """

    spec: PermutationSpec
    indices: Mapping[str, Tensor]

    def __post_init__(self) -> None:
        if set(self.indices) != set(self.spec.groups):
            raise SpecError(
                f"groups {sorted(self.indices)} given, but the specification has "
                f"{sorted(self.spec.groups)}"
            )
        for group in self.spec.declared:
            _check_index(self.spec, group, self.indices[group.name])

    @classmethod
    def identity(cls, spec: PermutationSpec) -> Permutation:
        """The element that moves nothing."""
        return cls._build(spec, torch.arange)

    @classmethod
    def random(cls, spec: PermutationSpec, generator: torch.Generator | None = None) -> Permutation:
        """A uniformly random element."""
        return cls._build(spec, lambda n: torch.randperm(n, generator=generator))

    @classmethod
    def _build(cls, spec: PermutationSpec, draw: Callable[[int], Tensor]) -> Permutation:
        def index(group: Group) -> Tensor:
            if group.per is None:
                return draw(group.size)
            return torch.stack([draw(group.size) for _ in range(spec.groups[group.per])])

        return cls(spec, {group.name: index(group) for group in spec.declared})

    def __call__(self, params: Mapping[str, Tensor]) -> Params:
        """Act on weights; leading axes of the tensors are batch.

        Raises `SpecError` if they do not fit the specification.
        """
        return self._maps.gather(params, len(self.spec.validate(params)))

    def __matmul__(self, other: Permutation) -> Permutation:
        """The product: ``(g @ h)(theta) == g(h(theta))``."""
        if self.spec != other.spec:
            raise SpecError("permutations of two different specifications cannot be multiplied")

        def compose(group: Group) -> Tensor:
            mine, theirs = self.indices[group.name], other.indices[group.name]
            return (
                theirs[mine]
                if group.per is None
                else theirs[self.indices[group.per]].gather(1, mine)
            )

        return Permutation(self.spec, {group.name: compose(group) for group in self.spec.declared})

    def __invert__(self) -> Permutation:
        """The inverse: ``(~g @ g)`` is the identity."""

        def invert(group: Group) -> Tensor:
            inverse = self.indices[group.name].argsort(-1)
            return inverse if group.per is None else inverse[self.indices[group.per].argsort()]

        return Permutation(self.spec, {group.name: invert(group) for group in self.spec.declared})

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Permutation) or self.spec != other.spec:
            return NotImplemented if not isinstance(other, Permutation) else False
        return all(torch.equal(index, other.indices[name]) for name, index in self.indices.items())

    __hash__ = None  # type: ignore[assignment]

    def axis_index(self, axis: Axis, device: torch.device | None = None) -> Tensor | None:
        """Index tensor (size of the axis,) that gathers ``axis``; None where the axis is fixed.

        It is kept for later calls: do not write to it.
        """
        return self._maps.of(axis, device)

    @functools.cached_property
    def _maps(self) -> IndexMaps:
        return IndexMaps(self.spec, self.indices)

    def save(self, path: str | Path) -> None:
        """Write the element and its specification as JSON text."""
        content = {
            "format": "wsl.Permutation",
            "version": 1,
            "spec": str(self.spec),
            "indices": {name: index.tolist() for name, index in self.indices.items()},
        }
        Path(path).write_text(json.dumps(content))

    @classmethod
    def load(cls, path: str | Path) -> Permutation:
        """Read what `save` wrote; raises `SpecError` if the file is something else or damaged."""
        try:
            content = json.loads(Path(path).read_text())
            if content["format"] != "wsl.Permutation" or content["version"] != 1:
                raise SpecError(
                    f"{path}: format {content['format']!r} version {content['version']!r} is not "
                    "readable here"
                )
            indices = {
                name: torch.tensor(index, dtype=torch.long)
                for name, index in content["indices"].items()
            }
            return cls(PermutationSpec.parse(content["spec"]), indices)
        except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
            raise SpecError(f"{path}: not a saved permutation ({error})") from None


def _check_index(spec: PermutationSpec, group: Group, index: Tensor) -> None:
    shape = (group.size,) if group.per is None else (spec.groups[group.per], group.size)
    if index.dtype != torch.long or tuple(index.shape) != shape:
        raise SpecError(
            f"group '{group.name}' needs int64 indices of shape {shape}, got {index.dtype} "
            f"{tuple(index.shape)}"
        )
    if not torch.equal(
        index.sort(-1).values, torch.arange(group.size, device=index.device).expand(shape)
    ):
        raise SpecError(
            f"group '{group.name}': the indices are not a permutation of 0..{group.size - 1}"
        )
