"""What a network is wanted for: labelled examples of a task, and where tasks come from."""

from wsl.generative.conditions.axes import AxisFeatures
from wsl.generative.conditions.encoder import (
    DatasetEncoder,
    Features,
    TaskEmbedding,
    contrastive_loss,
)
from wsl.generative.conditions.examples import (
    Episodes,
    LabelledExamples,
    TaskSource,
    class_statistics,
)
from wsl.generative.conditions.loss import task_accuracy, task_logits, task_loss
from wsl.generative.conditions.ridge import (
    head_inputs,
    head_problem,
    ridge,
    solve_head,
    with_head,
)
from wsl.generative.conditions.variants import VariantTasks, examples_of, label_sets
from wsl.generative.conditions.virtual import VirtualClasses

__all__ = [
    "AxisFeatures",
    "DatasetEncoder",
    "Episodes",
    "Features",
    "LabelledExamples",
    "TaskEmbedding",
    "TaskSource",
    "VariantTasks",
    "VirtualClasses",
    "class_statistics",
    "contrastive_loss",
    "examples_of",
    "head_inputs",
    "head_problem",
    "label_sets",
    "ridge",
    "solve_head",
    "task_accuracy",
    "task_logits",
    "task_loss",
    "with_head",
]
