"""`UnitSymmetry`: what the units of one permutation group allow beyond being permuted.

It assigns an exponent e to every place (tensor, axis, segment, factor) where the symmetry acts:

    theta[.., i, ..] -> s_i^e (theta[.., i, ..] + c) - c

    sign    s_i in {-1, 1}                 odd functions
    scale   s_i > 0                        positively homogeneous functions
    phase   s_i = (-1)^{k_i}, k_i integer  sin(z + k pi) = (-1)^k sin z

with one s_i for every unit i, or for every head and unit of a family. A phase shifts by k_i pi /
omega where e > 0 and flips elsewhere. Other symmetries mix the units by one matrix s, or by one for
every head: s acts where e = 1, its inverse transpose where e = -1.

    linear      s in GL(size)              products along the units, such as scores of attention
    rotation    s = diag(c_1, .., c_size/2), c_f complex and not 0: rotary embeddings
    orthogonal  s in O(size)               streams that are only normed; centred: s 1 = 1

A rotation acts on a fixed factor of an axis, whose positions are taken in pairs as real and
imaginary parts, and ``group`` names the heads that have numbers of their own, or is empty. Its form
is ``half`` where pairs are (j, j + size/2), ``interleaved`` where they are (2j, 2j + 1). Su et al.
(2021), section 3.2, arXiv 2104.09864.

The constant c is zero but where the network adds one to the parameter before it uses it, like the
epsilon of a batch norm. Signs: Chen, Lu & Hecht-Nielsen (1993). Scales: Neyshabur et al. (2015),
arXiv 1506.02617.

It is a value, equal to what its own text parses to. A place is ``tensor[axis]`` or
``tensor[axis,segment,factor]``, with ``^e`` and ``+c`` where e is not 1 and c not 0; after '/'
exponents are negative:

    scale h1: 0.weight[0] 0.bias[0] / 2.weight[1]
    scale c1: conv.weight[0] bn.running_mean[0] bn.running_var[0]^2+1e-05
    phase h1 omega 30: 0.bias[0] / 2.weight[1]
    rotation head half: q.weight[0,0,1] / k.weight[0,0,1]
    orthogonal h1 centred: emb.weight[1] out.weight[1]

It says nothing of whether the symmetry holds: see `symmetry_spec` and `verify_units`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

from wsl.symmetry.spec.grammar import NAME, Axes, SpecError

MIXING = ("linear", "rotation", "orthogonal")
"""Kinds that mix units by matrices; the others act on each unit by itself."""
KINDS = ("scale", "sign", "phase", *MIXING)
FORMS = {"rotation": ("half", "interleaved"), "orthogonal": ("", "centred")}
"""The forms of a kind; all others have none."""
_FORM = "half|interleaved|centred"
_HEAD = re.compile(
    rf"({'|'.join(KINDS)})(?:\s+(?!(?:{_FORM})\s*:)({NAME}))?"
    rf"(?:\s+omega\s+(\S+)|\s+({_FORM}))?\s*:\s*(.*)$"
)
_PLACE = re.compile(
    r"\s*(?:(/)(?=\s)|(.+?)\[(\d+)(?:,(\d+),(\d+))?\](?:\^(\d+))?(?:\+(\S+))?(?=\s|$))"
)


class Place(NamedTuple):
    """Where a unit symmetry acts, with its exponent e and constant c.

    The first four fields are those of an `Occurrence`: tensor, axis, segment of the concatenation,
    position in the product.
    """

    tensor: str
    axis: int
    segment: int = 0
    factor: int = 0
    exponent: int = 1
    offset: float = 0.0

    def __str__(self) -> str:
        inside = f",{self.segment},{self.factor}" if self.segment or self.factor else ""
        power = f"^{abs(self.exponent)}" if abs(self.exponent) != 1 else ""
        return f"{self.tensor}[{self.axis}{inside}]{power}" + (
            f"+{self.offset!r}" if self.offset else ""
        )


@dataclasses.dataclass(frozen=True)
class UnitSymmetry:
    """One symmetry of the units of ``group``; ``omega`` is given for phases only.

    ``form`` is that of a rotation or an orthogonal map. Places with e > 0 are kept before the
    others. Raises `SpecError` for an unknown kind or form, no places, an exponent of zero, or one
    other than 1 or -1 where signs or matrices act.
    """

    kind: str
    group: str
    places: tuple[Place, ...]
    omega: float | None = None
    form: str = ""

    def __post_init__(self) -> None:
        places = tuple(sorted(self.places, key=lambda place: place.exponent < 0))
        object.__setattr__(self, "places", places)
        if self.kind not in KINDS:
            raise SpecError(
                f"'{self.kind}' is no kind of unit symmetry; they are {', '.join(KINDS)}"
            )
        self._check_exponents()
        self._check_form()
        if (self.kind == "phase") != (self.omega is not None and self.omega > 0):
            raise SpecError(
                f"{self.kind} {self.group}: 'omega' is the positive frequency of a phase, and of "
                "nothing else"
            )
        if self.kind == "phase" and self.places[0].exponent != 1:
            raise SpecError(f"phase {self.group}: no place shifts; write the bias before '/'")

    def _check_exponents(self) -> None:
        exponents = {place.exponent for place in self.places}
        allowed = {"scale": exponents - {0}, "sign": {1}, "orthogonal": {1}}.get(self.kind, {1, -1})
        if not self.places or not exponents <= allowed:
            needed = "other than 0" if self.kind == "scale" else sorted(allowed)
            raise SpecError(
                f"{self.kind} {self.group}: exponents {sorted(exponents)}; it needs places, with "
                f"exponents {needed}"
            )

    def _check_form(self) -> None:
        forms = FORMS.get(self.kind, ("",))
        if self.form not in forms:
            named = " or ".join(repr(form) for form in forms)
            raise SpecError(f"{self.kind} {self.group}: its form is {named}, not '{self.form}'")
        if not self.group and self.kind != "rotation":
            raise SpecError(f"{self.kind}: the group whose units it acts on is missing")

    @property
    def mixes(self) -> bool:
        """Whether it mixes units by matrices, and does not act on each by itself."""
        return self.kind in MIXING

    @property
    def head(self) -> str:
        """The text before the colon: kind, group, frequency, form."""
        omega = "" if self.omega is None else f"omega {_number(self.omega)}"
        return " ".join(word for word in (self.kind, self.group, omega, self.form) if word)

    def __str__(self) -> str:
        sides = [
            " ".join(str(p) for p in self.places if (p.exponent < 0) == below)
            for below in (False, True)
        ]
        return f"{self.head}: {' / '.join(sides) if sides[1] else sides[0]}"

    @classmethod
    def parse(cls, text: str) -> UnitSymmetry:
        """Read what `str` writes. Raises `SpecError` with the offending text."""
        found = _HEAD.match(text.strip())
        if not found:
            raise SpecError(
                f"'{text.strip()}': expected 'KIND GROUP: places', where KIND is one of "
                f"{', '.join(KINDS)}"
            )
        kind, group, omega, form, places = found.groups()
        frequency = None if omega is None else _float(omega)
        return cls(kind, group or "", tuple(_places(places)), frequency, form or "")


def is_unit_line(line: str) -> bool:
    """Whether a line of a specification is a unit symmetry: only places contain a ``]``."""
    return "]" in line.rpartition(":")[2]


def _places(text: str) -> Iterator[Place]:
    position, side = 0, 1
    while position < len(text.rstrip()):
        found = _PLACE.match(text, position)
        if not found:
            raise SpecError(
                f"cannot read '{text[position:].strip()}'; a place is 'tensor[axis]' or "
                "'tensor[axis,segment,factor]'"
            )
        if found[1]:
            side = -1
        else:
            yield _place(found, side)
        position = found.end()


def _place(found: re.Match[str], side: int) -> Place:
    _, tensor, axis, segment, factor, power, offset = found.groups()
    inside = int(segment or 0), int(factor or 0)
    exponent = side * int(power or 1)
    return Place(tensor, int(axis), *inside, exponent, _float(offset) if offset else 0.0)


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise SpecError(f"'{text}' is not a number") from None


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)


def check_units(
    units: Sequence[UnitSymmetry], occurrences: Mapping[str, Collection[tuple[str, int, int, int]]]
) -> None:
    """Raise `SpecError` unless units act where their groups do, and together form a group.

    ``occurrences`` are the places of every group.
    """
    offsets: dict[str, float] = {}
    for unit in units:
        if unit.group and unit.group not in occurrences:
            raise SpecError(f"{unit.head}: there is no group '{unit.group}'")
        for place in unit.places:
            # A rotation acts on fixed factors: `check_rotations`.
            if unit.kind != "rotation" and place[:4] not in occurrences[unit.group]:
                raise SpecError(f"{unit.head}: '{place}' is not a place where '{unit.group}' acts")
            # Actions on one tensor commute only around one common fixed point -c.
            if offsets.setdefault(place.tensor, place.offset) != place.offset:
                raise SpecError(
                    f"{unit.head}: '{place}' has another constant than {offsets[place.tensor]!r} "
                    "elsewhere"
                )
        if len({place[:4] for place in unit.places}) != len(unit.places):
            raise SpecError(f"{unit.head}: a place is given twice")
    _check_clashes(units)


def _check_clashes(units: Sequence[UnitSymmetry]) -> None:
    for phase in units:
        if phase.kind == "phase" and (other := next(clashes(phase, units), None)):
            raise SpecError(
                f"{phase.head}: '{other.head}' also acts where it shifts, and their products have "
                "no such form"
            )


def clashes(phase: UnitSymmetry, units: Sequence[UnitSymmetry]) -> Iterator[UnitSymmetry]:
    """Other symmetries that act on a tensor which the phase shifts.

    Signs of the same units at all its shifts are no clash: with them the shifts form a group.
    """
    shifted = {place[:4] for place in phase.places if place.exponent > 0}
    tensors = {tensor for tensor, *_ in shifted}
    for unit in units:
        here = {place[:4] for place in unit.places if place.tensor in tensors}
        own = unit is phase or (unit.kind == "sign" and unit.group == phase.group)
        # Matrices are composed with nothing but what acts on their own places.
        if here and not unit.mixes and not (own and here == shifted):
            yield unit


def check_rotations(
    units: Sequence[UnitSymmetry], axes: Mapping[str, Axes], per: Mapping[str, str | None]
) -> None:
    """Raise `SpecError` unless rotations act on fixed factors of one even size, behind their heads.

    ``axes`` are those of every tensor, ``per`` the group that each group is a family of.
    """
    for unit in units:
        if unit.kind == "rotation":
            sizes = {_rotary_size(unit, place, axes) for place in unit.places}
            if len(sizes) > 1 or any(size % 2 for size in sizes):
                raise SpecError(
                    f"{unit.head}: acts on factors of sizes {sorted(sizes)}; they must be even and "
                    "equal"
                )
            if unit.group and per[unit.group] is not None:
                raise SpecError(f"{unit.head}: its heads are a family; name '{per[unit.group]}'")


def _rotary_size(unit: UnitSymmetry, place: Place, axes: Mapping[str, Axes]) -> int:
    try:
        term = axes[place.tensor][place.axis][place.segment]
        size = term[place.factor]
    except (KeyError, IndexError):
        raise SpecError(f"{unit.head}: '{place}' is no place of a tensor") from None
    if not isinstance(size, int):
        raise SpecError(
            f"{unit.head}: '{place}' is group '{size}'; a rotation acts on a fixed factor"
        )
    if unit.group and unit.group not in term[: place.factor]:
        raise SpecError(
            f"{unit.head}: '{unit.group}' must stand before '{place}' in the same product"
        )
    return size
