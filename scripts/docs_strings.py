"""Docstrings as Markdown: examples and formulas become blocks of code.

An extension of griffe, which reads the sources for `make docs`. Docstrings show an example as
``>>>`` lines, an equation indented by four and an argument as ``name: what it is``; in Markdown
the first would be a quotation.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

_BLOCKS = re.compile(r"\n\s*\n")
_FIELD = re.compile(r"^(\w+(?:, \w+)*): ")
"""How a line begins that says what an argument is."""


def as_markdown(text: str) -> str:
    """The same text with examples and indented blocks in fences, and arguments as a list."""
    return "\n\n".join(_fenced(block) for block in _BLOCKS.split(text))


def _fenced(block: str) -> str:
    lines = block.split("\n")
    if lines[0].startswith(">>>"):
        return "\n".join(["```pycon", *lines, "```"])
    if all(line.startswith("    ") for line in lines):
        return "\n".join(["```text", *(line[4:] for line in lines), "```"])
    if _FIELD.match(lines[0]):
        return "\n".join(_FIELD.sub(r"- **\1**: ", line) for line in lines)
    return block


class Fences(griffe.Extension):
    """Applies `as_markdown` to every docstring that is read."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Change the text in place."""
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)
