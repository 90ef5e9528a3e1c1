"""Networks of one architecture that are run side by side, one operation after the other.

All batches pass an operation before the next one starts. So what the first network does there can
be compared with all others, its weights changed, and the next operation already reads the changed
values: a sweep over all layers costs one forward pass of each network, not one for each layer.
The price is memory: all batches are in it at once, each value until its last use.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.node import map_arg

from wsl.connectivity.repairs.moments import Uncertain
from wsl.connectivity.repairs.program import LayerProgram, program_of
from wsl.params import Params


def called(node: fx.Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What an operation gives."""
    return node.target(*args, **kwargs)  # type: ignore[operator]


class Lockstep:
    """The networks ``params`` (which is changed) and ``members`` on the same batches.

    ``own[node]`` are the values of the first network, one for each batch, and ``theirs[node]``
    those of the members, one list for each of them. Batches may be `Uncertain`, where ``apply``
    says what is known of an operation's result.
    """

    def __init__(
        self,
        program: LayerProgram,
        params: Params,
        *,
        members: Sequence[Mapping[str, Tensor]],
        batches: Sequence[Tensor | Uncertain],
        apply: Callable[[fx.Node, tuple[Any, ...], dict[str, Any]], Any] = called,
    ) -> None:
        self.program, self.params, self.members, self.batches = program, params, members, batches
        self.apply = apply
        self.own: dict[fx.Node, list[Any]] = {}
        self.theirs: dict[fx.Node, list[list[Any]]] = {}

    @torch.no_grad()
    def run(self, before: Callable[[fx.Node], None], after: Callable[[fx.Node], None]) -> None:
        """Run all operations. The members go first; ``before`` is called when they have passed an
        operation, ``after`` when the first network has, too.
        """
        self._start()
        for node in self.program.operations:
            self.theirs[node] = [
                self._computed(node, theta, lambda n, m=m: self.theirs[n][m])
                for m, theta in enumerate(self.members)
            ]
            before(node)
            self.own[node] = self._computed(node, self.params, self.own.__getitem__)
            after(node)
            self._forget(node)

    def _start(self) -> None:
        """Inputs, a copy for each network: some write into them."""
        for node in self.program.inputs:
            self.own[node] = self._copies()
            self.theirs[node] = [self._copies() for _ in self.members]

    def _copies(self) -> list[Any]:
        return [b.clone() if isinstance(b, Tensor) else b for b in self.batches]

    def _forget(self, node: fx.Node) -> None:
        """Let go of what is read by ``node`` for the last time."""
        for read in node.all_input_nodes:
            if self.program.last_use[read] is node:
                self.own.pop(read, None)
                self.theirs.pop(read, None)

    def _computed(
        self, node: fx.Node, params: Mapping[str, Tensor], values: Callable[[fx.Node], list[Any]]
    ) -> list[Any]:
        """The results of one operation on all batches."""
        if node.op == "get_attr":
            return [self.program.attribute(node)] * len(self.batches)

        weights, constants = self.program.weights, self.program.constants

        def argument(n: fx.Node, i: int) -> Any:
            if n in weights:
                return params[weights[n]]
            return constants[n] if n in constants else values(n)[i]

        def result(i: int) -> Any:
            args, kwargs = map_arg((node.args, node.kwargs), lambda n: argument(n, i))
            return self.apply(node, args, kwargs)

        return [result(i) for i in range(len(self.batches))]


def lockstep(
    model: nn.Module,
    params: Mapping[str, Tensor],
    members: Sequence[Mapping[str, Tensor]],
    *,
    batches: Sequence[Tensor],
) -> Lockstep:
    """The networks, ready to run; ``params`` is copied."""
    program = program_of(model, batches[0])
    fresh = {name: tensor.detach().clone() for name, tensor in params.items()}
    return Lockstep(program, fresh, members=members, batches=batches)
