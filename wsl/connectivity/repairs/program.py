"""A network as a list of operations that can be run one at a time.

Read by `torch.export` on a first batch, in evaluation mode and without decomposition, so that a
convolution is one operation and its weight a tensor of the state dict by name. Shapes are those of
that batch. A network that `torch.export` cannot read is refused.
"""

from __future__ import annotations

import dataclasses
import functools
import operator
import warnings
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn

from wsl.symmetry import copied

_SAME = ("dropout", "feature_dropout", "alias", "detach", "clone", "contiguous", "identity")


@dataclasses.dataclass(frozen=True, eq=False)
class LayerProgram:
    """The operations of a network in their order.

    weights: the name in the state dict of every placeholder that holds a weight or a buffer.
    inputs: the placeholders of the network's inputs.
    constants: tensors that the network keeps beside its state, by placeholder.
    twins: all names of a weight that has several, by the one used here.
    """

    module: fx.GraphModule
    weights: Mapping[fx.Node, str]
    inputs: tuple[fx.Node, ...]
    constants: Mapping[fx.Node, Any]
    twins: Mapping[str, tuple[str, ...]]

    @property
    def operations(self) -> list[fx.Node]:
        """What is computed, without placeholders and the output."""
        return [n for n in self.module.graph.nodes if n.op not in ("placeholder", "output")]

    @functools.cached_property
    def last_use(self) -> dict[fx.Node, fx.Node]:
        """The operation after which a value is not needed any more."""
        return {source: node for node in self.operations for source in node.all_input_nodes}

    def attribute(self, node: fx.Node) -> Any:
        """What a node of the kind get_attr stands for."""
        return operator.attrgetter(str(node.target))(self.module)


def program_of(model: nn.Module, batch: Tensor) -> LayerProgram:
    """The operations of ``model(batch)``; raises ValueError if they cannot be read."""
    network = copied(model).eval()
    exported = _exported(network, batch)
    nodes = [node for node in exported.graph.nodes if node.op == "placeholder"]
    weights, constants, inputs = {}, {}, []
    own = network.state_dict()
    for node, spec in zip(nodes, exported.graph_signature.input_specs, strict=True):
        if spec.target in own:
            weights[node] = str(spec.target)
        elif spec.target in exported.constants:
            constants[node] = exported.constants[spec.target]
        else:
            inputs.append(node)
    return LayerProgram(exported.graph_module, weights, tuple(inputs), constants, _twins(network))


def _exported(network: nn.Module, batch: Tensor) -> torch.export.ExportedProgram:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about how its code is written, of no use here
            return torch.export.export(network, (batch,), strict=False)
    except Exception as error:  # what export raises is not one family
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(
            f"{type(network).__name__}: torch.export cannot read it on inputs of shape "
            f"{tuple(batch.shape)} ({reason}), so its layers cannot be repaired one by one"
        ) from error


def _twins(model: nn.Module) -> dict[str, tuple[str, ...]]:
    names: dict[int, list[str]] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        names.setdefault(id(tensor), []).append(name)
    return {name: tuple(group) for group in names.values() for name in group}


def operation(node: fx.Node) -> str:
    """The name of what a node does, such as ``conv2d``; in place or not makes no difference."""
    packet = getattr(node.target, "overloadpacket", None)
    return packet.__name__.rstrip("_") if packet is not None else str(node.target)


def bound(node: fx.Node) -> dict[str, Any]:
    """The arguments of an operation by the names of its schema; those left out are their
    defaults.
    """
    defaults = {a.name: a.default_value for a in _schema(node) if a.has_default_value()}
    return {**defaults, **named(node, node.args, node.kwargs)}


def named(node: fx.Node, args: Iterable[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments that an operation is called with, by the names of its schema."""
    names = [argument.name for argument in _schema(node)]
    return {**dict(zip(names, args, strict=False)), **kwargs}


def _schema(node: fx.Node) -> list[Any]:
    """What the operation of a node declares as its arguments."""
    return node.target._schema.arguments  # type: ignore[union-attr]


def source(node: fx.Node) -> fx.Node:
    """Where a value comes from, past what leaves it as it is in evaluation mode."""
    while node.op == "call_function" and operation(node) in _SAME:
        node = node.all_input_nodes[0]
    return node


def readers(node: fx.Node) -> Iterator[fx.Node]:
    """What reads a value, past what leaves it as it is in evaluation mode."""
    for user in node.users:
        if user.op == "call_function" and operation(user) in _SAME:
            yield from readers(user)
        else:
            yield user
