"""``wsl zoo look``: one page in which a population can be looked at, opened from disk."""

from wsl.cli.look.run import add_arguments, look

__all__ = ["add_arguments", "look"]
