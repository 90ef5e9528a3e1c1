"""`MergekitMerge`: a configuration as a merge method, tensor by tensor with the values of each."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from wsl.base import did_you_mean
from wsl.matching import large
from wsl.merging.mergekit.config import MergekitConfig, Slice, Source
from wsl.merging.mergekit.methods import BUILDERS
from wsl.merging.mergekit.resolve import depths, layer_of, renumbered, value
from wsl.merging.methods import MergeMethod
from wsl.merging.pieces import Members, Statistics
from wsl.merging.streamed import Step, alike
from wsl.params import Params

_FROM_BASE = ("slerp", "nuslerp")
"""Methods of which the base is a member, in the first place if it is one of the models."""


@dataclasses.dataclass(frozen=True)
class MergekitMerge:
    """Members are the models of ``config`` in the order of ``config.models``, without the base.

    Limitations: layers are told by names such as ``layers.3.``; tokenizers are not merged.
    Raises ValueError for a method that is not known.
    """

    needs: ClassVar[frozenset[str]] = frozenset()
    ordered: ClassVar[bool] = True

    config: MergekitConfig

    def __post_init__(self) -> None:
        if self.config.method not in BUILDERS:
            raise ValueError(
                f"merge_method '{self.config.method}' does not exist here"
                f"{did_you_mean(self.config.method, BUILDERS)}; there are {', '.join(BUILDERS)}"
            )

    def solve(
        self,
        members: Members,
        *,
        base: Mapping[str, Tensor] | None = None,
        statistics: Statistics | None = None,  # noqa: ARG002 - one signature for all methods
    ) -> Params:
        """The merged network; raises ValueError for another number of members, or no base."""
        return {step.name: step.solve(step.read()) for step in self.steps(members, base=base)}

    def steps(
        self, members: Sequence[large.Source], *, base: large.Source | None = None
    ) -> list[Step]:
        """What makes each tensor of the result, from tensors that are not read yet.

        Raises ValueError as `solve`, and for a tensor that a model lacks or has in another shape.
        """
        if len(members) != len(self.config.models):
            raise ValueError(
                f"the configuration names {len(self.config.models)} models besides its base, got "
                f"{len(members)} members"
            )
        if self.config.base is not None and base is None:
            raise ValueError(f"the configuration names the base {self.config.base}; give it")
        known = dict(zip(self.config.models, members, strict=True))
        if base is not None and self.config.base is not None:
            known[self.config.base] = base
        found: dict[str, Step] = {}
        for part in self._parts(known):
            found |= {step.name: step for step in part.steps(self.config, base)}
        kind = None if self.config.dtype is None else getattr(torch, self.config.dtype, None)
        return [
            dataclasses.replace(step, dtype=kind) if kind and step.kind.is_floating_point else step
            for step in found.values()
        ]

    def _parts(self, known: Mapping[str, large.Source]) -> list[_Part]:
        """One for each slice, with the tensors that it gives under their names in the result."""
        parts, first = [], 0
        for i, told in enumerate(self.config.slices):
            alone = len(self.config.slices) == 1 and told.sources[0].layers is None
            ends = (i == 0, i == len(self.config.slices) - 1)
            cut = [
                known[s.model] if alone else _cut(known[s.model], s, first, ends=ends)
                for s in told.sources
            ]
            parts.append(_Part(told, cut))
            first += _length(told.sources[0])
        return parts


def _length(source: Source) -> int:
    return 0 if source.layers is None else source.layers[1] - source.layers[0]


def _cut(
    theta: large.Source, source: Source, first: int, *, ends: tuple[bool, bool]
) -> dict[str, large.TensorSlices]:
    """Layers of a source, numbered from ``first``, and what stands outside at the ends."""
    if source.layers is None:
        raise ValueError(f"{source.model}: a source of one of several slices needs a layer_range")
    start, end = source.layers
    depth = depths(list(theta))
    found = {}
    for name, tensor in theta.items():
        layer = layer_of(name)
        if layer is not None and start <= layer < end:
            found[renumbered(name, layer - start + first)] = tensor
        elif layer is None and ends[int(depth[name])]:
            found[name] = tensor
    return found


@dataclasses.dataclass(frozen=True, eq=False)
class _Part:
    """A slice with the tensors of its sources."""

    told: Slice
    members: list[Mapping[str, large.TensorSlices]]

    def steps(self, config: MergekitConfig, base: large.Source | None) -> Iterator[Step]:
        depth = depths(list(self.members[0]))
        for name in self.members[0]:
            method, chosen = self._method(config, name, depth[name])
            own = [(source.model, member, name) for source, member in chosen]
            if base is not None and config.method not in _FROM_BASE and name in base:
                own.append((str(config.base), base, name))
            found = alike(own)
            start = found[-1] if len(own) > len(chosen) else None
            yield Step(name, method, found[: len(chosen)], start)

    def _merged_by(
        self, config: MergekitConfig
    ) -> list[tuple[Source, Mapping[str, large.TensorSlices]]]:
        """The sources that the method merges, with their tensors: the base first, or without it."""
        pairs = list(zip(self.told.sources, self.members, strict=True))
        if config.method in _FROM_BASE:
            return sorted(pairs, key=lambda pair: pair[0].model != config.base)
        return [pair for pair in pairs if pair[0].model != config.base] or pairs

    def _method(
        self, config: MergekitConfig, name: str, depth: float
    ) -> tuple[MergeMethod, list[tuple[Source, Mapping[str, large.TensorSlices]]]]:
        """The method of one tensor, and the members that it merges, in order."""
        pairs = self._merged_by(config)
        levels = [self.told.parameters, config.parameters]
        each = [_resolved([s.parameters, *levels], name, depth) for s, _ in pairs]
        return BUILDERS[config.method](each, _resolved(levels, name, depth)), pairs


def _resolved(levels: list[Mapping[str, Any]], name: str, depth: float) -> dict[str, Any]:
    """Every parameter that some level gives for this tensor; the first level counts."""
    found: dict[str, Any] = {}
    for level in levels:
        for key, told in level.items():
            known = value(told, name, depth)
            if known is not None:
                found.setdefault(key, known)
    return found
