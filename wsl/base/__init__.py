"""What knows nothing of weights: atomic files, counter-based randomness, compiled functions.

>>> did_you_mean("momentun", ["momentum", "lr"])
" (did you mean 'momentum'?)"
"""

from wsl.base.atomic import explained, locked, replacing, sync
from wsl.base.compiled import Engine, cost, pays, warn_uncompiled
from wsl.base.progress import Progress
from wsl.base.suggest import did_you_mean
from wsl.base.tables import write_csv

__all__ = [
    "Engine",
    "Progress",
    "cost",
    "did_you_mean",
    "explained",
    "locked",
    "pays",
    "replacing",
    "sync",
    "warn_uncompiled",
    "write_csv",
]
