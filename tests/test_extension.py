"""A package of somebody else's adds to every family: each part is one file, passes the laws of its
family by one row, and runs from the command line by ``_target_``.
"""

import importlib
import inspect
import json
import os
import sys
from pathlib import Path

import pytest
import torch
from laws.functionals import FUNCTIONAL_LAWS
from laws.generators import GENERATOR_LAWS, Row
from laws.initializers import INITIALIZER_LAWS
from laws.initializers import Row as Asked
from laws.matchers import MATCHER_LAWS
from laws.methods import METHOD_LAWS

from wsl.cli import main
from wsl.zoo import read_checkpoint

FILES = {
    "matcher": '''
"""Weight matching from several starts; the best result is kept."""

import dataclasses
from typing import ClassVar

from wsl.matching import WeightMatching


@dataclasses.dataclass(frozen=True)
class Restarts:
    runs: int = 3

    needs: ClassVar[frozenset[str]] = frozenset({"weights"})
    searches: ClassVar[frozenset[str]] = frozenset({"permutation"})
    many: ClassVar[bool] = False

    def solve(self, spec, a, b, /):
        found = [WeightMatching(seed=seed).solve(spec, a, b) for seed in range(self.runs)]
        return max(found, key=lambda match: match.objective)
''',
    "method": '''
"""The median of every weight."""

import dataclasses
from typing import ClassVar

import torch


@dataclasses.dataclass(frozen=True)
class Median:
    needs: ClassVar[frozenset[str]] = frozenset()

    def solve(self, members, *, base=None, statistics=None):
        first = members[0]
        for name, tensor in first.items():
            for member in members:
                if member[name].shape != tensor.shape:
                    raise ValueError(f"{name}: shapes of the members differ")
        return {
            name: torch.quantile(torch.stack([m[name] for m in members]).float(), 0.5, 0).to(t)
            if t.is_floating_point()
            else t.clone()
            for name, t in first.items()
        }
''',
    "functional": '''
"""One equivariant layer and its invariants."""

import torch
from torch import nn

from wsl.nn import EquivariantLinear, Functional, InvariantPool


class Shallow(Functional):
    equivariance = "invariant"

    def __init__(self, spec, *, hidden=4, out_features=1):
        super().__init__()
        self.spec = spec
        self.layer = EquivariantLinear(spec, 1, hidden)
        self.pool = InvariantPool(spec, hidden)
        self.head = nn.Linear(self.pool.features, out_features)

    def forward(self, params):
        self.spec.validate(params)
        x = {name: tensor[..., None].to(self.head.weight) for name, tensor in params.items()}
        hidden = {name: tensor.tanh() for name, tensor in self.layer(x).items()}
        return self.head(self.pool(hidden))
''',
    "generator": '''
"""A random member that is shrunk towards zero, as a generator."""

import json

import safetensors
import safetensors.torch
import torch

from wsl.generative import FitReport, TrainingMembers
from wsl.symmetry import PermutationSpec

FORMAT = "house.Shrunk"


class Shrunk:
    needs = frozenset()
    canonicalizer = None

    def __init__(self, spec, *, conditions=0, factor=0.9, seed=0):
        self.spec, self.conditions, self.factor, self.members = spec, conditions, factor, {}

    def fit(self, zoo, condition=None, *, seed=0, progress=None):
        members = TrainingMembers.of(zoo, condition)
        self.spec.validate(members.params)
        for name, tensor in members.params.items():
            if tensor.is_floating_point() and not tensor.isfinite().all():
                raise ValueError(f"{name}: holds NaN or infinite values")
        given = 0 if members.condition is None else members.condition.shape[1]
        if given != self.conditions:
            raise ValueError(f"condition: {given} numbers per member, not {self.conditions}")
        self.members = {name: tensor.clone() for name, tensor in members.params.items()}
        return FitReport(len(members))

    def sample(self, n, *, condition=None, generator=None):
        count = len(next(iter(self.members.values())))
        rows = torch.randint(count, (n,), generator=generator)
        return {
            name: tensor[rows] * self.factor if tensor.is_floating_point() else tensor[rows]
            for name, tensor in self.members.items()
        }

    def save(self, path):
        config = {"conditions": self.conditions, "factor": self.factor}
        about = json.dumps({"format": FORMAT, "spec": str(self.spec), "config": config})
        safetensors.torch.save_file(self.members, path, {"wsl": about})

    @classmethod
    def load(cls, path):
        with safetensors.safe_open(path, "pt") as file:
            about = json.loads((file.metadata() or {}).get("wsl", "{}"))
        if about.get("format") != FORMAT:
            raise ValueError(f"{path}: not a saved Shrunk")
        made = cls(PermutationSpec.parse(about["spec"]), **about["config"])
        members = safetensors.torch.load_file(path)
        made.members = {name: members[name] for name in made.spec.axes}
        return made
''',
    "initializer": '''
"""The average of two good members that were not aligned."""

import dataclasses
from typing import ClassVar

from wsl.generative import retrieval_baseline


@dataclasses.dataclass(frozen=True)
class Halfway:
    share: float = 0.5

    needs: ClassVar[frozenset[str]] = frozenset({"good"})

    def draw(self, start, n, *, generator):
        one, other = (retrieval_baseline(start.good, n, generator=generator) for _ in range(2))
        return {
            name: tensor.lerp(other[name], self.share) if tensor.is_floating_point() else tensor
            for name, tensor in one.items()
        }
''',
}
RECIPES = {
    "house_functional": "network: {_target_: house.functional.Shallow, hidden: 2}",
    "house_generator": "generator: {_target_: house.generator.Shrunk, factor: 0.8}\n"
    "trial: {steps: 2}\n"
    "arms: {halfway: {_target_: house.initializer.Halfway, share: 0.25}}",
}
"""One line for each in a recipe; a matcher and a method are named by a flag."""

TINY = ["population.members=30", "population.steps=2", "population.snapshots=[2]"]
TINY += ["population.architecture.channels=[2,2,2]"]


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    """The folder with the package and its recipes; the package can be imported."""
    folder = tmp_path_factory.mktemp("outside")
    (folder / "house").mkdir()
    (folder / "house" / "__init__.py").write_text("")
    (folder / "models").mkdir()
    for name, text in FILES.items():
        (folder / "house" / f"{name}.py").write_text(text)
    for name, text in RECIPES.items():
        (folder / "models" / f"{name}.yaml").write_text(f"# @package _global_\n{text}\n")
    sys.path.insert(0, str(folder))
    yield folder
    sys.path.remove(str(folder))
    for name in [name for name in sys.modules if name.split(".")[0] == "house"]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def workspace(house):
    """The same folder with a tiny zoo, two checkpoints of it, and the package's own recipes."""
    here = Path.cwd()
    os.chdir(house)
    try:
        assert main(["zoo", "build", "datasets=digits_cnn", "output=zoo.h5", *TINY]) == 0
        assert main(["zoo", "export", "zoo.h5", "--rows", "1", "3", "-o", "checkpoints"]) == 0
        yield sorted(str(path) for path in Path("checkpoints").glob("*.safetensors"))
    finally:
        os.chdir(here)


def part(name, kind):
    return getattr(importlib.import_module(f"house.{name}"), kind)


# one row in the table of each family


@pytest.mark.parametrize("law", MATCHER_LAWS, ids=lambda law: law.__name__)
def test_its_matcher_keeps_the_law(house, law):
    law(part("matcher", "Restarts")())


@pytest.mark.parametrize("law", METHOD_LAWS, ids=lambda law: law.__name__)
def test_its_merge_method_keeps_the_law(house, law):
    law(part("method", "Median")())


@pytest.mark.parametrize("law", FUNCTIONAL_LAWS, ids=lambda law: law.__name__)
def test_its_functional_keeps_the_law(house, law):
    law(lambda spec: part("functional", "Shallow")(spec, out_features=3))


@pytest.mark.parametrize("law", GENERATOR_LAWS, ids=lambda law: law.__name__)
def test_its_generator_keeps_the_law(house, law, tmp_path):
    folder = [tmp_path] * (len(inspect.signature(law).parameters) - 1)
    law(Row(part("generator", "Shrunk")), *folder)


@pytest.mark.parametrize("law", INITIALIZER_LAWS, ids=lambda law: law.__name__)
def test_its_initialiser_keeps_the_law(house, law):
    law(Asked(part("initializer", "Halfway")))


# the command line, by _target_

MATCHER = ["--matcher", "{_target_: house.matcher.Restarts, runs: 2}"]
METHOD = ["--method", "{_target_: house.method.Median}"]
RECIPE = ["datasets=digits_cnn", "zoo=zoo.h5", "--config-dir", "."]
TRUST = ["--trust-config"]


def test_its_matcher_runs(workspace):
    assert main(["match", *workspace, "-o", "matched.safetensors", *MATCHER, *TRUST]) == 0
    done = json.loads(Path("matched.result.json").read_text())
    assert done["config"]["matcher"] == {"_target_": "house.matcher.Restarts", "runs": 2}
    assert done["distance_after"] <= done["distance_before"]


def test_its_merge_method_runs(workspace):
    words = ["merge", *workspace, "-o", "merged.safetensors", "--no-match", *METHOD, *TRUST]
    assert main(words) == 0
    merged, a, b = (read_checkpoint(path)[0] for path in ("merged.safetensors", *workspace))
    for name, tensor in merged.items():
        if tensor.is_floating_point():
            torch.testing.assert_close(tensor, (a[name] + b[name]) / 2)


def test_its_functional_runs(workspace):
    words = ["models=house_functional", *RECIPE, "settings.epochs=1", "output=trained"]
    assert main(["train", *words, *TRUST]) == 0
    done = json.loads(Path("trained/result.json").read_text())
    assert done["config"]["network"]["_target_"] == "house.functional.Shallow"
    assert set(done["test"]) == {"kendall_tau", "r2", "mean_absolute_error"}


def test_its_generator_and_its_initialiser_run(workspace, capsys):
    words = ["models=house_generator", *RECIPE, "samples=3", "output=drawn"]
    assert main(["generate", *words, *TRUST]) == 0
    done = json.loads(Path("drawn/result.json").read_text())
    assert done["config"]["generator"]["_target_"] == "house.generator.Shrunk"
    assert {"generated", "halfway", "default_init", "retrieval"} <= set(done["arms"])
    assert "round_trip" not in done["arms"]
    assert "arm left out: round_trip: RoundTripStart needs coded" in capsys.readouterr().err
    again = part("generator", "Shrunk").load("drawn/generator.safetensors")
    assert again.factor == 0.8


@pytest.mark.parametrize(
    "words",
    [
        ["match", "A", "B", "-o", "refused.safetensors", *MATCHER],
        ["merge", "A", "B", "-o", "refused.safetensors", *METHOD],
        ["train", "models=house_functional", *RECIPE, "output=refused"],
        ["generate", "models=house_generator", *RECIPE, "output=refused"],
    ],
    ids=lambda words: words[0],
)
def test_without_trust_none_of_its_code_runs(workspace, capsys, words):
    words = [workspace["AB".index(word)] if word in ("A", "B") else word for word in words]
    assert main(words) == 2
    assert "may not run other code" in capsys.readouterr().err
    assert not list(Path().glob("refused*"))
