"""Generators of weights: diffusion, what it is built from, and those that learn nothing."""

from wsl.generative.models.baselines import (
    GaussianGenerator,
    MeanGenerator,
    NoiseGenerator,
    RetrievalGenerator,
    gaussian_baseline,
    mean_baseline,
    noise_baseline,
    retrieval_baseline,
)
from wsl.generative.models.equivariant import EquivariantDenoiser
from wsl.generative.models.graph_hyper_network import GraphHyperNetwork
from wsl.generative.models.hyper_network import HyperNetwork
from wsl.generative.models.latent_diffusion import FlowMatching, LatentDiffusion
from wsl.generative.models.noise import D2NWG, P_DIFF, NoiseSchedule
from wsl.generative.models.own_task import OwnTaskLoss
from wsl.generative.models.samplers import (
    DDIM,
    DDPM,
    DiffusionSampler,
    DPMSolver,
    EulerSteps,
    HeunSteps,
    RungeKutta,
)
from wsl.generative.models.task_diffusion import TaskDiffusion
from wsl.generative.models.vector_diffusion import VectorDiffusion
from wsl.generative.models.vector_flow import VectorFlow
from wsl.generative.models.vectors import VectorModel, VectorTraining
from wsl.generative.models.watch import NoveltyWatch, Watched
from wsl.generative.models.weight_diffusion import WeightDiffusion

GENERATORS = {
    "latent_diffusion": LatentDiffusion,
    "flow_matching": FlowMatching,
    "weight_diffusion": WeightDiffusion,
    "retrieval": RetrievalGenerator,
    "noise": NoiseGenerator,
    "gaussian": GaussianGenerator,
    "mean": MeanGenerator,
}
"""Every generator by its name; each is made from (spec, seed=...)."""

TASK_GENERATORS = {"hyper_network": HyperNetwork, "task_diffusion": TaskDiffusion}
"""Those that answer for a task, asked with `LabelledExamples` and never without."""

ARCHITECTURE_GENERATORS = {"graph_hyper_network": GraphHyperNetwork}
"""Those that answer for an architecture: ``at(spec)`` is one for another."""

__all__ = [
    "ARCHITECTURE_GENERATORS",
    "D2NWG",
    "DDIM",
    "DDPM",
    "GENERATORS",
    "P_DIFF",
    "TASK_GENERATORS",
    "DPMSolver",
    "DiffusionSampler",
    "EquivariantDenoiser",
    "EulerSteps",
    "FlowMatching",
    "GaussianGenerator",
    "GraphHyperNetwork",
    "HeunSteps",
    "HyperNetwork",
    "LatentDiffusion",
    "MeanGenerator",
    "NoiseGenerator",
    "NoiseSchedule",
    "NoveltyWatch",
    "OwnTaskLoss",
    "RetrievalGenerator",
    "RungeKutta",
    "TaskDiffusion",
    "VectorDiffusion",
    "VectorFlow",
    "VectorModel",
    "VectorTraining",
    "Watched",
    "WeightDiffusion",
    "gaussian_baseline",
    "mean_baseline",
    "noise_baseline",
    "retrieval_baseline",
]
