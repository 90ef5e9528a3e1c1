"""The snippets of docs/specs.md run as they stand, in their order; its examples of the text are
read.
"""

import re
from pathlib import Path

import torch

import wsl
from wsl.cli import spec

PAGE = (Path(__file__).parent.parent / "docs" / "specs.md").read_text()


def test_every_snippet_runs(capsys):
    snippets = dict(re.findall(r"<!-- snippet: (\w+) -->\n```python\n(.*?)```", PAGE, re.DOTALL))
    assert list(snippets) == ["text", "verify", "json", "axes_to_perm", "names", "keys"]
    space = {"wsl": wsl, "torch": torch}
    for name, code in snippets.items():
        exec(compile(code, name, "exec"), space)
    assert capsys.readouterr().out == "0.weight: 7 5\n0.bias: 7\n2.weight: 3 7\n2.bias: 3\n"


def test_the_example_of_the_text_is_a_specification():
    text = re.search(r"```text\n(c1 = .*?)```", PAGE, re.DOTALL)[1]
    found = wsl.PermutationSpec.parse(text)
    assert found.groups == {"c1": 16, "h1": 32, "head": 4, "dk": 8}
    assert found.shapes["qk.weight"] == (64, 32)
    assert wsl.PermutationSpec.parse(str(found)) == found


def test_every_command_has_flags_that_there_are():
    commands = re.findall(r"^wsl spec (.*)$", PAGE, re.MULTILINE)
    assert len(commands) == 5
    parser = spec._parser()
    known = {flag for action in parser._actions for flag in action.option_strings}
    assert {
        flag for command in commands for flag in re.findall(r"(?<=\s)--?[a-z][\w-]*", command)
    } <= known
    assert set(re.findall(r"`(--[a-z-]+)", PAGE)) <= known
