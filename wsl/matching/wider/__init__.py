"""Merge networks into one of other sizes: wider than its parents, of parents of unequal widths.

    clusters    which units are merged, and which stay apart
    widen       the wide network of aligned ones
    transport   a network at another's widths
    deepen      a residual network with more blocks, which do nothing

>>> import torch, wsl
>>> spec = wsl.PermutationSpec.parse("h = 2\\nin.weight: h 1\\nout.weight: 1 h")
>>> a = {"in.weight": torch.tensor([[1.0], [4.0]]), "out.weight": torch.tensor([[1.0, 2.0]])}
>>> b = {"in.weight": torch.tensor([[1.0], [8.0]]), "out.weight": torch.tensor([[1.0, 6.0]])}
>>> wide = widen(spec, [a, b], extra=0.5)
>>> wide.spec.groups["h"], wide.params["in.weight"].tolist(), wide.params["out.weight"].tolist()
(3, [[1.0], [4.0], [8.0]], [[1.0, 1.0, 3.0]])
"""

from wsl.matching.wider.clusters import Clusters, cluster, unit_features
from wsl.matching.wider.deepen import deepen
from wsl.matching.wider.sides import written_axes
from wsl.matching.wider.transport import Transported, optimal_plan, transport
from wsl.matching.wider.widen import Widened, widen

__all__ = [
    "Clusters",
    "Transported",
    "Widened",
    "cluster",
    "deepen",
    "optimal_plan",
    "transport",
    "unit_features",
    "widen",
    "written_axes",
]
