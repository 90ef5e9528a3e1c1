"""Learning to optimise: update rules that are functionals, meta-trained by evolution strategies."""

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
