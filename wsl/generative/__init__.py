"""Generate weights: align, encode, diffuse; start training from what is drawn; judge it fairly.

A `Generator` learns from trained networks and is sampled from; an `Initializer` gives starting
weights; `judge` tries both beside baselines that learn nothing.

>>> import torch, wsl
>>> def network():
...     return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
>>> spec = wsl.permutation_spec(network(), torch.randn(1, 3))
>>> weights = wsl.params.stack([wsl.params.from_module(network()) for _ in range(20)])
>>> mean = wsl.generative.MeanGenerator(spec, conditions=0)
>>> mean.fit(weights).members
20
>>> mean.sample(5)["0.weight"].shape
torch.Size([5, 4, 3])
>>> wsl.generative.initialize(network(), mean, seed=1)[0].bias.shape
torch.Size([4])
"""

from wsl.generative.codes import (
    Behaviour,
    Canonicalizer,
    Penalty,
    Standardizer,
    WeightAutoencoder,
    WeightCode,
    WeightPCA,
)
from wsl.generative.conditions import Episodes, LabelledExamples, TaskSource
from wsl.generative.judge import (
    ARMS,
    CONDITION_ARMS,
    TAUS,
    Comparison,
    EqualNoveltyStart,
    GaussianCodeStart,
    InterpolationStart,
    Judgement,
    MeanConditionStart,
    Nearest,
    Novelty,
    RandomConditionStart,
    TaskJudgement,
    TaskTraining,
    TaskTrial,
    Trial,
    Verdict,
    WrongConditionStart,
    aligned_nearest,
    dispersion_ratio,
    judge,
    judge_tasks,
    leave_one_out,
    max_iou,
    nearest_mean_accuracy,
    ridge_accuracy,
    trial,
)
from wsl.generative.models import (
    GENERATORS,
    GaussianGenerator,
    LatentDiffusion,
    MeanGenerator,
    NoiseGenerator,
    RetrievalGenerator,
    VectorDiffusion,
    gaussian_baseline,
    mean_baseline,
    noise_baseline,
    retrieval_baseline,
)
from wsl.generative.problem import (
    Condition,
    FitReport,
    Generator,
    Initializer,
    Start,
    TrainingMembers,
    check_needs,
    is_generator,
    reads_examples,
)
from wsl.generative.starts import (
    INITIALIZERS,
    DefaultStart,
    GaussianStart,
    GeneratedStart,
    MeanStart,
    NoiseStart,
    RetrievalStart,
    RoundTripStart,
    initialize,
    round_trip,
    starting_weights,
)

__all__ = [
    "ARMS",
    "CONDITION_ARMS",
    "GENERATORS",
    "INITIALIZERS",
    "TAUS",
    "Behaviour",
    "Canonicalizer",
    "Comparison",
    "Condition",
    "DefaultStart",
    "Episodes",
    "EqualNoveltyStart",
    "FitReport",
    "GaussianCodeStart",
    "GaussianGenerator",
    "GaussianStart",
    "GeneratedStart",
    "Generator",
    "Initializer",
    "InterpolationStart",
    "Judgement",
    "LabelledExamples",
    "LatentDiffusion",
    "MeanConditionStart",
    "MeanGenerator",
    "MeanStart",
    "Nearest",
    "NoiseGenerator",
    "NoiseStart",
    "Novelty",
    "Penalty",
    "RandomConditionStart",
    "RetrievalGenerator",
    "RetrievalStart",
    "RoundTripStart",
    "Standardizer",
    "Start",
    "TaskJudgement",
    "TaskSource",
    "TaskTraining",
    "TaskTrial",
    "TrainingMembers",
    "Trial",
    "VectorDiffusion",
    "Verdict",
    "WeightAutoencoder",
    "WeightCode",
    "WeightPCA",
    "WrongConditionStart",
    "aligned_nearest",
    "check_needs",
    "dispersion_ratio",
    "gaussian_baseline",
    "initialize",
    "is_generator",
    "judge",
    "judge_tasks",
    "leave_one_out",
    "max_iou",
    "mean_baseline",
    "nearest_mean_accuracy",
    "noise_baseline",
    "reads_examples",
    "retrieval_baseline",
    "ridge_accuracy",
    "round_trip",
    "starting_weights",
    "trial",
]
