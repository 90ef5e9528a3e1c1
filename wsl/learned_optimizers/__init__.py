"""Learning to optimise: update rules that are functionals, meta-trained by evolution strategies.

>>> import torch, wsl
>>> def make():
...     return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
>>> problem = Problem(make, torch.randn(20, 3), torch.arange(20) % 2, batch_size=4)
>>> rule = LearnedOptimizer.from_spec(wsl.permutation_spec(make(), torch.zeros(1, 3)), hidden=4)
>>> settings = MetaSettings(iterations=2, pairs=2, window=2, horizon=4)
>>> history = meta_train(rule, problem, settings=settings)
>>> [sorted(row) for row in history]
[['gradient_norm', 'iteration', 'loss'], ['gradient_norm', 'iteration', 'loss']]
"""

from wsl.learned_optimizers.meta import MetaSettings, meta_train
from wsl.learned_optimizers.problem import Problem, start, unroll
from wsl.learned_optimizers.rule import HandWritten, LearnedOptimizer, Training

__all__ = [
    "HandWritten",
    "LearnedOptimizer",
    "MetaSettings",
    "Problem",
    "Training",
    "meta_train",
    "start",
    "unroll",
]
