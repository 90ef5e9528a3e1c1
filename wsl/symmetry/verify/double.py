"""`Double`: run code in float64, whatever precision it asks for.

    x.float()    x.to(torch.bfloat16)    softmax(x, dtype=torch.float32)    all give float64

Networks of language upcast to float32 inside, so that a float64 copy of them would still be
computed to 1e-7. Below autograd, every operation that names a floating-point type gets float64
instead, complex types complex128; tensors of lower precision that the model keeps outside its state
dict are widened where they are read. What a tensor's bits are read as (``view(dtype)``), and
tensors that are written into, keep their type; autocast leaves float64 alone by itself.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map


def _grouped_mm(a: Tensor, b: Tensor, offs: Tensor | None = None, *rest: Any) -> Tensor:
    """Rows up to an offset times the matrix of that offset; rows behind the last one are zero."""
    if (a.dim(), b.dim()) != (2, 3) or offs is None or any(t is not None for t in rest[:1]):
        raise NotImplementedError(
            "aten._grouped_mm: float64 is there only for rows of one matrix times a stack of "
            "matrices"
        )
    return _rows_by_matrices(a, b, [0, *offs.tolist()])


def _rows_by_matrices(a: Tensor, b: Tensor, ends: list[int]) -> Tensor:
    rows = [a[start:end] for start, end in itertools.pairwise(ends)]
    products = [some @ matrix for some, matrix in zip(rows, b, strict=False)]
    return torch.cat([*products, a.new_zeros(len(a) - ends[-1], b.shape[-1])])


_REPLACED = (
    {torch.ops.aten._grouped_mm.default: _grouped_mm}
    if hasattr(torch.ops.aten, "_grouped_mm")  # torch 2.6 has no such operation
    else {}
)
"""Operations that have no kernel for float64."""
_AS_IT_IS = (torch.ops.aten.view.dtype,)
_FRESH = (torch.ops.aten.lift_fresh.default, torch.ops.aten.lift.default)


def widest(dtype: torch.dtype) -> torch.dtype:
    """float64 for floating-point types, complex128 for complex ones, any other type itself."""
    if dtype.is_complex:
        return torch.complex128
    return torch.float64 if dtype.is_floating_point else dtype


def widened(tensor: Tensor) -> Tensor:
    """The tensor in its widest type; itself if it is that already."""
    return tensor if tensor.dtype == widest(tensor.dtype) else tensor.to(widest(tensor.dtype))


class Double(TorchDispatchMode):
    """The mode; use it as a context manager around the forward pass.

    ``random`` names the first operation that drew random numbers.
    """

    supports_higher_order_operators = True

    def __init__(self) -> None:
        super().__init__()
        self.random: str | None = None

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Call the operation with every floating-point type replaced."""
        kwargs = kwargs or {}
        if self.random is None and torch.Tag.nondeterministic_seeded in getattr(func, "tags", ()):
            self.random = str(func)
        if func in _AS_IT_IS:
            return func(*args, **kwargs)
        wide = _wide if _reads_only(func) else _wide_dtype
        func = _REPLACED.get(func, func)
        return func(*tree_map(wide, args), **tree_map(wide, kwargs))


def _reads_only(func: Any) -> bool:
    """Neither writes into its operands nor returns views of them, into which others may write."""
    if not isinstance(func, OpOverload):
        return False
    aliases = any(
        value.alias_info is not None for value in (*func._schema.arguments, *func._schema.returns)
    )
    return func in _FRESH or not aliases


def _wide(item: Any) -> Any:
    return widened(item) if isinstance(item, Tensor) else _wide_dtype(item)


def _wide_dtype(item: Any) -> Any:
    return widest(item) if isinstance(item, torch.dtype) else item
