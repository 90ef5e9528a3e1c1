"""The norms of a residual stream folded into what reads it, so that the stream may turn.

    W diag(g) norm(x) + W s + b          gain g := 1, shift s := 0, W := W diag(g), b := b + W s
    norm(O x) = O norm(x)                for O in O(n); for a layer norm, which centres x, O 1 = 1

The network computes what it computed, and is one of the same architecture; what is new is the group
O(n) of its stream, which the folded specification lists as an orthogonal map. Under a layer norm
the mean of the stream is seen by nobody: it is taken out of all that writes and reads the stream.
Ashkboos et al. (2024), arXiv 2401.15024; for alignment: Theus et al. (2025), arXiv
2506.22712.

Norms are recognised by the scale of their gain against what reads it. Where a norm feeds the stream
itself (norms after the sum) or a tensor that also writes it (tied weights), there is no such scale,
and folding is refused. A gain of 0 is folded too, but cannot be had back.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from wsl.params import Params
from wsl.symmetry import (
    Occurrence,
    PermutationSpec,
    Place,
    SpecError,
    UnitSymmetry,
    at_place,
    window_of,
)

_SHIFTS = ("bias", "beta", "shift")


@dataclasses.dataclass(frozen=True)
class Norm:
    """A norm's gain and shift, and where its output is read. The gain is stored less ``offset``."""

    gain: str
    shift: str | None
    offset: float
    readers: tuple[Place, ...]


@dataclasses.dataclass(frozen=True)
class Stream:
    """A residual stream: its group, its norms, and where else its units stand.

    centred: whether its norms take out the mean, as layer norms do.
    """

    group: str
    norms: tuple[Norm, ...]
    writers: tuple[Occurrence, ...]
    centred: bool

    @property
    def turns(self) -> UnitSymmetry:
        """The orthogonal map that the stream allows once its norms are folded."""
        readers = (place for norm in self.norms for place in norm.readers)
        places = [Place(*place[:4]) for place in (*self.writers, *readers)]
        form = "centred" if self.centred else ""
        return UnitSymmetry("orthogonal", self.group, tuple(places), form=form)


def fold_norms(
    spec: PermutationSpec, params: Mapping[str, Tensor], group: str | None = None
) -> Params:
    """Weights of the same function whose norms have gain 1 and no shift; leading axes are batch.

    ``group`` is that of the stream, by default the one with most norms. Raises `SpecError` as
    `folded_spec` does, and where a shift meets a reader without a bias.
    """
    stream, lead = stream_of(spec, group), len(spec.validate(params))
    folded = {name: params[name] for name in spec.axes}
    for norm in stream.norms:
        _fold(spec, folded, norm, lead=lead)
    # Norms may share a shift, so it is cleared only when all of them have been folded.
    for shift in (norm.shift for norm in stream.norms if norm.shift is not None):
        folded[shift] = torch.zeros_like(folded[shift])
    for place in stream.turns.places if stream.centred else ():
        act = _acting(spec, place, lambda x: x - x.mean(-1, keepdim=True))
        folded[place.tensor] = act(folded[place.tensor], lead)
    return folded


def _fold(spec: PermutationSpec, params: Params, norm: Norm, *, lead: int) -> None:
    """Multiply the gain of a norm into its readers, and add what they make of its shift."""
    gain = params[norm.gain] + norm.offset
    for place in norm.readers:
        if norm.shift is not None:
            _add_shift(spec, params, place, shift=(norm.shift, lead))
        act = _acting(spec, place, lambda x: x * _over(gain, x, lead))
        params[place.tensor] = act(params[place.tensor], lead)
    params[norm.gain] = torch.full_like(gain, 1 - norm.offset)


def folded_spec(spec: PermutationSpec, group: str | None = None) -> PermutationSpec:
    """The specification of weights that `fold_norms` returns: the stream turns as a whole.

    Scales and signs of its units are gone, since gains are 1. Raises `SpecError` for a stream
    without norms, and for a norm that cannot be folded.
    """
    stream = stream_of(spec, group)
    kept = tuple(unit for unit in spec.units if unit.group != stream.group)
    return dataclasses.replace(spec, units=(*kept, stream.turns))


def stream_of(spec: PermutationSpec, group: str | None = None) -> Stream:
    """The stream of a group, by default the one with most norms; errors as `folded_spec`."""
    norms: dict[str, list[Norm]] = {}
    for unit in spec.units:
        if norm := _norm(spec, unit):
            norms.setdefault(unit.group, []).append(norm)
    if not norms or (group is not None and group not in norms):
        raise SpecError(
            f"{group or 'no group'}: no norm whose gain can be folded; take the specification from "
            "symmetry_spec, which lists scales"
        )
    chosen = group or max(norms, key=lambda name: len(norms[name]))
    return _stream(spec, chosen, tuple(norms[chosen]))


def _stream(spec: PermutationSpec, group: str, norms: tuple[Norm, ...]) -> Stream:
    writers = _writers(spec, group, norms)
    centred = not _signed(spec, group) & {place[:4] for place in writers}
    return Stream(group, norms, writers, centred)


def _writers(spec: PermutationSpec, group: str, norms: Sequence[Norm]) -> tuple[Occurrence, ...]:
    """Where the stream stands outside its norms and what reads them; none may be a norm's."""
    inside = {name for norm in norms for name in (norm.gain, norm.shift)}
    read = {place[:4] for norm in norms for place in norm.readers}
    writers = tuple(
        place
        for place in spec.occurrences(group)
        if place.tensor not in inside and place[:4] not in read
    )
    for place in writers:
        _refuse_norm(spec, place)
    return writers


def _signed(spec: PermutationSpec, group: str) -> set[tuple]:
    """Where units of the stream may change their sign, which a norm that centres forbids."""
    signs = [unit for unit in spec.units if unit.kind == "sign" and unit.group == group]
    return {place[:4] for unit in signs for place in unit.places}


def _norm(spec: PermutationSpec, unit: UnitSymmetry) -> Norm | None:
    """The norm that a scale belongs to: vectors alone on one side, their readers on the other."""
    above = [place for place in unit.places if place.exponent == 1]
    below = tuple(place for place in unit.places if place.exponent == -1)
    plain = unit.kind == "scale" and len(above) + len(below) == len(unit.places)
    vectors = all(len(spec.axes[place.tensor]) == 1 for place in above)
    matrices = all(len(spec.axes[place.tensor]) > 1 for place in below)
    alike = plain and vectors and matrices
    return _norm_of(above, below) if alike and above and below else None


def _norm_of(vectors: Sequence[Place], readers: tuple[Place, ...]) -> Norm | None:
    """The norm of one gain and at most one shift, told by their names."""
    shifts = [p.tensor for p in vectors if p.tensor.rpartition(".")[2] in _SHIFTS]
    gains = [place for place in vectors if place.tensor not in shifts]
    if len(gains) != 1 or len(shifts) > 1:
        return None
    return Norm(gains[0].tensor, shifts[0] if shifts else None, gains[0].offset, readers)


def _refuse_norm(spec: PermutationSpec, place: Occurrence) -> None:
    """Vectors of a module without matrices are those of a norm, and should have been folded."""
    module = place.tensor.rpartition(".")[0]
    beside = [axes for name, axes in spec.annotations if name.rpartition(".")[0] == module]
    if module and all(len(axes) == 1 for axes in beside):
        raise SpecError(
            f"{place.tensor}: a gain or shift that cannot be folded, since the norm's output is "
            "also added to the stream, or read by a tensor that writes it (tied weights); match "
            "this stream by permutations"
        )


def _acting(
    spec: PermutationSpec, place: Place, change: Callable[[Tensor], Tensor]
) -> Callable[[Tensor, int], Tensor]:
    """``change`` units (.., n) at a place, as a function of the tensor and its batch axes."""
    group = str(spec.axes[place.tensor][place.axis][place.segment][place.factor])
    here = Place(*place[:4])
    return at_place(spec, UnitSymmetry("orthogonal", group, (here,)), change, place=here)


def _over(values: Tensor, like: Tensor, lead: int) -> Tensor:
    """Values (*batch, n) such that they broadcast over (*batch, .., n)."""
    between = [1] * (like.dim() - values.dim())
    return values.reshape(*values.shape[:lead], *between, values.shape[-1])


def _applied(
    spec: PermutationSpec, params: Params, place: Place, *, shift: tuple[str, int]
) -> Tensor:
    """W s of a reader W, on the axes of its outputs."""
    (name, lead), window = shift, window_of(spec, place)
    axis = place.axis + lead
    part = params[place.tensor].narrow(axis, window.start, window.length)
    values = part.unflatten(axis, window.sizes).movedim(axis + place.factor, -1)
    added = (values * _over(params[name], values, lead)).sum(-1)
    beside = list(range(axis, axis + len(window.sizes) - 1))
    return added.sum(beside) if beside else added


def _add_shift(
    spec: PermutationSpec, params: Params, place: Place, *, shift: tuple[str, int]
) -> None:
    """Add W s to the bias of a reader W; its gain has not been folded yet."""
    name, _ = shift
    added = _applied(spec, params, place, shift=shift)
    head, dot, last = place.tensor.rpartition(".")
    bias = f"{head}{dot}{last.replace('weight', 'bias')}"
    if bias in params and bias != place.tensor and params[bias].shape == added.shape:
        params[bias] = params[bias] + added
    elif bool((params[name] != 0).any()):
        raise SpecError(
            f"{name}: the shift cannot be folded into '{place.tensor}', which has no bias of "
            f"shape {tuple(added.shape)} beside it"
        )
