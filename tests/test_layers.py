"""The architecture: who may import whom, which names are whose, and how long a function may be.

Every rule is a table at the top; DESIGN gives the reasons. Lengths are counted in tokens of code,
since lines can hide what they hold: the body of a function, without comments, docstring, line
ends and indentation.
"""

import ast
import collections
import functools
import io
import itertools
import statistics
import subprocess
import sys
import tokenize
from pathlib import Path

import pytest
from paths import ROOT as PROJECT

ROOT = PROJECT / "wsl"
LAYERS = {
    **dict.fromkeys(["params", "base"], 0),
    "symmetry": 1,
    **dict.fromkeys(["zoo", "nn", "matching", "metrics", "testing"], 2),
    **dict.fromkeys(["populations", "connectivity", "augment", "diagnostics"], 3),
    **dict.fromkeys(["training", "merging"], 4),
    **dict.fromkeys(["generative", "learned_optimizers", "plots"], 5),
    "cli": 6,
    "__main__": 7,
}
CONFINED = {
    "hydra": ["cli/"],
    "omegaconf": ["cli/"],
    "h5py": ["zoo/"],
    "scipy.optimize": ["matching/"],
    "lap": ["matching/"],
    "torch_geometric": ["nn/functionals/graph.py"],
    "matplotlib": ["plots/"],
    "plotly": ["cli/look/page.py"],
    "lightning_fabric": ["training/"],
    "diffusers": ["generative/"],
    "sklearn": ["zoo/", "populations/", "nn/", "diagnostics/population/maps.py"],  # t-SNE
    "huggingface_hub": ["zoo/sources/"],
}
MEDIAN, P90, LONGEST = 60, 120, 300
"""Tokens of a function: the middle one, nine of ten, and the longest that is not a table."""
PARAMETERS, POSITIONAL = 7, 3
FILES = sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")
SKIPPED = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}


def room(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def module(path: Path) -> tuple[str, ...]:
    parts = path.relative_to(PROJECT).with_suffix("").parts
    return parts[:-1] if parts[-1] == "__init__" else parts


def folder(path: Path) -> tuple[str, ...]:
    return path.relative_to(PROJECT).parent.parts


@functools.cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@functools.cache
def imports(path: Path) -> tuple[tuple[str, str], ...]:
    """Module and name of everything that a file imports, at its head or inside of functions."""
    found = []
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found += [(alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: write absolute imports"
            found += [(str(node.module), alias.name) for alias in node.names]
    return tuple(found)


MODULES = {module(path): path for path in [*FILES, ROOT / "__init__.py"]}


def target(source: str, name: str) -> tuple[str, ...]:
    """The module of the package that an import reaches: a submodule, or the module itself."""
    parts = tuple(source.split("."))
    return (*parts, name) if (*parts, name) in MODULES else parts


def named(path):
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", FILES, ids=named)
def test_a_module_imports_only_from_lower_layers(path):
    mine = room(path)
    assert mine in LAYERS, f"{mine} has no layer; add it to DESIGN and to this table"
    for source, name in imports(path):
        parts = target(source, name)
        if parts[0] == "wsl" and parts[1:] and parts[1] in LAYERS and parts[1] != mine:
            assert LAYERS[parts[1]] < LAYERS[mine], (
                f"{path} ({mine}) may not import {source}.{name}"
            )


@pytest.mark.parametrize("path", FILES, ids=named)
def test_third_parties_stay_in_their_room(path):
    where = path.relative_to(ROOT).as_posix()
    for source, name in imports(path):
        for package, rooms in CONFINED.items():
            if f"{source}.{name}.".startswith(package + "."):
                assert any(map(where.startswith, rooms)), f"{where} imports {package}: {rooms} may"


@pytest.mark.parametrize("path", FILES, ids=named)
def test_folders_are_entered_by_their_door(path):
    """A file imports from its own folder and those above it by file, from any other by its door."""
    mine = folder(path)
    for source, name in imports(path):
        parts = tuple(source.split("."))
        if parts[0] != "wsl" or parts == ("wsl",):
            continue
        common = sum(
            1 for _ in itertools.takewhile(lambda p: p[0] == p[1], zip(mine, parts, strict=False))
        )
        assert len(parts) <= common + 1, (
            f"{path}: import {name} from {'.'.join(parts[: common + 1])}"
        )
        if len(parts) > common and MODULES[parts].name == "__init__.py":
            assert not name.startswith("_"), f"{path}: {source}.{name} is private"


def test_no_folder_holds_a_circle():
    """Files and folders side by side import each other in one direction only."""
    arrows = collections.defaultdict(set)
    for path in FILES:
        if path.name == "__init__.py":
            continue
        for source, name in imports(path):
            there = target(source, name)
            if there[0] != "wsl":
                continue
            here = module(path)
            common = sum(
                1
                for _ in itertools.takewhile(lambda p: p[0] == p[1], zip(here, there, strict=False))
            )
            if common < min(len(here), len(there)):
                arrows[here[:common], here[common]].add((here[:common], there[common]))
    for start in list(arrows):
        reached, waiting = set(), [start]
        while waiting:
            for nxt in arrows.get(waiting.pop(), ()):
                assert nxt != start, f"{start} is part of a circle of imports"
                if nxt not in reached:
                    reached.add(nxt)
                    waiting.append(nxt)


def test_no_public_class_name_stands_twice():
    owners = collections.defaultdict(list)
    for path in FILES:
        for node in tree(path).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                owners[node.name].append(named(path))
    assert {name: where for name, where in owners.items() if len(where) > 1} == {}


def test_every_door_exports_what_it_lists_and_nothing_private():
    for path in FILES:
        if path.name == "__init__.py":
            lists = [
                n
                for n in tree(path).body
                if isinstance(n, ast.Assign) and n.targets[0].id == "__all__"
            ]
            assert lists, f"{path}: a door lists its names in __all__"
            names = ast.literal_eval(lists[0].value)
            assert not [name for name in names if name.startswith("_")], path


def code_tokens(path):
    """Tokens of code; an f-string is one, as it was to Python before 3.12."""
    start, end = (getattr(tokenize, f"FSTRING_{part}", None) for part in ("START", "END"))
    depth = 0
    for t in tokenize.generate_tokens(io.StringIO(path.read_text()).readline):
        depth -= t.type == end
        if t.type not in SKIPPED and t.type != end and not depth:
            yield t
        depth += t.type == start


def functions():
    """Name, tokens and arguments of every function; the docstring does not count."""
    for path in FILES:
        tokens = list(code_tokens(path))
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.FunctionDef):
                body = node.body[1:] if ast.get_docstring(node) is not None else node.body
                start = (body[0].lineno, body[0].col_offset) if body else (node.end_lineno + 1, 0)
                count = sum(start <= t.start and t.start[0] <= node.end_lineno for t in tokens)
                yield f"{named(path)}:{node.lineno} {node.name}", count, node.args


def test_functions_are_short():
    counts = {name: count for name, count, _ in functions()}
    assert {name: n for name, n in counts.items() if n > LONGEST} == {}
    assert statistics.median(counts.values()) <= MEDIAN
    assert statistics.quantiles(counts.values(), n=10)[-1] <= P90


def test_functions_take_few_arguments():
    """What belongs together is a value: seven in all, three of them by position.

    Op rules take the arguments of the operation's schema, torch's own hooks those that torch
    passes; a constructor may name more than seven hyper-parameters, as a dataclass may have fields.
    """
    many = {}
    for name, _, arguments in functions():
        place, function = name.split()
        if place.startswith("symmetry/discover/rules/") or function.startswith("__torch_"):
            continue
        own = [
            a.arg for a in [*arguments.posonlyargs, *arguments.args] if a.arg not in ("self", "cls")
        ]
        keywords = 0 if function == "__init__" else len(arguments.kwonlyargs)
        most = POSITIONAL + (place.startswith("matching/problem.py") and function == "match")
        if len(own) + keywords > PARAMETERS or len(own) > most:
            many[name] = (len(own), len(arguments.kwonlyargs))
    assert many == {}


def test_import_is_light():
    heavy = ["hydra", "torch_geometric", "h5py", "scipy.optimize", "matplotlib"]
    heavy += ["lightning_fabric", "diffusers", "sklearn", "plotly"]
    code = f"import wsl, sys; sys.exit(' '.join(m for m in {heavy} if m in sys.modules) or None)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
