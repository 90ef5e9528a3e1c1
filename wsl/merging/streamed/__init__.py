"""Merges of checkpoints that do not fit into memory: planned from headers, made tensor by tensor.

>>> import torch
>>> from wsl.merging import Average
>>> a, b = {"w": torch.zeros(2, 3)}, {"w": torch.ones(2, 3)}
>>> [step] = steps([a, b], Average())
>>> torch.cat(list(results([step], threads=2))).tolist()
[[0.5, 0.5, 0.5], [0.5, 0.5, 0.5]]
"""

from wsl.merging.streamed.files import layout
from wsl.merging.streamed.memory import keep_freed_memory
from wsl.merging.streamed.run import THREADS, Cost, cost, results
from wsl.merging.streamed.step import Step, alike, by_tensor, steps

__all__ = [
    "THREADS",
    "Cost",
    "Step",
    "alike",
    "by_tensor",
    "cost",
    "keep_freed_memory",
    "layout",
    "results",
    "steps",
]
