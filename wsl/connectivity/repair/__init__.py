"""Repair of merged networks: what averaging does to the statistics of their activations."""

from wsl.connectivity.repair.batch_norm import reset_batch_norm

__all__ = ["reset_batch_norm"]
