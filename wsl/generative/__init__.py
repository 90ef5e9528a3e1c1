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
from wsl.generative.conditions import (
    AxisFeatures,
    DatasetEncoder,
    Episodes,
    LabelledExamples,
    TaskEmbedding,
    TaskSource,
    VariantTasks,
    VirtualClasses,
    contrastive_loss,
    examples_of,
    head_inputs,
    label_sets,
    solve_head,
    task_accuracy,
    task_logits,
    task_loss,
)
from wsl.generative.judge import (
    Judgement,
    Nearest,
    Trial,
    aligned_nearest,
    dispersion_ratio,
    judge,
    leave_one_out,
    max_iou,
    trial,
)
from wsl.generative.models import (
    GENERATORS,
    TASK_GENERATORS,
    GaussianGenerator,
    HyperNetwork,
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
    "GENERATORS",
    "INITIALIZERS",
    "TASK_GENERATORS",
    "AxisFeatures",
    "Behaviour",
    "Canonicalizer",
    "Condition",
    "DatasetEncoder",
    "DefaultStart",
    "Episodes",
    "FitReport",
    "GaussianGenerator",
    "GaussianStart",
    "GeneratedStart",
    "Generator",
    "HyperNetwork",
    "Initializer",
    "Judgement",
    "LabelledExamples",
    "LatentDiffusion",
    "MeanGenerator",
    "MeanStart",
    "Nearest",
    "NoiseGenerator",
    "NoiseStart",
    "Penalty",
    "RetrievalGenerator",
    "RetrievalStart",
    "RoundTripStart",
    "Standardizer",
    "Start",
    "TaskEmbedding",
    "TaskSource",
    "TrainingMembers",
    "Trial",
    "VariantTasks",
    "VectorDiffusion",
    "VirtualClasses",
    "WeightAutoencoder",
    "WeightCode",
    "WeightPCA",
    "aligned_nearest",
    "check_needs",
    "contrastive_loss",
    "dispersion_ratio",
    "examples_of",
    "gaussian_baseline",
    "head_inputs",
    "initialize",
    "is_generator",
    "judge",
    "label_sets",
    "leave_one_out",
    "max_iou",
    "mean_baseline",
    "noise_baseline",
    "retrieval_baseline",
    "round_trip",
    "solve_head",
    "starting_weights",
    "task_accuracy",
    "task_logits",
    "task_loss",
    "trial",
]
