"""Random weights at which every layer is heard, and the variances among them are positive.

Each layer's own parameters are divided by the size of its output, layer after layer, in one pass:

    theta_l <- theta_l / rms(y_l),    y_l <- y_l / rms(y_l)

Without it activations of a deep network with random batch norm statistics grow like 1.5^depth, and
next to them a bias or a running mean is below any tolerance: a specification that moves it wrongly
would pass. Layer-sequential unit variance, Mishkin and Matas (2016), arXiv 1511.06422; here nothing
needs to be exact, the weights only have to be generic. Modules that return several tensors, and
parameters that are only handed to other modules, keep the size that they were drawn with.

A variance is what the pass uses as one: what a normalisation takes as its ``running_var``, or what
a root or a logarithm is taken of. Values would not tell: the variance of a dead channel is zero.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from wsl.symmetry.spec import SpecError

_ATEN = torch.ops.aten
_ROOTS = {_ATEN.sqrt, _ATEN.rsqrt, _ATEN.log, _ATEN.log2, _ATEN.log10}
_KEEPS_SIGN = {
    *(_ATEN.view, _ATEN._unsafe_view, _ATEN.reshape, _ATEN.unsqueeze, _ATEN.squeeze, _ATEN.expand),
    *(_ATEN.permute, _ATEN.transpose, _ATEN.t, _ATEN.slice, _ATEN.select, _ATEN.repeat),
    *(
        _ATEN.clone,
        _ATEN._to_copy,
        _ATEN.detach,
        _ATEN.alias,
        _ATEN.add,
        _ATEN.clamp,
        _ATEN.clamp_min,
    ),
}
"""Operations between a variance and its root: other views and types of it, an epsilon added."""


class Watch(TorchDispatchMode):
    """Sees how a pass uses some tensors: ``variances`` names those that have to be positive.

    Raises `SpecError` where the pass reads one of ``strangers``, the original's own tensors: the
    copy then holds something that still belongs to the original, and nothing measured is true.
    """

    supports_higher_order_operators = True

    def __init__(self, watched: Mapping[str, Tensor], strangers: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.variances: set[str] = set()
        self._names = {id(t): name for name, t in watched.items()}
        self._strangers = {id(t): name for name, t in strangers.items()}
        # An identity means something only while its tensor lives.
        self._alive: list[Tensor] = [*watched.values(), *strangers.values()]

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Call the operation, and note what it does with tensors that are watched."""
        result = func(*args, **(kwargs or {}))
        for position, value in enumerate(args):
            if isinstance(value, Tensor):
                self._refuse_stranger(value)
                self._note(func, position, (args, result))
        return result

    def _refuse_stranger(self, tensor: Tensor) -> None:
        if name := self._strangers.get(id(tensor)):
            raise SpecError(
                f"{name}: a copy of the model still reads this tensor of the original, so its "
                "weights cannot be varied; does a function that the model keeps hold the model "
                "itself? Make it a method"
            )

    def _note(self, func: Any, position: int, call: tuple[tuple[Any, ...], Any]) -> None:
        args, result = call
        name = self._names.get(id(args[position]))
        if name is None:
            return
        packet = getattr(func, "overloadpacket", None)
        if _is_variance(func, position) or packet in _ROOTS or _is_root(packet, args):
            self.variances.add(name)
        elif packet in _KEEPS_SIGN and isinstance(result, Tensor):
            self._names[id(result)] = name
            self._alive.append(result)


def _is_variance(func: Any, position: int) -> bool:
    """Whether the schema calls this argument the running variance."""
    arguments = func._schema.arguments if hasattr(func, "_schema") else ()
    return position < len(arguments) and arguments[position].name == "running_var"


def _is_root(packet: Any, args: tuple[Any, ...]) -> bool:
    """Whether it is a power with a fractional exponent."""
    exponent = args[1] if packet is _ATEN.pow and len(args) > 1 else 1
    return isinstance(exponent, float) and not exponent.is_integer()


@torch.no_grad()
def draw(state: Mapping[str, Tensor], variances: set[str], generator: torch.Generator) -> None:
    """Matrices of He's size, vectors and buffers away from 0 and 1, positive where they were.

    Integers are kept.
    """
    for name, tensor in state.items():
        if not (tensor.is_floating_point() or tensor.is_complex()) or not tensor.numel():
            continue
        drawn = torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype)
        if is_matrix(tensor):
            drawn *= (2 / tensor[0].numel()) ** 0.5
        else:
            positive = name in variances or _all_positive(tensor)
            drawn = 0.5 + drawn.abs() if positive else drawn * 0.5
        tensor.copy_(drawn)


def is_matrix(tensor: Tensor) -> bool:
    """Weights that a layer multiplies with, in contrast to vectors and buffers."""
    return isinstance(tensor, nn.Parameter) and tensor.dim() > 1


def _all_positive(tensor: Tensor) -> bool:
    """Gains and variances as they mostly are; no order is asked of complex numbers."""
    return not tensor.is_complex() and bool((tensor > 0).all())


@contextlib.contextmanager
def calibrating(model: nn.Module) -> Iterator[None]:
    """A forward pass in the block rescales the layers that it meets."""
    handles = [
        m.register_forward_hook(_unit)
        for m in model.modules()
        if any(p is not None for p in m._parameters.values())
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def _unit(module: nn.Module, args: Any, output: Any) -> Tensor | None:  # noqa: ARG001
    if not isinstance(output, Tensor) or not output.is_floating_point() or not output.numel():
        return None
    size = float(output.norm()) / math.sqrt(output.numel())
    if not 0 < size < math.inf:
        return None
    for parameter in module._parameters.values():
        if parameter is not None and parameter.is_floating_point():
            parameter /= size
    return output / size
