"""Every door of the package shows how it is used, and what it shows is true."""

import doctest
import importlib

import pytest
from paths import ROOT

import wsl

PUBLIC = ["", *(name for name in wsl.__all__ if name == "params" or (ROOT / "wsl" / name).is_dir())]
"""The package, its rooms, and weights themselves; the command line shows itself in the README."""
DOORS = sorted(
    {
        *(".".join(p.relative_to(ROOT).parts[:-1]) for p in (ROOT / "wsl").rglob("__init__.py")),
        "wsl.params",
    }
)


def examples(name):
    module = importlib.import_module(name)
    names = dict(vars(module))
    return doctest.DocTestParser().get_doctest(module.__doc__, names, name, module.__file__, 0)


@pytest.mark.parametrize("name", DOORS)
def test_what_a_door_shows_is_true(name):
    said = []
    failed, _ = doctest.DocTestRunner(verbose=False).run(examples(name), out=said.append)
    assert failed == 0, "".join(said)


@pytest.mark.parametrize("room", PUBLIC)
def test_a_public_door_shows_an_example(room):
    name = f"wsl.{room}".rstrip(".")
    assert examples(name).examples, f"{name} has no example in its docstring"
