"""``wsl check A B ...``: what two or more checkpoints have to do with each other, on one screen."""

from wsl.cli.check.run import run

__all__ = ["run"]
