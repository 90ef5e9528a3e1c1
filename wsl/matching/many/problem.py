"""`match_all`: bring N models to one universe, so that all of them are close to each other.

    maximise over g_1, ..., g_N   sum_{i<j} <g_i.theta_i, g_j.theta_j>

The boundary where inputs are checked; how the elements are found is the method's affair.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from wsl.matching.many.cycle_consistent import CycleConsistent
from wsl.matching.many.result import JointMatch, ManyMatcher
from wsl.matching.problem import check_weights
from wsl.params import unstack
from wsl.symmetry import PermutationSpec, SpecError


@torch.no_grad()
def match_all(
    spec: PermutationSpec,
    models: Sequence[Mapping[str, Tensor]] | Mapping[str, Tensor],
    method: ManyMatcher | None = None,
) -> JointMatch:
    """Align N models to each other, by `CycleConsistent` unless told; a list, or stacked weights.

    Devices and precisions may differ; the work is done on the device of the first. Same inputs,
    same result. Raises `SpecError` when weights do not fit the specification, and ValueError for
    fewer than two models or weights that `wsl.match` refuses, naming the model.
    """
    if isinstance(models, Mapping):
        models = unstack(models) if len(spec.validate(models)) == 1 else [models]
    if len(models) < 2:
        raise ValueError(f"match_all: got {len(models)} models; at least two are needed")
    for i, model in enumerate(models):
        if batch := spec.validate(model):
            raise SpecError(
                f"model {i}: has batch axes {tuple(batch)}, but each is one checkpoint; unstack it "
                "first"
            )
        check_weights(spec, model, f"model {i}")
    return (method or CycleConsistent()).solve(spec, models)
