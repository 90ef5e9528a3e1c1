"""The methods that mergekit's names stand for, with the values of one tensor.

Defaults are mergekit's: TIES and DELLA normalise by the weights that agree, all others do not, and
everything is sorted and elected tensor by tensor. DARE divides by the density, which is the paper's
unbiased form; mergekit matches the L1 norm instead, so random methods agree on average only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from wsl.merging.methods import (
    DARE,
    DELLA,
    SCE,
    TIES,
    Average,
    Breadcrumbs,
    Karcher,
    MergeMethod,
    ModelStock,
    MultiSlerp,
    NuSlerp,
    Slerp,
    TaskArithmetic,
)

Values = Mapping[str, Any]
Builder = Callable[[Sequence[Values], Values], MergeMethod]
"""Values of each member and of all together to a method."""


def _weights(each: Sequence[Values], *, required: bool = True) -> list[float]:
    for i, one in enumerate(each):
        if required and one.get("weight") is None:
            raise ValueError(f"model {i + 1} has no weight, which the method needs")
    return [float(one.get("weight", 1.0)) for one in each]


def _summed(each: Sequence[Values], shared: Values, *, normalize: bool) -> list[float]:
    """Weights, divided by their sum where they are normalised."""
    weights = _weights(each)
    total = sum(weights) if shared.get("normalize", normalize) else 1.0
    return [weight / total for weight in weights]


def _densities(each: Sequence[Values]) -> list[float]:
    return [float(one.get("density", 1.0)) for one in each]


def _linear(each: Sequence[Values], shared: Values) -> MergeMethod:
    if shared.get("normalize", True):
        return Average(_weights(each))
    raise ValueError("linear without normalize is no mean; give weights that sum to one")


def _ties(each: Sequence[Values], shared: Values) -> MergeMethod:
    normalize = shared.get("normalize", True)
    return TIES(
        _densities(each),
        float(shared.get("lambda", 1.0)),
        _weights(each),
        unit="tensor",
        consensus="mean" if normalize else "sum",
    )


def _sparse(kind: type, election: bool, normalize: bool, *more: str) -> Builder:
    def build(each: Sequence[Values], shared: Values) -> MergeMethod:
        normalized = shared.get("normalize", normalize)
        settings = {name: each[0][name] for name in more if each[0].get(name) is not None}
        return kind(
            density=_densities(each),
            scale=float(shared.get("lambda", 1.0)),
            weights=_weights(each) if election else _summed(each, shared, normalize=normalize),
            election=election,
            consensus="mean" if normalized else "sum",
            **settings,
        )

    return build


def _nuslerp(each: Sequence[Values], shared: Values) -> MergeMethod:
    flat = shared.get("nuslerp_flatten", True)
    unit = "tensor" if flat else "row" if shared.get("nuslerp_row_wise") else "column"
    return NuSlerp(_weights(each), unit)


def _slerp(_: Sequence[Values], shared: Values) -> MergeMethod:
    if shared.get("t") is None:
        raise ValueError("slerp needs t, from 0 (base_model) to 1")
    return Slerp(float(shared["t"]))


BUILDERS: Mapping[str, Builder] = MappingProxyType(
    {
        "linear": _linear,
        "slerp": _slerp,
        "nuslerp": _nuslerp,
        "multislerp": lambda each, _: MultiSlerp(_weights(each)),
        "karcher": lambda each, shared: Karcher(
            _weights(each, required=False),
            int(shared.get("max_iter", 10)),
            float(shared.get("tol", 1e-5)),
        ),
        "task_arithmetic": lambda each, shared: TaskArithmetic(
            float(shared.get("lambda", 1.0)), _summed(each, shared, normalize=False)
        ),
        "ties": _ties,
        "dare_ties": _sparse(DARE, True, False),
        "dare_linear": _sparse(DARE, False, False),
        "della": _sparse(DELLA, True, True, "epsilon"),
        "della_linear": _sparse(DELLA, False, False, "epsilon"),
        "breadcrumbs": _sparse(Breadcrumbs, False, False, "gamma"),
        "breadcrumbs_ties": _sparse(Breadcrumbs, True, False, "gamma"),
        "sce": lambda _, shared: SCE(float(shared.get("select_topk", 1.0))),
        "model_stock": lambda _, shared: ModelStock(
            "row" if shared.get("filter_wise") else "tensor", clamped=False
        ),
        "passthrough": lambda *_: Average(),
    }
)
"""By mergekit's name of a method."""
