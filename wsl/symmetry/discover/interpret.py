"""Abstract interpretation of an exported graph: every node is a `Value`, every operation a rule.

An operation without a rule, or one whose rule does not describe its arguments, pins every axis of
every operand and of its outputs, and gives its name as the reason. In-place operations follow the
rule of their functional form; the result moves as the tensor that was overwritten. Shapes are
static: a shape that depends on data is refused.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import fx
from torch._ops import HigherOrderOperator, OpOverload
from torch.fx.node import map_arg

from wsl.symmetry.discover.axes import Axis, Operand, Value, atoms, fixed, is_value, pin, shape
from wsl.symmetry.discover.lazy import settle
from wsl.symmetry.discover.roles import attention_roles
from wsl.symmetry.discover.rules import LAZY, NAMED, RULES, OpContext, OpRules, required
from wsl.symmetry.discover.unify import DoesNotFit, unite
from wsl.symmetry.spec import SpecError

_WHERE = torch.ops.aten.where.self
TRANSPARENT = ("wrap_with_set_grad_enabled", "wrap_with_autocast")
"""Operations that run a graph among their arguments on those behind it."""


class Overwritten(Exception):
    """A constant was written into: it is not uniform for good, and the graph must be read again
    without that notion.
    """


class OpCall(NamedTuple):
    """A call of an operation whose axes rule was followed: enough to follow it again, with other
    axes in the place of these.
    """

    target: OpOverload
    arguments: Mapping[str, Any]
    context: OpContext
    outputs: Sequence[Value]
    floating: Sequence[bool]


class OpRecord(NamedTuple):
    """The operands of one operation, its results with what lies between, and how it was read; no
    ``call`` where it has no rule.
    """

    operands: list[Value]
    results: list[Value]
    call: OpCall | None = None


class Interpreter:
    """One reading of a graph; ``constant`` makes the axis of a tensor filled with one value.

    It keeps the ``records`` of all operations, the ``labels`` that rules gave to axes whose role
    they know, and the ``values`` of all nodes; None for a node that is read more than once.
    """

    def __init__(self, constant: Callable[[int], Axis]) -> None:
        self.constant = constant
        self.records: list[OpRecord] = []
        self.labels: list[tuple[Axis, str]] = []
        self.values: dict[fx.Node, Any] = {}

    def run(self, module: fx.GraphModule, inputs: Sequence[Any]) -> Any:
        """Values of the graph's outputs, in the structure of its output node."""
        values: dict[fx.Node, Any] = {}
        arguments = iter(inputs)
        *nodes, output = module.graph.nodes
        for node in nodes:
            args, kwargs = map_arg((node.args, node.kwargs), values.__getitem__)
            if node.op == "placeholder":
                values[node] = next(arguments)
            elif node.op == "get_attr":
                values[node] = operator.attrgetter(node.target)(module)
            else:
                values[node] = self._call(node, args, kwargs)
        self.labels += attention_roles(module.graph, values)
        self.values |= {node: None if node in self.values else v for node, v in values.items()}
        return map_arg(output.args[0], values.__getitem__)

    def _call(self, node: fx.Node, args: Any, kwargs: Any) -> Any:
        """An operation, or one that calls graphs of its own."""
        if node.target is operator.getitem and isinstance(args[0], list):
            return args[0][args[1]]
        name = node.target.name() if isinstance(node.target, HigherOrderOperator) else ""
        if name in TRANSPARENT:
            return self._wrapped(args)
        if name == "cond" and is_value(args[0]):
            return self._cond(*args)
        return self._apply(node, args, kwargs)

    def _wrapped(self, args: Sequence[Any]) -> list[Any]:
        """A graph among the arguments, which those behind it are given to."""
        at = next(i for i, arg in enumerate(args) if isinstance(arg, fx.GraphModule))
        return list(self.run(args[at], args[at + 1 :]))

    def _cond(self, condition: Value, *rest: Any) -> Any:
        """Both branches are read, on the same operands."""
        *branches, operands = rest
        one, other = (self.run(branch, operands) for branch in branches)
        if is_value(one):
            return self._either(condition, one, other)
        return [self._either(condition, *pair) for pair in zip(one, other, strict=True)]

    def _either(self, condition: Value, a: Any, b: Any) -> Any:
        """What one of two branches returns is read as ``torch.where`` of both."""
        if not is_value(a):
            return a
        context = self._context_of_cond(a)

        bound = {"condition": Operand(()), "self": a, "other": b}
        for axis in condition:
            pin(axis, "condition of cond")
        results: list[Value] = [*map(Operand, follow(_WHERE, bound, context) or [])]
        call = OpCall(_WHERE, bound, context, results, [True])
        self.records.append(OpRecord([condition, a, b], results, call))
        return results[0]

    def _context_of_cond(self, result: Value) -> OpContext:
        return OpContext(
            "cond",
            [shape(result)],
            uniform=self.constant,
            label=lambda *_: None,
            between=lambda _: None,
            used=lambda _: True,
            masked=False,
        )

    def _apply(self, node: fx.Node, args: Any, kwargs: Any) -> Any:
        operands, shapes = list(operands_of([*args, kwargs])), _shapes(node)
        if mutates(node.target) and any(map(_is_constant, operands)):
            raise Overwritten
        if not shapes and isinstance(node.target, OpOverload) and not mutates(node.target):
            return None
        bound = arguments_of(node.target, args, kwargs)
        results = self._recorded(node, operands, bound=bound, shapes=shapes)
        return results[0] if isinstance(node.meta.get("val"), torch.Tensor) else results

    def _recorded(
        self,
        node: fx.Node,
        operands: list[Value],
        *,
        bound: dict[str, Any],
        shapes: list[tuple[int, ...]],
    ) -> list[Value]:
        """Results of an operation, by its rule or fixed; a record is kept."""
        between: list[Value] = []
        call = self._context(node, shapes, between)
        found = follow(node.target, bound, call)
        results: list[Value] = [*map(Operand, found or _without_rule(node, operands, shapes))]
        target: Any = node.target
        followed = OpCall(target, bound, call, results, _floating(node)) if found else None
        self.records.append(OpRecord(operands, [*between, *results], followed))
        return results

    def _context(
        self, node: fx.Node, shapes: list[tuple[int, ...]], between: list[Value]
    ) -> OpContext:
        return OpContext(
            _packet(node),
            shapes,
            uniform=self.constant,
            label=lambda *label: self.labels.append(label),
            between=between.append,
            used=partial(_used, node),
            masked=any(map(_is_mask, _listed(node))),
        )


def _is_constant(value: Value) -> bool:
    """Whether a tensor is constant along one of its axes."""
    return any(atom.uniform for axis in value for atom in atoms(axis))


def _without_rule(
    node: fx.Node, operands: list[Value], shapes: list[tuple[int, ...]]
) -> list[Value]:
    reason = f"{node.target} has no rule"
    for axis in (axis for value in operands for axis in value):
        pin(axis, reason)
    return [tuple(fixed(n, reason) for n in lengths) for lengths in shapes]


def arguments_of(target: Any, args: Any, kwargs: Any) -> dict[str, Any]:
    """Arguments by the names of the operation's schema; nothing for an operation that has none."""
    if not isinstance(target, OpOverload):
        return {}
    return (
        dict(zip([argument.name for argument in target._schema.arguments], args, strict=False))
        | kwargs
    )


def follow(target: Any, arguments: dict[str, Any], at: OpContext) -> list[Value] | None:
    """Outputs by the operation's rule, or None where there is none for these arguments."""
    known = rules_of(target)
    if known is None:
        return None
    if not is_lazy(target):
        for value in operands_of(arguments):
            settle(value)
    try:
        results = _results(known, arguments, at)
        writes = mutates(target) and torch.Tag.inplace_view not in target.tags
        if results and writes:
            # The result is the memory of the first operand, and so moves as that does.
            old = next(iter(arguments.values()))
            return [tuple(unite(*pair) for pair in zip(old, results[0], strict=True))]
    except DoesNotFit:
        return None
    return results


def _results(known: OpRules, arguments: dict[str, Any], at: OpContext) -> list[Value] | None:
    """What a rule gives, or None where it declines or gives other shapes than the operation."""
    result = known.axes(**arguments, at=at)
    if result is NotImplemented:
        return None
    results = result if isinstance(result, list) else [result]
    return results if [shape(value) for value in results] == list(at.shapes) else None


def is_lazy(target: Any) -> bool:
    """Whether an operation may see factors that are not yet decided."""
    known = rules_of(target)
    return known is not None and known.axes in LAZY


def rules_of(target: Any) -> OpRules | None:
    """The row of the table, if its axes rule takes this overload's arguments; ``relu_`` follows
    ``relu``, other mutations have no row.
    """
    if not isinstance(target, OpOverload):
        return None
    packet = target.overloadpacket
    if target._schema.is_mutable:
        name = packet.__name__
        if not name.endswith("_"):
            return None
        packet = getattr(torch.ops.aten, name[:-1], packet)
    known = RULES.get(packet) or NAMED.get(packet._qualified_op_name)
    given = {argument.name for argument in target._schema.arguments}
    return known if known and required(known.axes) <= given else None


def mutates(target: Any) -> bool:
    """Whether an operation writes into its operands; ``detach_`` only says so."""
    return (
        isinstance(target, OpOverload)
        and target._schema.is_mutable
        and target != torch.ops.aten.detach_.default
    )


def _packet(node: fx.Node) -> str:
    return str(getattr(node.target, "overloadpacket", node.target))


def _floating(node: fx.Node) -> list[bool]:
    """Whether each tensor that a node returns holds real or complex numbers."""
    value = node.meta.get("val")
    tensors = value if isinstance(value, (list, tuple)) else [value]
    return [t.is_floating_point() or t.is_complex() for t in tensors if isinstance(t, torch.Tensor)]


def _shapes(node: fx.Node) -> list[tuple[int, ...]]:
    """Shapes of the tensors that a node returns."""
    value = node.meta.get("val")
    tensors = value if isinstance(value, (list, tuple)) else [value]
    shapes = [tuple(t.shape) for t in tensors if isinstance(t, torch.Tensor)]
    if any(not isinstance(n, int) for lengths in shapes for n in lengths):
        raise SpecError(
            f"{node.name} ({node.target}): its shape depends on data; only networks with static "
            "shapes can be read"
        )
    return shapes


def _used(node: fx.Node, output: int) -> bool:
    """Whether anything reads one output of several."""
    return any(
        user.target is not operator.getitem or (user.args[1] == output and user.users)
        for user in node.users
    )


def _listed(node: fx.Node) -> Iterator[Any]:
    """Members of the lists among the arguments: of an indexing operation, what it indexes by."""
    return (
        part
        for arg in (*node.args, *node.kwargs.values())
        if isinstance(arg, (list, tuple))
        for part in arg
    )


def _is_mask(part: Any) -> bool:
    value = part.meta.get("val") if isinstance(part, fx.Node) else None
    return isinstance(value, torch.Tensor) and value.dtype in (torch.bool, torch.uint8)


def operands_of(item: Any) -> Iterator[Value]:
    """Every tensor in nested arguments."""
    if is_value(item):
        yield item
    elif isinstance(item, (list, tuple, dict)):
        for part in item.values() if isinstance(item, dict) else item:
            yield from operands_of(part)
