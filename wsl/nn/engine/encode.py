"""Fixed axes treated as permutable, with learned positions instead of weights of their own.

    x[..., i, ...] + E[i],      E: (size of the fixed axis, channels)

E is shared by all tensors on which the axis is the same.

Zhou et al. (2023), Permutation Equivariant Neural Functionals, arXiv 2302.14040 (the NP variant and
its IO encoding). The group grows, hence the space of equivariant maps shrinks: what is equivariant
to it is equivariant to the specification.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from functools import lru_cache

import torch
from torch import Tensor, nn

from wsl.nn.engine.layout import BlockLayout
from wsl.params import Params
from wsl.symmetry import Atom, Axes, Group, PermutationSpec


@lru_cache(maxsize=256)
def encoded(spec: PermutationSpec) -> PermutationSpec:
    """The specification with every fixed axis (or factor) longer than one made a group of its own.

    Fixed factors of the first axis of all tensors of one module (the name up to its last dot) that
    have the same size and the same place share a group: the outputs of a layer's weight and bias,
    the gates of a recurrent cell. All others are separate: equal sizes alone never imply equality.
    """
    groups: dict[str, Group] = {}
    renamed = tuple((name, _rename(name, axes, groups)) for name, axes in spec.annotations)
    return dataclasses.replace(
        spec, declared=(*spec.declared, *groups.values()), annotations=renamed
    )


def _rename(tensor: str, axes: Axes, groups: dict[str, Group]) -> Axes:
    """The axes of a tensor with a group, added to ``groups``, in place of each fixed factor."""
    # Only first axes are shared within a module: they are its outputs.
    owners = [tensor.rpartition(".")[0] if axis == 0 else tensor for axis in range(len(axes))]
    return tuple(
        tuple(
            tuple(_renamed(atom, f"{owner}.{i}.{c}.{k}", groups) for k, atom in enumerate(segment))
            for c, segment in enumerate(axis)
        )
        for i, (owner, axis) in enumerate(zip(owners, axes, strict=True))
    )


def _renamed(atom: Atom, key: str, groups: dict[str, Group]) -> Atom:
    if isinstance(atom, str) or atom == 1:
        return atom
    name = f"fixed.{key}.{atom}"
    groups[name] = Group(name, atom)
    return name


class FixedAxes(nn.Module):
    """Adds a learned table (size, channels) for each fixed axis of `encoded`.

    Tensors are (batch, *axes, channels).
    """

    equivariance = "equivariant"

    def __init__(self, spec: PermutationSpec, channels: int):
        super().__init__()
        self.layout = BlockLayout(encoded(spec))
        self.names = [g.name for g in self.layout.spec.declared if g.name not in spec.groups]
        self.tables = nn.ParameterList(
            0.1 * torch.randn(self.layout.spec.groups[name], channels) for name in self.names
        )

    def forward(self, params: Mapping[str, Tensor]) -> Params:
        """Add the tables of every axis that has one."""
        return self.layout.join(self.add(self.layout.split(params)))

    def add(self, pieces: Sequence[Tensor]) -> list[Tensor]:
        """The same on blocks (*axes, batch, channels) of the encoded specification."""
        return [
            x + table if (table := self._table(i)) is not None else x for i, x in enumerate(pieces)
        ]

    def _table(self, block: int) -> Tensor | None:
        """The sum of a block's tables, broadcast to each other but not to its other axes."""
        space, total = self.layout.blocks[block].space, None
        for dim, axis in enumerate(space):
            if axis.group in self.names:
                ones = [1] * (len(space) - dim - 1)
                table = self.tables[self.names.index(axis.group)].view(axis.size, *ones, 1, -1)
                total = table if total is None else total + table
        return total
