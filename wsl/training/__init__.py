r"""Train neural functionals on zoos: objectives, augmentation, one minibatch loop, evaluation.

>>> import tempfile, torch, wsl
>>> spec = wsl.PermutationSpec.parse("h = 4\n0.weight: h 3\n2.weight: 2 h")
>>> models = [{n: torch.randn(shape) for n, shape in spec.shapes.items()} for _ in range(20)]
>>> network = wsl.nn.StatNet(spec, out_features=2, hidden=4)
>>> objective, settings = LabelClassification(classes=2), Settings(epochs=2, accelerator="cpu")
>>> with tempfile.TemporaryDirectory() as folder:
...     metadata = {"label": [0, 1] * 10}
...     zoo = wsl.Zoo.from_models(f"{folder}/zoo.h5", models, spec=spec, metadata=metadata)
...     trained = fit(network, zoo, objective, settings=settings)
...     scores, rows = evaluate(network, zoo, objective)
>>> len(trained.history), sorted(scores), sorted(rows)
(2, ['accuracy', 'cross_entropy'], ['prediction', 'row', 'target'])
"""

from __future__ import annotations

import importlib
from typing import Any

from wsl.training.augmentation import Variety, WeightAugmentation
from wsl.training.columns import learn_columns
from wsl.training.launch import alongside, is_first
from wsl.training.loop import (
    Descent,
    Fit,
    Hardware,
    LostRank,
    RandomRows,
    Ranks,
    Saved,
    Settings,
    evaluate,
    fit,
    progress_bar,
    recalibrate,
    training_rows,
)
from wsl.training.objectives import (
    ImageEdit,
    LabelClassification,
    Objective,
    ScoreRegression,
    check_labels,
)
from wsl.training.shipped import PRETRAINED, Pretrained, pretrained

settle = recalibrate  # its first name

__all__ = [
    "PRETRAINED",
    "Descent",
    "Fit",
    "Hardware",
    "ImageEdit",
    "LabelClassification",
    "LostRank",
    "Objective",
    "Pretrained",
    "RandomRows",
    "Ranks",
    "Saved",
    "ScoreRegression",
    "Settings",
    "Variety",
    "WeightAugmentation",
    "alongside",
    "check_labels",
    "evaluate",
    "fit",
    "is_first",
    "learn_columns",
    "pretrained",
    "progress_bar",
    "recalibrate",
    "settle",
    "training_rows",
]


def __getattr__(name: str) -> Any:
    if name == "optimize":
        return importlib.import_module("wsl.training.optimize")
    raise AttributeError(f"module 'wsl.training' has no attribute {name!r}")
