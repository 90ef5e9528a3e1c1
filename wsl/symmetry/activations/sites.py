"""The sites of a graph: its floating-point values that depend on the inputs, in order.

    y = op(x_1, .., theta_1, ..)        a site:  name of y, its axes, the names of x and of theta

A tensor that an operation returns in a list counts where it is taken out of the list. What depends
on weights alone is no activation, and what discovery cannot annotate is no site.
"""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor, fx
from torch._ops import HigherOrderOperator, OpOverload
from torch.export.graph_signature import InputSpec

from wsl.symmetry.discover import TRANSPARENT, Program, placeholders
from wsl.symmetry.spec import Axes, format_axes, groups_of


@dataclasses.dataclass(frozen=True)
class ActivationSite:
    """One value inside of a network.

    name: unique in the network, the same for inputs of any batch size.
    op: the operation that computes it, as ``conv2d``, ``relu`` or ``add``; in-place or not.
    module: the module in whose ``forward`` that is; empty for the network's own.
    axes: how the groups of the specification act on it. A number is a fixed axis of that size; the
    parent of a family may stand on another axis than the family.
    shape: of the value, for the inputs that were read.
    parameters: tensors of the state dict that the operation reads.
    sources: sites that the operation reads.
    """

    name: str
    op: str
    module: str
    axes: Axes
    shape: tuple[int, ...]
    parameters: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()

    @property
    def groups(self) -> tuple[str, ...]:
        """The groups that act on it."""
        return tuple(dict.fromkeys(groups_of(self.axes)))

    def __str__(self) -> str:
        return f"{self.name}: {format_axes(self.axes)}"


class _Origin(NamedTuple):
    """What a value was computed from, up to the nearest sites; ``inputs`` if from data at all."""

    inputs: bool
    parameters: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    op: str = ""


def sites_of(program: Program, axes: Mapping[fx.Node, Axes]) -> dict[fx.Node, ActivationSite]:
    """The sites by their node, in the order of computation."""
    constant = {*program.constants, *program.taken}
    given = [
        _given(None if node.name in constant or spec.target in constant else spec)
        for spec, node in placeholders(program)
    ]
    reading = _Reading(axes)
    reading.run(program.graph_module, given)
    return reading.found


def _given(spec: InputSpec | None) -> _Origin:
    """The origin of a placeholder; None is a constant."""
    if spec is None:
        return _Origin(False)
    return _Origin(True) if spec.target is None else _Origin(False, (spec.target,))


class _Reading:
    """One walk over a graph and those inside of it."""

    def __init__(self, axes: Mapping[fx.Node, Axes]) -> None:
        self.axes = axes
        self.found: dict[fx.Node, ActivationSite] = {}

    def run(
        self, module: fx.GraphModule, given: Sequence[_Origin], prefix: str = ""
    ) -> list[_Origin]:
        """Origins of the outputs."""
        origins: dict[fx.Node, _Origin | list[_Origin]] = {}
        arguments = iter(given)
        *nodes, output = module.graph.nodes
        for node in nodes:
            if node.op == "placeholder":
                origins[node] = next(arguments)
            elif node.op == "call_function":
                origins[node] = self._called(module, node, origins, prefix=prefix)
        returned: Any = output.args[0]
        return [_merged([origins.get(each, _Origin(False))]) for each in returned]

    def _called(
        self,
        module: fx.GraphModule,
        node: fx.Node,
        origins: Mapping[fx.Node, _Origin | list[_Origin]],
        *,
        prefix: str,
    ) -> _Origin | list[_Origin]:
        read = [origins[each] for each in node.all_input_nodes if each in origins]
        if node.target is operator.getitem and isinstance(read[0], list):
            return read[0][int(node.args[1])]  # type: ignore[arg-type]
        if is_transparent(node.target):
            inside = _inside(module, node)
            given = [_merged([origins.get(each, _Origin(False))]) for each in inside.arguments]
            return self.run(inside.module, given, f"{prefix}{node.name}.")
        origin = _merged(read)
        if node.target is not operator.getitem:
            origin = origin._replace(op=_op(node.target))
        if not origin.inputs or node not in self.axes or not _is_floating(node):
            return origin
        self.found[node] = self._site(node, f"{prefix}{node.name}", origin)
        return _Origin(True, (), (self.found[node].name,))

    def _site(self, node: fx.Node, name: str, origin: _Origin) -> ActivationSite:
        shape = tuple(node.meta["val"].shape)
        return ActivationSite(
            name,
            origin.op,
            _module_of(node),
            self.axes[node],
            shape,
            origin.parameters,
            origin.sources,
        )


class _Inside(NamedTuple):
    """A graph among the arguments of an operation, and what it is given."""

    module: fx.GraphModule
    arguments: list[Any]


def _inside(module: fx.GraphModule, node: fx.Node) -> _Inside:
    at, body = next(
        (i, each)
        for i, each in enumerate(node.args)
        if isinstance(each, fx.Node) and each.op == "get_attr"
    )
    graph = operator.attrgetter(str(body.target))(module)
    return _Inside(graph, [*node.args[at + 1 :]])


def is_transparent(target: Any) -> bool:
    """Whether an operation runs a graph among its arguments on those behind it."""
    return isinstance(target, HigherOrderOperator) and target.name() in TRANSPARENT


def _merged(read: Iterable[_Origin | list[_Origin]]) -> _Origin:
    """The origin of what is computed from all of these; an operation that returned a list keeps
    its name for what is taken out of it.
    """
    every = [*_flat(read)]
    return _Origin(
        any(each.inputs for each in every),
        tuple(dict.fromkeys(name for each in every for name in each.parameters)),
        tuple(dict.fromkeys(name for each in every for name in each.sources)),
        every[0].op if every else "",
    )


def _flat(read: Iterable[_Origin | list[_Origin]]) -> Iterator[_Origin]:
    for each in read:
        yield from each if isinstance(each, list) else [each]


def _op(target: Any) -> str:
    """The name of an operation, that of its functional form where it works in place."""
    if not isinstance(target, OpOverload):
        return str(getattr(target, "__name__", target))
    name = target.overloadpacket.__name__
    in_place = target._schema.is_mutable and name.endswith("_") and not name.endswith("__")
    return name.removesuffix("_") if in_place else name


def _is_floating(node: fx.Node) -> bool:
    value = node.meta.get("val")
    return isinstance(value, Tensor) and (value.is_floating_point() or value.is_complex())


def _module_of(node: fx.Node) -> str:
    stack = node.meta.get("nn_module_stack") or {}
    return str([*stack.values()][-1][0]) if stack else ""
