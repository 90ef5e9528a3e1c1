"""Starting weights for training."""

from wsl.generative.starts.initialize import initialize

__all__ = [
    "initialize",
]
