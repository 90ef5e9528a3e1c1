"""One rule per ATen operation: which axis of the output is which axis of which input.

    rule(**arguments, at=call) -> value, or a list of values

``arguments`` carry the names of the operation's schema, with a tensor replaced by its `Value`, a
tuple of axes; ``at`` says which operation this is and the shapes it returns. A rule keeps the
invariant of `wsl.symmetry.discover.axes`: it unites axes that the operation pairs, passes axes that
it maps over, leaves out axes that it reduces by a symmetric function, and pins the rest. A new
operation is a new row; an operation without a row pins everything it touches and is named in
``spec.pinned``.
"""

import torch

from wsl.symmetry.discover.rules import (
    attention,
    constants,
    contractions,
    convolutions,
    elementwise,
    frequencies,
    indexing,
    normalizations,
    orders,
    places,
    recurrent,
    reductions,
    shapes,
    spatial,
)
from wsl.symmetry.discover.rules.call import Call, Operand, Rule, Rules, is_value, required
from wsl.symmetry.discover.rules.libraries import NAMED

RULES: Rules = {
    **attention.RULES,
    **constants.RULES,
    **contractions.RULES,
    **convolutions.RULES,
    **elementwise.RULES,
    **frequencies.RULES,
    **indexing.RULES,
    **normalizations.RULES,
    **orders.RULES,
    **places.RULES,
    **recurrent.RULES,
    **reductions.RULES,
    **shapes.RULES,
    **spatial.RULES,
}

LAZY = frozenset(
    RULES[getattr(torch.ops.aten, name)]
    for name in [
        "relu",
        "clone",
        "view",
        "permute",
        "transpose",
        "t",
        "mT",
        "movedim",
        "expand",
        "unbind",
        "select",
    ]
)
"""Rules that commute with taking one position of any axis: they may see factors that are not yet
decided.
"""

__all__ = ["LAZY", "NAMED", "RULES", "Call", "Operand", "Rule", "Rules", "is_value", "required"]
