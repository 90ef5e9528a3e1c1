"""One rule per ATen operation: which axis of the output is which axis of which input.

    rule(**arguments, at=call) -> value, or a list of values

``arguments`` carry the names of the operation's schema, with a tensor replaced by its `Value`, a tuple of axes; ``at`` says
which operation this is and the shapes it returns. A rule keeps the invariant of `wsl.symmetry.axes`: it unites axes that the
operation pairs, passes axes that it maps over, leaves out axes that it reduces by a symmetric function, and pins the rest.
A new operation is a new row; an operation without a row pins everything it touches and is named in ``spec.pinned``.
"""

from wsl.symmetry.rules import (
    constants,
    contractions,
    convolutions,
    elementwise,
    indexing,
    normalizations,
    reductions,
    shapes,
    spatial,
)
from wsl.symmetry.rules.call import Call, Rule, Rules

RULES: Rules = {
    **constants.RULES,
    **contractions.RULES,
    **convolutions.RULES,
    **elementwise.RULES,
    **indexing.RULES,
    **normalizations.RULES,
    **reductions.RULES,
    **shapes.RULES,
    **spatial.RULES,
}

__all__ = ["RULES", "Call", "Rule", "Rules"]
