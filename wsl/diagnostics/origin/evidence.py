"""All evidence on the origin of two checkpoints of one architecture, and a verdict on it.

    the same weights        every tensor equal, or equal after rounding to the coarser type
    equal entries           a quarter of the entries of matrices equal, as they lie
    common origin           p <= 1e-6 by fixed points, as they lie               (`common_origin`)
    reordered               a quarter of the entries of matrices equal after alignment
    alike                   above background after alignment, p <= .05            (`agreement`)
    weak                    p <= .01 by fixed points
    none                    nothing of all this

The first that holds is the verdict. Tensors that are equal take no part in the test of fixed
points: they speak for themselves, and those that no training made, such as codes of positions,
would put units in their places. Entries count as equal only in matrices with more than `LEVELS`
values, since ternary weights are equal by chance.

A verdict says what the weights are consistent with and never how they came about. Two trainings
from one initialisation have a common origin here. Distillation is invisible: it copies the function
and no weight.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from wsl.diagnostics.origin.fixed_points import CommonOrigin, common_origin
from wsl.diagnostics.origin.sites import weights_of
from wsl.diagnostics.origin.tensors import TensorComparison, compare_tensors
from wsl.diagnostics.origin.views import Agreement, agreement, rank_p
from wsl.matching import Matcher
from wsl.symmetry import Permutation, PermutationSpec

STRONG, WEAK, BACKGROUND = 1e-6, 0.01, 0.05
EQUAL, LEVELS = 0.25, 256
VERDICTS = ("same", "equal entries", "common origin", "reordered", "alike", "weak", "none")


@dataclasses.dataclass(frozen=True)
class AlignmentState:
    """How far b is from a's basin: cosines of all weights as they lie and after alignment.

    moved: share of the units that alignment moves.
    """

    before: float
    after: float
    moved: float

    @property
    def aligned(self) -> bool:
        """Whether alignment moves no unit, or gains less than a hundredth."""
        return self.moved == 0 or self.after - self.before < 0.01


@dataclasses.dataclass(frozen=True)
class OriginEvidence:
    """What was found for a pair; the parts after alignment are None where it was not asked for.

    equal, equal_after: share of equal entries in matrices, as they lie and after alignment.
    background: shares of agreeing units of a with networks known to be unrelated.
    """

    tensors: TensorComparison
    origin: CommonOrigin
    equal: float
    agreement: Agreement | None = None
    state: AlignmentState | None = None
    equal_after: float = 0.0
    background: tuple[float, ...] = ()

    @property
    def background_p(self) -> float:
        """The rank of the pair's agreement in the background; 1 without any."""
        return 1.0 if self.agreement is None else rank_p(self.agreement.share, self.background)

    @property
    def verdict(self) -> str:
        """The first of `VERDICTS` that holds."""
        holds = (
            self.tensors.same,
            self.equal >= EQUAL,
            self.origin.log_p <= math.log(STRONG),
            self.equal_after >= EQUAL,
            self.background_p <= BACKGROUND,
            self.origin.log_p <= math.log(WEAK),
            True,
        )
        return VERDICTS[holds.index(True)]

    @property
    def related(self) -> bool:
        """Whether the weights are consistent with a common origin."""
        return self.verdict not in ("weak", "none")


@torch.no_grad()
def origin_evidence(
    spec: PermutationSpec,
    a: Mapping[str, Tensor],
    b: Mapping[str, Tensor],
    *,
    matcher: Matcher | None = None,
    align: bool = True,
    background: Sequence[float] = (),
    seed: int = 0,
) -> OriginEvidence:
    """Compare ``b`` with ``a``: as they lie and, with ``align``, after alignment by ``matcher``.

    background: agreements of ``a`` with unrelated networks, as `agreement` gives them. Raises
    `SpecError` for weights that do not fit and ValueError for those that are not finite.
    """
    tensors = compare_tensors(a, b)
    origin = common_origin(spec, a, b, leave_out=_constant(tensors), seed=seed)
    plain = OriginEvidence(tensors, origin, equal_matrices(a, b))
    if not align:
        return plain
    seen = agreement(spec, a, b, matcher=matcher, seed=seed)
    moved = seen.found(b)
    return dataclasses.replace(
        plain,
        agreement=seen,
        state=_state(a, (b, moved), _moved(spec, seen)),
        equal_after=equal_matrices(a, moved),
        background=tuple(background),
    )


def _state(
    a: Mapping[str, Tensor],
    b: tuple[Mapping[str, Tensor], Mapping[str, Tensor]],
    moved: float,
) -> AlignmentState:
    """The state of b, given as it lies and after alignment."""
    return AlignmentState(_cosine(a, b[0]), _cosine(a, b[1]), moved)


def _constant(tensors: TensorComparison) -> tuple[str, ...]:
    """The tensors that are equal, which speak for themselves; none where all of them are."""
    if tensors.same:
        return ()
    return (*tensors.of_kind("equal"), *tensors.of_kind("cast"))


def equal_matrices(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> float:
    """Share of equal entries, of those that are not zero in both, in matrices of many values."""
    names = [n for n in weights_of(a) if a[n].dim() > 1 and _levels(a[n]) > LEVELS]
    found = compare_tensors({n: a[n] for n in names}, {n: b[n] for n in names}, ranks=False)
    return found.equal_entries if names else 0.0


def _levels(tensor: Tensor) -> int:
    """Different values among the first few thousand."""
    return len(tensor.flatten()[: LEVELS**2].unique())


def _cosine(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> float:
    inner = left = right = 0.0
    for name in weights_of(a):
        x, y = a[name].double().flatten(), b[name].to(a[name].device).double().flatten()
        inner, left, right = inner + float(x @ y), left + float(x @ x), right + float(y @ y)
    return inner / (left * right) ** 0.5 if left and right else 0.0


def _moved(spec: PermutationSpec, seen: Agreement) -> float:
    permutation = seen.found.permutation
    if not isinstance(permutation, Permutation):
        raise TypeError("one checkpoint is needed, and a matcher that finds one permutation for it")
    same = Permutation.identity(spec).indices
    changed = sum(int((permutation.indices[g] != same[g]).sum()) for g in spec.groups)
    return changed / max(1, sum(index.numel() for index in same.values()))
