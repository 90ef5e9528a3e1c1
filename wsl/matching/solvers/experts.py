"""`ExpertView`: the experts of a layer, modules of their own in a network, seen as one tensor.

    experts.0.up.weight: h2 h1        ->        experts.up.weight: (expert h2) h1
    experts.1.up.weight: h3 h1

with the gates on the group of experts and hidden units in a family. There every matcher finds the
order of the experts and of their units together: S_h wr S_n of arXiv 2509.11348. That experts are
treated alike is taken from their names and annotations; prove it with the network where in doubt.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from wsl.params import Params
from wsl.symmetry import Axes, Group, PermutationSpec, Place, SpecError, UnitSymmetry


class ExpertLayer(NamedTuple):
    """The experts ``prefix.0 .. prefix.count-1`` of one layer.

    axes: for each tensor inside an expert the axis on which experts are laid one after the other;
    None for a new first axis. gates: tensors whose first axis has one entry for each expert.
    """

    prefix: str
    count: int
    axes: tuple[tuple[str, int | None], ...]
    gates: tuple[str, ...]

    def of(self, rest: str) -> list[str]:
        """The names of one tensor in all experts."""
        return [f"{self.prefix}.{i}.{rest}" for i in range(self.count)]


@dataclasses.dataclass(frozen=True)
class ExpertView:
    """``spec`` of weights in which the experts of each layer are one tensor, and the way there.

    >>> view = ExpertView.of(spec)                                                # doctest: +SKIP
    >>> found = match(view.spec, view.join(a), view.join(b))                      # doctest: +SKIP
    >>> aligned = view.split(found(view.join(b)))                                 # doctest: +SKIP
    """

    spec: PermutationSpec
    layers: tuple[ExpertLayer, ...]
    names: tuple[str, ...]

    @classmethod
    def of(cls, spec: PermutationSpec, last: str = "experts") -> ExpertView:
        """The view of all modules called ``last`` that number their experts.

        Raises `SpecError` if there are none, or if experts of one layer are not alike.
        """
        layers = tuple(_layers(spec, last))
        if not layers:
            raise SpecError(f"no tensor is called '{last}.0.NAME', so there are no experts to join")
        joined = spec
        for k, layer in enumerate(layers, 1):
            joined = _joined_spec(joined, layer, _free(joined, f"expert{k}"))
        return cls(joined, layers, tuple(spec.axes))

    def join(self, params: Mapping[str, Tensor], *, centre: bool = True) -> Params:
        """The weights in this view. With ``centre`` the mean is taken out of gates.

        Softmax does not see that mean; leave it where gates are not followed by one.
        """
        joined = dict(params)
        for layer in self.layers:
            for rest, axis in layer.axes:
                parts = [joined.pop(name) for name in layer.of(rest)]
                whole = torch.stack(parts) if axis is None else torch.cat(parts, axis)
                joined[f"{layer.prefix}.{rest}"] = whole
            for name in layer.gates if centre else ():
                joined[name] = joined[name] - joined[name].mean(0)
        return {name: joined[name] for name in self.spec.axes}

    def split(self, params: Mapping[str, Tensor]) -> Params:
        """The weights as the network names them."""
        split = dict(params)
        for layer in self.layers:
            for rest, axis in layer.axes:
                whole = split.pop(f"{layer.prefix}.{rest}")
                parts = whole.unbind(0) if axis is None else whole.chunk(layer.count, axis)
                split |= zip(layer.of(rest), parts, strict=True)
        return {name: split[name] for name in self.names}


def _layers(spec: PermutationSpec, last: str) -> Iterator[ExpertLayer]:
    for prefix, experts in _by_expert(spec, last).items():
        if sorted(experts) != list(range(len(experts))):
            raise SpecError(f"{prefix}: experts are numbered {sorted(experts)}, not from 0 on")
        _check_alike(spec, prefix, experts)
        private = _private(spec, prefix, experts)
        axes = tuple((rest, _axis(spec, f"{prefix}.0.{rest}", private)) for rest in experts[0])
        gates = _gates(spec, prefix, prefix.removesuffix(last), count=len(experts))
        yield ExpertLayer(prefix, len(experts), axes, gates)


def _by_expert(spec: PermutationSpec, last: str) -> dict[str, dict[int, list[str]]]:
    """By the prefix of a layer and the number of an expert, what its tensors are called in it."""
    found: dict[str, dict[int, list[str]]] = {}
    for name in spec.axes:
        if parts := re.fullmatch(rf"((?:.*\.)?{re.escape(last)})\.(\d+)\.(.+)", name):
            found.setdefault(parts[1], {}).setdefault(int(parts[2]), []).append(parts[3])
    return found


def _gates(spec: PermutationSpec, prefix: str, parent: str, *, count: int) -> tuple[str, ...]:
    """Tensors beside the experts whose first axis is fixed and has an entry for each of them."""
    return tuple(
        name
        for name, axes in spec.annotations
        if name.startswith(parent)
        and not name.startswith(f"{prefix}.")
        and axes
        and axes[0] == ((count,),)
    )


def _check_alike(spec: PermutationSpec, prefix: str, experts: Mapping[int, list[str]]) -> None:
    """Annotations must agree but for the names of groups that one expert has alone."""
    private = _private(spec, prefix, experts)

    def shape(i: int) -> list[tuple[str, object]]:
        return [(rest, _own_names(spec, f"{prefix}.{i}.{rest}", private)) for rest in experts[i]]

    for i in experts:
        if shape(i) != shape(0):
            raise SpecError(
                f"{prefix}.{i}: its tensors are not annotated like those of {prefix}.0, so the "
                "experts are not alike"
            )


def _own_names(spec: PermutationSpec, tensor: str, private: set[str]) -> str:
    """The annotation of a tensor, in which a group of one expert goes by its size alone."""
    axes = spec.axes[tensor]
    return str(
        [
            [[f"own {spec.groups[str(x)]}" if x in private else x for x in s] for s in a]
            for a in axes
        ]
    )


def _private(spec: PermutationSpec, prefix: str, experts: Mapping[int, list[str]]) -> set[str]:
    """Groups that act inside one expert and nowhere else."""
    private = set()
    for name in spec.groups:
        places = {place.tensor for place in spec.occurrences(name)}
        if any(all(tensor.startswith(f"{prefix}.{i}.") for tensor in places) for i in experts):
            private.add(name)
    return private


def _axis(spec: PermutationSpec, tensor: str, private: set[str]) -> int | None:
    """The only axis on which a private group acts alone; None if there is no such axis."""
    axes = spec.axes[tensor]
    found = [i for i, axis in enumerate(axes) if any(a in private for term in axis for a in term)]
    whole = [i for i in found if len(axes[i]) == len(axes[i][0]) == 1]
    if len(found) > 1 or whole != found:
        raise SpecError(
            f"{tensor}: units of the expert stand on axes {found}, or in products; only experts "
            "with one plain axis of them in each tensor can be joined"
        )
    return found[0] if found else None


def _free(spec: PermutationSpec, name: str) -> str:
    return name if name not in spec.groups else _free(spec, f"{name}_")


def _joined_spec(spec: PermutationSpec, layer: ExpertLayer, group: str) -> PermutationSpec:
    """The specification with the experts of one layer as a new group, their units as families."""
    axes = _joined_annotations(spec, layer, group)
    used = {a for annotation in axes.values() for axis in annotation for t in axis for a in t}
    places = [(f"{layer.prefix}.{rest}", axis) for rest, axis in layer.axes]
    own = {axes[name][axis][0][-1] for name, axis in places if axis is not None}
    kept = [_inside(g, group) if g.name in own else g for g in spec.declared if g.name in used]
    units = [unit for old in spec.units if (unit := _joined_unit(old, layer, own))]
    return PermutationSpec(
        (Group(group, layer.count), *kept), tuple(axes.items()), spec.pinned, tuple(units)
    )


def _inside(group: Group, parent: str) -> Group:
    return group._replace(per=parent)


def _joined_annotations(spec: PermutationSpec, layer: ExpertLayer, group: str) -> dict[str, Axes]:
    """All annotations of the view; the tensors of expert 0 stand for those of all."""
    number = {name: k for rest, _ in layer.axes for k, name in enumerate(layer.of(rest))}
    axes: dict[str, Axes] = {}
    for name, annotation in spec.annotations:
        if name in layer.gates:
            axes[name] = (((group,),), *annotation[1:])
        elif name not in number:
            axes[name] = annotation
        elif number[name] == 0:
            rest = name.removeprefix(f"{layer.prefix}.0.")
            axes[f"{layer.prefix}.{rest}"] = _joined_axes(annotation, dict(layer.axes)[rest], group)
    return axes


def _joined_axes(annotation: Axes, axis: int | None, group: str) -> Axes:
    if axis is None:
        return (((group,),), *annotation)
    unit = annotation[axis][0][0]
    return (*annotation[:axis], ((group, unit),), *annotation[axis + 1 :])


def _joined_unit(
    unit: UnitSymmetry, layer: ExpertLayer, own: set[int | str]
) -> UnitSymmetry | None:
    """A symmetry in the view; those of units inside experts are left out."""
    names = {name: rest for rest, _ in layer.axes for name in layer.of(rest)}
    inside = {place.tensor for place in unit.places} <= names.keys()
    if inside or unit.group in own:
        return None
    moved = [_joined_place(place, layer, names.get(place.tensor)) for place in unit.places]
    places = {place[:4]: place for place in moved}
    return dataclasses.replace(unit, places=tuple(places.values()))


def _joined_place(place: Place, layer: ExpertLayer, rest: str | None) -> Place:
    """Where a place of a tensor ``rest`` of the experts lies in the view; None is no expert's."""
    if rest is None:
        return place
    axis = place.axis + (dict(layer.axes)[rest] is None)
    return place._replace(tensor=f"{layer.prefix}.{rest}", axis=axis)
