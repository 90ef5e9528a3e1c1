"""One row per ATen operation: its axes rule, and its unit rule.

    rule(**arguments, at=context) -> value, or a list of values

The axes rule says which axis of the output is which axis of which input. ``arguments`` carry the
names of the operation's schema, with a tensor replaced by its `Value`, a tuple of axes; ``at`` says
which operation this is and the shapes it returns. A rule keeps the invariant of
`wsl.symmetry.discover.axes`: it unites axes that the operation pairs, passes axes that it maps
over, leaves out axes that it reduces by a symmetric function, and pins the rest.

The unit rule says what the operation does to a factor by which each unit is multiplied; `VANISH`
where there can be none. See `wsl.symmetry.discover.exponents`.

A new operation is one row in the file of its family; an operation without a row pins everything it
touches and is named in ``spec.pinned``.
"""

from wsl.symmetry.discover.rules import (
    attention,
    constants,
    contractions,
    convolutions,
    elementwise,
    frequencies,
    indexing,
    losses,
    matrices,
    normalizations,
    orders,
    positions,
    recurrent,
    reductions,
    shapes,
    spatial,
)
from wsl.symmetry.discover.rules.row import (
    AxesRule,
    OpContext,
    OpRules,
    OpTable,
    required,
    row,
)

FAMILIES = (
    attention.RULES,
    constants.RULES,
    contractions.RULES,
    convolutions.RULES,
    elementwise.RULES,
    frequencies.RULES,
    indexing.RULES,
    losses.RULES,
    matrices.RULES,
    normalizations.RULES,
    orders.RULES,
    positions.RULES,
    recurrent.RULES,
    reductions.RULES,
    shapes.RULES,
    spatial.RULES,
)
RULES: OpTable = {packet: rules for family in FAMILIES for packet, rules in family.items()}
NAMED = contractions.NAMED
"""Rows of operations that other libraries register, by their qualified names."""

LAZY = frozenset(
    {
        elementwise.elementwise,
        elementwise.same,
        shapes.reshape,
        shapes.permute,
        shapes.transpose,
        shapes.reverse,
        shapes.adjoint,
        shapes.movedim,
        shapes.expand,
        indexing.unbind,
        indexing.select,
    }
)
"""Axes rules that commute with taking one position of any axis: they may see factors that are not
yet decided.
"""

__all__ = [
    "FAMILIES",
    "LAZY",
    "NAMED",
    "RULES",
    "AxesRule",
    "OpContext",
    "OpRules",
    "OpTable",
    "required",
    "row",
]
