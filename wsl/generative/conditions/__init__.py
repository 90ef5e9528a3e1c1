"""What a network is wanted for: labelled examples of a task, and where tasks come from."""

from wsl.generative.conditions.axes import AxisFeatures
from wsl.generative.conditions.encoder import DatasetEncoder, TaskEmbedding, contrastive_loss
from wsl.generative.conditions.examples import Episodes, LabelledExamples, TaskSource
from wsl.generative.conditions.loss import task_accuracy, task_logits, task_loss
from wsl.generative.conditions.variants import VariantTasks, examples_of, label_sets

__all__ = [
    "AxisFeatures",
    "DatasetEncoder",
    "Episodes",
    "LabelledExamples",
    "TaskEmbedding",
    "TaskSource",
    "VariantTasks",
    "contrastive_loss",
    "examples_of",
    "label_sets",
    "task_accuracy",
    "task_logits",
    "task_loss",
]
