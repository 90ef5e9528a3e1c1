"""Run a network's graph with other weights, and stop at its sites.

The graph is that of `wsl.symmetry.discover`: the operations that the network itself calls, in its
order, so outputs are those of the network. Nothing of the caller's is written to: what the graph
writes into is copied first.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx
from torch.export.graph_signature import OutputKind
from torch.utils._pytree import tree_unflatten

from wsl.symmetry.activations.sites import ActivationSite, is_transparent
from wsl.symmetry.discover import Program, mutates, placeholders
from wsl.symmetry.spec import SpecError

Visit = Callable[[ActivationSite, Tensor], Tensor | None]
"""What is called at each site; a tensor that it returns takes the place of the value."""

Sites = Mapping[fx.Node, ActivationSite]


def execute(
    program: Program,
    sites: Sites,
    given: tuple[Mapping[str, Tensor], Sequence[Any]],
    *,
    visit: Visit | None,
) -> Any:
    """Outputs of the network; ``given`` are its weights, and its inputs one after the other."""
    arguments = _arguments(program, *given)
    outputs = _Execution(program.graph_module, sites, visit).run(*arguments)
    kinds = [spec.kind for spec in program.graph_signature.output_specs]
    own = [out for out, kind in zip(outputs, kinds, strict=True) if kind == OutputKind.USER_OUTPUT]
    if program.outputs is not None:
        return tree_unflatten(own, program.outputs)
    return own[0] if len(own) == 1 else tuple(own)


def _arguments(
    program: Program, params: Mapping[str, Tensor], inputs: Sequence[Any]
) -> Iterator[Any]:
    """The value of every placeholder."""
    leaves = iter(inputs)
    written = _written(program.graph)
    for spec, node in placeholders(program):
        name = str(spec.target)
        if name in params:
            value = params[name]
        elif name in program.constants:
            value = program.constants[name]
        elif node.name in program.taken:
            value = program.taken[node.name]
        else:
            value = next(leaves)
        yield value.clone() if node in written and isinstance(value, Tensor) else value


def _written(graph: fx.Graph) -> set[fx.Node]:
    """The nodes whose memory operations of the graph may write to, through views or directly."""
    written: set[fx.Node] = set()
    for node in graph.nodes:
        if mutates(node.target) or is_transparent(node.target):
            # What a view shares memory with is its first operand, by the schemas of all views.
            waiting = [*node.all_input_nodes]
            while waiting:
                root = waiting.pop()
                if root not in written:
                    written.add(root)
                    waiting += root.all_input_nodes[:1]
    return written


class _Execution(fx.Interpreter):
    """One run of one graph; graphs among arguments are run alike."""

    def __init__(self, module: fx.GraphModule, sites: Sites, visit: Visit | None) -> None:
        super().__init__(module)
        self.sites, self.visit = sites, visit

    def run_node(self, n: fx.Node) -> Any:
        """The value of a node, or what the visitor gives instead."""
        value = super().run_node(n)
        site = self.sites.get(n)
        if site is None or self.visit is None:
            return value
        new = self.visit(site, value)
        if new is None:
            return value
        _check_like(site, new, value)
        # Where the operation wrote into memory that others read, they are to see the same.
        return value.copy_(new) if mutates(n.target) else new

    def call_function(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """An operation, or a graph with the setting that it is to run under."""
        if not is_transparent(target):
            return super().call_function(target, args, kwargs)
        at = next(i for i, each in enumerate(args) if isinstance(each, fx.GraphModule))
        with _setting(target, args[:at]):
            inside = _Execution(args[at], self.sites, self.visit)
            return inside.run(*args[at + 1 :])


def _setting(target: Any, settings: tuple[Any, ...]) -> contextlib.AbstractContextManager[Any]:
    if target.name() == "wrap_with_set_grad_enabled":
        # Weights may need gradients where the network's own code does not.
        return torch.set_grad_enabled(torch.is_grad_enabled() and settings[0])
    device, dtype, enabled, cached = settings
    return torch.autocast(device, dtype=dtype, enabled=enabled, cache_enabled=cached)


def _check_like(site: ActivationSite, new: Tensor, value: Tensor) -> None:
    if new.shape != value.shape:
        raise SpecError(
            f"{site.name}: the value has shape {tuple(value.shape)}, but what is to replace it has "
            f"{tuple(new.shape)}"
        )
