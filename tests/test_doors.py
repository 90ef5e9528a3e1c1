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


def with_examples():
    """Public names whose own docstrings show how they are used."""
    for door in DOORS:
        module = importlib.import_module(door)
        for name in getattr(module, "__all__", ()):
            thing = getattr(module, name)
            if callable(thing) and ">>>" in (getattr(thing, "__doc__", None) or ""):
                yield pytest.param(thing, id=f"{door}.{name}")


@pytest.mark.parametrize("thing", list(with_examples()))
def test_what_a_public_name_shows_is_true(thing):
    module, said = importlib.import_module(thing.__module__), []
    shown = {**vars(module)}
    test = doctest.DocTestParser().get_doctest(thing.__doc__, shown, thing.__name__, None, 0)
    failed, _ = doctest.DocTestRunner(verbose=False).run(test, out=said.append)
    assert failed == 0, "".join(said)


@pytest.mark.parametrize("room", PUBLIC)
def test_a_public_door_shows_an_example(room):
    name = f"wsl.{room}".rstrip(".")
    assert examples(name).examples, f"{name} has no example in its docstring"
