"""Learning to optimise: update rules that are functionals, meta-trained by evolution strategies."""

from wsl.training.optimize.meta import MetaSettings, meta_train
from wsl.training.optimize.problem import Problem, start, unroll
from wsl.training.optimize.rule import HandWritten, LearnedOptimizer, Training

__all__ = ["HandWritten", "LearnedOptimizer", "MetaSettings", "Problem", "Training", "meta_train", "start", "unroll"]
