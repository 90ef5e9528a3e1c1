"""The YAML of mergekit, read and run: methods, slices, filters, gradients over depth.

>>> import torch
>>> told = parse('''
... merge_method: task_arithmetic
... base_model: base
... models:
...   - {model: a, parameters: {weight: [0, 1]}}
... ''')
>>> told.models, told.base
(('a',), 'base')
>>> members = [{f"layers.{i}.w": torch.ones(1) for i in range(3)}]
>>> base = {f"layers.{i}.w": torch.zeros(1) for i in range(3)}
>>> {n: float(t) for n, t in MergekitMerge(told).solve(members, base=base).items()}
{'layers.0.w': 0.0, 'layers.1.w': 0.5, 'layers.2.w': 1.0}
"""

from wsl.merging.mergekit.config import MergekitConfig, parse
from wsl.merging.mergekit.solve import MergekitMerge

__all__ = ["MergekitConfig", "MergekitMerge", "parse"]
