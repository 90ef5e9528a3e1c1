"""What a network is wanted for: labelled examples of a task, and where tasks come from."""

from wsl.generative.conditions.examples import Episodes, LabelledExamples, TaskSource

__all__ = ["Episodes", "LabelledExamples", "TaskSource"]
