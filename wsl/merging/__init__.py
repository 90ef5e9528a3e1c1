"""Combine networks: align, merge by a method, repair, and measure what lies between them.

>>> import torch, wsl
>>> spec = wsl.PermutationSpec.parse("h = 2\\nin.weight: h 1\\nout.weight: 1 h")
>>> a = {"in.weight": torch.tensor([[1.0], [4.0]]), "out.weight": torch.tensor([[1.0, 2.0]])}
>>> b = wsl.Permutation.random(spec, torch.Generator().manual_seed(0))(a)
>>> merged = merge([a, b], Average(weights=[3, 1]), spec=spec)
>>> merged.params["in.weight"].tolist(), merged.report["converged"]
([[1.0], [4.0]], [True])
"""

from wsl.connectivity import (
    Evaluate,
    PathLosses,
    accuracy_barrier,
    lerp,
    loss_barrier,
    mean_barrier,
    path_losses,
    reset_batch_norm,
)
from wsl.merging.computed import masked, renewed, spectral_norms
from wsl.merging.interference import Interference, input_gradient_distances, interference
from wsl.merging.measured import Measured, WithStatistics
from wsl.merging.mending import Mend
from wsl.merging.merge import Merged, align, merge
from wsl.merging.methods import (
    ATLAS,
    BCWI,
    DARE,
    DELLA,
    METHODS,
    PCB,
    SCE,
    TIES,
    TSVM,
    Average,
    Breadcrumbs,
    CheckpointDecay,
    Fisher,
    GradientMatching,
    GreedySoup,
    IsoC,
    IsoCTS,
    Karcher,
    MergeMethod,
    ModelStock,
    MultiSlerp,
    NuSlerp,
    RegMean,
    Slerp,
    TaskArithmetic,
    average,
)
from wsl.merging.report import MergeReport, merge_report
from wsl.merging.statistics import (
    STATISTICS,
    fisher,
    input_products,
    load_statistics,
    save_statistics,
)
from wsl.merging.transfusion import Transfused, head_groups, spectral_heads, transfuse
from wsl.merging.tune import Tuned, tune
from wsl.zoo import codecs

__all__ = [
    "ATLAS",
    "BCWI",
    "DARE",
    "DELLA",
    "METHODS",
    "PCB",
    "SCE",
    "STATISTICS",
    "TIES",
    "TSVM",
    "Average",
    "Breadcrumbs",
    "CheckpointDecay",
    "Evaluate",
    "Fisher",
    "GradientMatching",
    "GreedySoup",
    "Interference",
    "IsoC",
    "IsoCTS",
    "Karcher",
    "Measured",
    "Mend",
    "MergeMethod",
    "MergeReport",
    "Merged",
    "ModelStock",
    "MultiSlerp",
    "NuSlerp",
    "PathLosses",
    "RegMean",
    "Slerp",
    "TaskArithmetic",
    "Transfused",
    "Tuned",
    "WithStatistics",
    "accuracy_barrier",
    "align",
    "average",
    "codecs",
    "fisher",
    "head_groups",
    "input_gradient_distances",
    "input_products",
    "interference",
    "lerp",
    "load_statistics",
    "loss_barrier",
    "masked",
    "mean_barrier",
    "merge",
    "merge_report",
    "path_losses",
    "renewed",
    "reset_batch_norm",
    "save_statistics",
    "spectral_heads",
    "spectral_norms",
    "transfuse",
    "tune",
]
