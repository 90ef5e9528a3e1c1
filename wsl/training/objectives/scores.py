"""What a neural functional is trained to say about a checkpoint: a score, or a class label.

    score:  loss = BCE(sigma(f(theta)), y),    y in [0, 1]
    label:  loss = CE(f(theta), y),            y in 0 .. classes - 1

Scores: Unterthiner et al. (2020), arXiv 2002.11448; Zhou et al. (2023), arXiv 2302.14040. Labels:
Navon et al. (2023), arXiv 2301.12780.

An objective says its loss, its metrics, and the metric that decides the best epoch (higher is
better). `edit` has the one for networks that give weights.
"""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from wsl.metrics import accuracy, kendall_tau, r2
from wsl.zoo import Checkpoints


class Objective(Protocol):
    """What `fit` and `evaluate` need."""

    reads_zoo: ClassVar[bool]
    """Whether it is made from a zoo (``zoo``, ``data_root``), whose data it compares with."""

    @property
    def column(self) -> str:
        """Metadata column that is read: the target, or the number of a represented image."""
        ...

    @property
    def monitor(self) -> str:
        """Metric that decides the best epoch; higher is better."""
        ...

    @property
    def out_features(self) -> int | None:
        """Width of the network's output; None if it gives weights."""
        ...

    def losses(self, outputs: Any, metadata: Mapping[str, Tensor]) -> Tensor:
        """Loss (B,) of each row of outputs, which are (B, out_features), or weights (B, *shape)."""
        ...

    def rows(self, outputs: Any, metadata: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Columns (B,) that tell of each row, such as ``target`` and ``prediction``."""
        ...

    def metrics(self, outputs: Any, metadata: Mapping[str, Tensor]) -> dict[str, float]:
        """Metrics by name over a whole split."""
        ...


def check_labels(zoo: Checkpoints, objective: Objective) -> None:
    """Raise ValueError for rows of ``zoo`` without a value in the objective's column.

    A column that is not there is left to `column`, which says what there is.
    """
    if objective.column not in zoo.columns or zoo.table.dtype[objective.column].kind != "f":
        return
    missing = int(np.isnan(zoo.table[objective.column]).sum())
    if missing:
        raise ValueError(
            f"{zoo.path}: column '{objective.column}' is missing (NaN) in {missing} of {len(zoo)} "
            f"rows; leave them out with wsl zoo convert {shlex.quote(str(zoo.path))} --where "
            f"'{objective.column} > -1e38' -o NEW.h5, or in Python with zoo.where"
        )


@dataclasses.dataclass(frozen=True)
class ScoreRegression:
    """Predict a score in [0, 1], such as a checkpoint's test accuracy, through a sigmoid.

    monitor: what chooses the epoch on the validation split, ``kendall_tau`` or ``r2``. Of a handful
    of networks tau has so few values that an untrained epoch can have the best.
    """

    column: str = "test_accuracy"
    monitor: str = "kendall_tau"
    reads_zoo: ClassVar[bool] = False
    out_features: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if self.monitor not in ("kendall_tau", "r2"):
            raise ValueError(f"monitor: {self.monitor!r}, but kendall_tau or r2 is needed")

    def losses(self, outputs: Tensor, metadata: Mapping[str, Tensor]) -> Tensor:
        """Binary cross-entropy against the score."""
        return F.binary_cross_entropy_with_logits(
            outputs[:, 0], self._target(outputs, metadata), reduction="none"
        )

    def predict(self, outputs: Tensor) -> Tensor:
        """The predicted score."""
        return outputs[:, 0].sigmoid()

    def rows(self, outputs: Tensor, metadata: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """True and predicted score."""
        return {"target": column(metadata, self.column), "prediction": self.predict(outputs)}

    def metrics(self, outputs: Tensor, metadata: Mapping[str, Tensor]) -> dict[str, float]:
        """Kendall's tau-b, R2 and the mean absolute error."""
        guess, target = self.predict(outputs).double(), self._target(outputs, metadata).double()
        return {
            "kendall_tau": kendall_tau(guess, target),
            "r2": r2(guess, target),
            "mean_absolute_error": float((guess - target).abs().mean()),
        }

    def _target(self, outputs: Tensor, metadata: Mapping[str, Tensor]) -> Tensor:
        target = column(metadata, self.column).to(outputs)
        if target.isnan().any():
            raise ValueError(
                f"column '{self.column}' is missing (NaN) in {int(target.isnan().sum())} of "
                f"{len(target)} rows; leave such rows out, see zoo.where"
            )
        if not bool(((target >= 0) & (target <= 1)).all()):
            raise ValueError(
                f"column '{self.column}' leaves [0, 1], but a score regression needs it there; "
                "rescale the column"
            )
        return target


@dataclasses.dataclass(frozen=True)
class LabelClassification:
    """Predict a class label in 0..classes-1, such as the digit that a representation shows."""

    classes: int = 10
    column: str = "label"
    reads_zoo: ClassVar[bool] = False
    monitor: ClassVar[str] = "accuracy"

    @property
    def out_features(self) -> int:
        """One logit per class."""
        return self.classes

    def losses(self, outputs: Tensor, metadata: Mapping[str, Tensor]) -> Tensor:
        """Cross-entropy against the label."""
        return F.cross_entropy(outputs, self._target(outputs, metadata), reduction="none")

    def predict(self, outputs: Tensor) -> Tensor:
        """The most likely class."""
        return outputs.argmax(-1)

    def rows(self, outputs: Tensor, metadata: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """True and predicted label."""
        return {"target": column(metadata, self.column), "prediction": self.predict(outputs)}

    def metrics(self, outputs: Tensor, metadata: Mapping[str, Tensor]) -> dict[str, float]:
        """Accuracy and cross-entropy."""
        return {
            "accuracy": accuracy(outputs, self._target(outputs, metadata)),
            "cross_entropy": float(self.losses(outputs.double(), metadata).mean()),
        }

    def _target(self, outputs: Tensor, metadata: Mapping[str, Tensor]) -> Tensor:
        target = column(metadata, self.column).to(outputs.device, torch.long)
        if not bool(((target >= 0) & (target < self.classes)).all()):
            raise ValueError(
                f"column '{self.column}' leaves 0..{self.classes - 1}; set classes to the number "
                "of labels"
            )
        return target


def column(metadata: Mapping[str, Tensor], name: str) -> Tensor:
    """One metadata column; raises ValueError that lists the columns there are."""
    if name not in metadata:
        raise ValueError(
            f"the zoo has no numeric column '{name}'; it has {', '.join(sorted(metadata))}"
        )
    return metadata[name]
