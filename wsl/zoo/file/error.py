"""The one error of the zoo: a file, or what should go into one, is wrong."""

from __future__ import annotations


class ZooError(ValueError):
    """A zoo file, a checkpoint, or data meant for one is wrong.

    The message says what, where and how to fix it.
    """
