"""Run a pure function of tensors many times: as it is, or compiled where that wins back its cost.

    cost(f) = elements that the operations of one run of f write
    compile   if   runs x cost(f) x gain > price

Nothing here knows a network by name: whatever `torch.vmap` and autograd lower to plain operations
is traced as one graph, forward, backward and optimiser, and fused by TorchInductor (Ansel et al.,
PyTorch 2, ASPLOS 2024). The count is a property of the function and its shapes, not of the clock,
so that the same job is decided alike on every run and machine, and an interrupted one ends in the
same bits. Results are those of the plain function to rounding.

Without a C++ compiler everything runs uncompiled, slower, with one notice (a RuntimeWarning). An
engine keeps what it compiled as long as it lives; give the same one to jobs of equal functions and
shapes.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

Function = Callable[..., Any]
GAIN = 0.4e-9
"""Seconds saved per element that is not written: half of what SIRENs gained on a busy core."""
GPU_GAIN = 1e-12
"""The same on a GPU: a third of the time to move three elements at 4 TB/s; not measured."""
PRICE = 30.0
"""Seconds that tracing and compiling are reckoned to take; 5 to 50 were measured."""


class Engine:
    """Decides which jobs to compile, and keeps what it compiled.

    ``compiled`` True or False decides for all jobs; None compiles those that win the compilation
    back. ``repeats`` says how many jobs of a kind will come, when it is more than the one at hand.
    """

    def __init__(self, compiled: bool | None = None, *, repeats: int = 1) -> None:
        self.compiled, self.repeats = compiled, repeats
        self.kept: dict[Hashable, Function] = {}

    def prepare(
        self, function: Function, *example: Any, key: Hashable, elements: int, runs: int
    ) -> Function:
        """``function``, compiled or not, for ``runs`` runs on arguments like ``example``.

        Arguments are nested tuples and dicts of tensors. ``elements`` is what one run writes (see
        `cost`); functions with one ``key`` are taken for the same.
        """
        tensors = [leaf for leaf in _flat(example) if isinstance(leaf, Tensor)]
        gain = GPU_GAIN if any(tensor.is_cuda for tensor in tensors) else GAIN
        worth = pays(elements, runs * self.repeats, gain=gain, price=PRICE)
        if not (worth if self.compiled is None else self.compiled):
            return function
        key = (key, _signature(example))
        if key not in self.kept:
            self.kept[key] = self._compile(function, example)
        return self.kept[key]

    def _compile(self, function: Function, example: tuple[Any, ...]) -> Function:
        """Traced, compiled and tried once; the function itself if no compiler works."""
        # imported here: both take seconds, which only those who compile should spend
        from torch._dynamo.exc import BackendCompilerFailed
        from torch.fx.experimental.proxy_tensor import make_fx

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # the compiler's own imports
                compiled = torch.compile(make_fx(function)(*example), dynamic=False)
                compiled(*example)
        except BackendCompilerFailed as error:
            self.compiled = False
            warn_uncompiled("populations train", error)
            return function
        return compiled


def pays(elements: int, runs: int, *, gain: float, price: float) -> bool:
    """Whether ``runs`` runs win back the ``price`` of compiling, in seconds.

    ``gain`` is the time saved for each of the ``elements`` that one run writes (see `cost`).
    """
    return gain * elements * runs > price


def warn_uncompiled(who: str, error: Exception) -> None:
    """Warn that ``who`` ("populations train") uncompiled, as the compiler failed with ``error``."""
    reason = next(line for line in str(error).splitlines() if line.strip())
    warnings.warn(
        f"no working C++ compiler, so {who} uncompiled, with the same results but slower "
        f"({reason})",
        RuntimeWarning,
        stacklevel=3,
    )


def cost(function: Function, *example: Any) -> int:
    """Elements that the operations of one run of ``function`` write; its results are dropped."""
    with _ElementCount() as count:
        function(*example)
    return count.elements


class _ElementCount(TorchDispatchMode):
    """Sums the sizes of all results; views write nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        result = func(*args, **(kwargs or {}))
        if not func.is_view:
            self.elements += sum(item.numel() for item in _flat(result) if isinstance(item, Tensor))
        return result


def _signature(example: Any) -> Hashable:
    """Shapes, strides, types and devices: what a compiled function is special to."""
    return tuple(
        (t.shape, t.stride(), t.dtype, t.device) if isinstance(t, Tensor) else t
        for t in _flat(example)
    )


def _flat(tree: Any) -> list[Any]:
    if isinstance(tree, dict):
        return [leaf for name in tree for leaf in (name, *_flat(tree[name]))]
    if isinstance(tree, (tuple, list)):
        return [leaf for branch in tree for leaf in _flat(branch)]
    return [tree]
