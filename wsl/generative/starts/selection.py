"""Weight selection: a smaller network's weights are evenly spaced ones of a larger network.

    index(s, t) = (0, t/s, 2 t/s, ...)                    where s divides t
                = round(0, (t-1)/(s-1), ..., t-1)         else
    W_small[i, j] = W_large[index(i), index(j)]

Xu et al. (2024), arXiv 2311.18823, section 3: evenly spaced units, the first N layers, which are
those of the same names. There an index is taken for every axis of every tensor; here one for every
permutation group of the specification, so that queries, keys and values that share a matrix are
never mixed, a head is taken whole or not at all, and what one layer writes the next one reads.
After a fan-in of t is cut to s the output of a layer has s / t of its variance, if its inputs are
uncorrelated; with ``rescale`` weights are multiplied by sqrt(t / s).

Learngene (Xia et al. 2024, stage-wise weight sharing, arXiv 2404.16897) keeps one layer for every
stage of an ancestor, and starts all layers of a stage from it:

    theta_l  <-  ancestor_{first layer of stage(l)},     stage(l) = floor(l S / L)

There the ancestor is trained with shared layers; here any trained network serves.

Guarantees: with sizes and depths that are equal, the weights of the larger network. Tensors whose
fixed axes differ, such as the last layer for other classes, keep the network's own initialisation.
Neither looks at what the larger network computes: what is left of its accuracy is not guaranteed.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from wsl.generative.problem import Larger, Start
from wsl.generative.starts.layers import layer_weights, own_weights
from wsl.matching import written_axes
from wsl.params import Params
from wsl.symmetry import Atom, Axis, PermutationSpec, SpecError, windows

_NUMBERED = re.compile(r"(^|.*?\.)(\d+)(\..*)$")
_Fit = list[list[tuple[Atom, int, int]]]
"""The atoms of each product of an axis, with their size in the small and the larger network."""
Source = Callable[[str], str]
"""The tensor of the larger network that a tensor is taken from."""


def selected_index(small: int, large: int) -> Tensor:
    """Which ``small`` of ``large`` units are taken, int64, ascending.

    Raises ValueError where there are not as many.
    """
    if not 0 < small <= large:
        raise ValueError(f"weight selection: {small} units cannot be taken from {large}")
    if large % small == 0:
        return torch.arange(small) * (large // small)
    return torch.linspace(0, large - 1, small, dtype=torch.float64).round().long()


@dataclasses.dataclass(frozen=True)
class WeightSelection:
    """Evenly spaced units of the larger network, in its first layers.

    All n networks get the same selected weights; they differ in the tensors that cannot be taken.
    """

    rescale: bool = False

    needs: ClassVar[frozenset[str]] = frozenset({"larger", "spec"})

    def draw(self, start: Start, n: int, *, generator: torch.Generator) -> Params:  # noqa: ARG002
        """Raises `SpecError` where groups of the two networks have no common sense of size."""
        return _selected(start, n, lambda name: name, rescale=self.rescale)


@dataclasses.dataclass(frozen=True)
class StageSharing:
    """Layers of one stage start from one layer of the larger network, its units selected.

    Layers are what is numbered: ``blocks.3.mlp.weight`` is of layer 3 of ``blocks``.
    """

    stages: int = 2
    rescale: bool = False

    needs: ClassVar[frozenset[str]] = frozenset({"larger", "spec"})

    def draw(self, start: Start, n: int, *, generator: torch.Generator) -> Params:  # noqa: ARG002
        """Raises ValueError where nothing is numbered."""
        larger, spec = _both(start)
        sources = _staged(spec.axes, larger.spec.axes, self.stages)
        return _selected(start, n, lambda name: sources.get(name, name), rescale=self.rescale)


def _both(start: Start) -> tuple[Larger, PermutationSpec]:
    if start.larger is None or start.spec is None:
        raise ValueError("ask an initialiser through starting_weights, which checks its needs")
    return start.larger, start.spec


def _selected(start: Start, n: int, source: Source, *, rescale: bool) -> Params:
    (larger, spec), drawn = _both(start), own_weights(start, n)
    larger.spec.validate(larger.params)
    sizes: dict[str, int] = {}
    taken = 0
    for name, tensor in drawn.items():
        index = _indices((spec, larger.spec), (name, source(name)), sizes)
        if index is not None:
            part = _cut(larger.params[source(name)], index)
            drawn[name] = part.to(tensor).expand(n, *part.shape).clone()
            taken += 1
    if not taken:
        raise SpecError("weight selection: the larger network has no tensor of the same kind")
    if rescale:
        _rescale(start.model, drawn, {name: larger.params.get(source(name)) for name in drawn})
    return drawn


def _cut(tensor: Tensor, index: list[Tensor]) -> Tensor:
    return tensor[torch.meshgrid(*index, indexing="ij")] if index else tensor


def _rescale(model: nn.Module, drawn: Params, sources: Mapping[str, Tensor | None]) -> None:
    """Multiply every matrix of a layer by sqrt(t / s) of its fan-in, in place."""
    written = written_axes(model)
    for name in layer_weights(model):
        large, small = sources[name], drawn[name].shape[1:]
        if large is not None and large.dim() == len(small):
            read = [i for i in range(len(small)) if i != written.get(name, 0)]
            drawn[name] *= math.prod(large.shape[i] / small[i] for i in read) ** 0.5


def _indices(
    specs: tuple[PermutationSpec, PermutationSpec],
    pair: tuple[str, str],
    sizes: dict[str, int],
) -> list[Tensor] | None:
    """The positions to take on every axis; None where the tensors are not of one kind.

    pair: the names of the tensor and of its source. sizes: of the larger group that each group has
    been taken from, in all tensors the same.
    """
    small, large = specs[0].axes[pair[0]], specs[1].axes.get(pair[1])
    if large is None or len(small) != len(large):
        return None
    found = [_fit(specs, a, b) for a, b in zip(small, large, strict=True)]
    fits = [fit for fit in found if fit is not None]
    if len(fits) < len(found):
        return None
    for group, _, t in itertools.chain(*itertools.chain(*fits)):
        if isinstance(group, str) and sizes.setdefault(group, t) != t:
            raise SpecError(
                f"{pair[0]}: group '{group}' would be taken from {t} units, but from "
                f"{sizes[group]} in another tensor; the two networks are not of one kind"
            )
    return [_positions(fit) for fit in fits]


def _fit(specs: tuple[PermutationSpec, PermutationSpec], small: Axis, large: Axis) -> _Fit | None:
    """The atoms of an axis with their sizes in both networks; None where they do not correspond,
    as a group and a fixed factor do not.
    """
    ours, theirs = windows(specs[0], small), windows(specs[1], large)
    kinds = [[[isinstance(a, str) for a in w.atoms] for w in each] for each in (ours, theirs)]
    if kinds[0] != kinds[1]:
        return None
    fit = [
        list(zip(a.atoms, a.sizes, b.sizes, strict=True)) for a, b in zip(ours, theirs, strict=True)
    ]
    fixed = ((s, t) for atom, s, t in itertools.chain(*fit) if isinstance(atom, int))
    return fit if all(s == t for s, t in fixed) else None


def _positions(fit: _Fit) -> Tensor:
    """Row-major positions of the chosen units, products and concatenations as they are."""
    parts, first = [], 0
    for row in fit:
        index = torch.zeros(1, dtype=torch.int64)
        for _, s, t in row:
            index = (index[:, None] * t + selected_index(s, t)).flatten()
        parts.append(first + index)
        first += math.prod(t for _, _, t in row)
    return torch.cat(parts)


def _staged(small: Iterable[str], large: Iterable[str], stages: int) -> dict[str, str]:
    """For every tensor of a numbered layer, the tensor of its stage's layer."""
    ours, theirs = _layers(small), _layers(large)
    found = {}
    for prefix, numbers in ours.items():
        others = theirs.get(prefix, [])
        count = min(stages, len(numbers), len(others))
        for i, number in enumerate(numbers if count else ()):
            stage = i * count // len(numbers)
            chosen = others[-(-stage * len(others) // count)]
            found |= {f"{prefix}{number}": f"{prefix}{chosen}"}
    if not found:
        raise ValueError("stage-wise sharing: no layers of the two networks are numbered alike")
    return {
        name: found[match[1] + match[2]] + match[3]
        for name in small
        if (match := _NUMBERED.match(name)) and match[1] + match[2] in found
    }


def _layers(names: Iterable[str]) -> dict[str, list[int]]:
    """The numbers of the layers of every list, by the prefix of their names."""
    found: dict[str, set[int]] = {}
    for match in filter(None, map(_NUMBERED.match, names)):
        found.setdefault(match[1], set()).add(int(match[2]))
    return {prefix: sorted(numbers) for prefix, numbers in found.items()}
