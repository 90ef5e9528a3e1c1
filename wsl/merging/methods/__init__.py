"""Methods of merging: each one file, with its source and its limits."""

from collections.abc import Mapping
from types import MappingProxyType

from wsl.merging.methods.atlas import ATLAS
from wsl.merging.methods.average import Average, average
from wsl.merging.methods.checkpoint_decay import CheckpointDecay
from wsl.merging.methods.fisher import Fisher
from wsl.merging.methods.gradient_matching import GradientMatching
from wsl.merging.methods.iso import IsoC, IsoCTS
from wsl.merging.methods.karcher import Karcher
from wsl.merging.methods.method import MergeMethod
from wsl.merging.methods.model_stock import ModelStock
from wsl.merging.methods.multislerp import MultiSlerp
from wsl.merging.methods.nuslerp import NuSlerp
from wsl.merging.methods.pcb import PCB
from wsl.merging.methods.regmean import RegMean
from wsl.merging.methods.sce import SCE
from wsl.merging.methods.slerp import Slerp
from wsl.merging.methods.soup import BCWI, GreedySoup
from wsl.merging.methods.sparse import DARE, DELLA, Breadcrumbs
from wsl.merging.methods.task_arithmetic import TaskArithmetic
from wsl.merging.methods.ties import TIES
from wsl.merging.methods.tsvm import TSVM

METHODS: Mapping[str, type] = MappingProxyType(
    {
        "average": Average,
        "greedy_soup": GreedySoup,
        "bcwi": BCWI,
        "slerp": Slerp,
        "nuslerp": NuSlerp,
        "multislerp": MultiSlerp,
        "karcher": Karcher,
        "fisher": Fisher,
        "regmean": RegMean,
        "model_stock": ModelStock,
        "task_arithmetic": TaskArithmetic,
        "ties": TIES,
        "dare": DARE,
        "della": DELLA,
        "breadcrumbs": Breadcrumbs,
        "sce": SCE,
        "pcb": PCB,
        "gradient_matching": GradientMatching,
        "atlas": ATLAS,
        "tsvm": TSVM,
        "iso_c": IsoC,
        "iso_cts": IsoCTS,
        "checkpoint_decay": CheckpointDecay,
    }
)
"""Every method by its name on the command line; tests and documentation go through them."""

__all__ = [
    "ATLAS",
    "BCWI",
    "DARE",
    "DELLA",
    "METHODS",
    "PCB",
    "SCE",
    "TIES",
    "TSVM",
    "Average",
    "Breadcrumbs",
    "CheckpointDecay",
    "Fisher",
    "GradientMatching",
    "GreedySoup",
    "IsoC",
    "IsoCTS",
    "Karcher",
    "MergeMethod",
    "ModelStock",
    "MultiSlerp",
    "NuSlerp",
    "RegMean",
    "Slerp",
    "TaskArithmetic",
    "average",
]
