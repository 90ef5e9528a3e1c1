"""The snippets of docs/merging.md run as they stand, and its table names every method."""

import re
from pathlib import Path

import torch
from laws.methods import SPEC, weights
from paths import ROOT
from torch import nn

from wsl import merging
from wsl.merging import adapters, mergekit

PAGE = (Path(ROOT) / "docs" / "merging.md").read_text()
YAML = """
merge_method: ties
base_model: base
models:
  - {model: a, parameters: {weight: 1, density: 0.5}}
  - {model: b, parameters: {weight: 1, density: 0.5}}
"""


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleDict({"0": nn.Linear(3, 5), "2": nn.Linear(5, 2)})

    def forward(self, x):
        return self.layers["2"](self.layers["0"](x).relu())


def test_every_snippet_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = Small()
    named = {f"layers.{n}": t for n, t in weights(0).items() if n[0] in "02"}
    a, b, c, base = ({n: t + s for n, t in named.items()} for s in (0.0, 0.1, 0.2, 0.3))
    for i, name in enumerate(("one", "two")):
        rng = torch.Generator().manual_seed(i)
        factors = (torch.randn(s, generator=rng) for s in ((5, 2), (2, 3)))
        change = adapters.LowRank(*factors, 1.0, (5, 3))
        adapters.Adapter({"layers.0.weight": change}).save(name)
    part = SPEC.restrict([name for name in SPEC.shapes if name[0] in "02"])
    space = {
        "merging": merging,
        "mergekit": mergekit,
        "adapters": adapters,
        "text": YAML,
        "a": a,
        "b": b,
        "c": c,
        "base": base,
        "model": model,
        "batches": [torch.ones(4, 3)],
        "spec": part.rename(lambda name: f"layers.{name}"),
        "score": lambda theta: -float(theta["layers.0.weight"].square().sum()),
    }
    snippets = dict(re.findall(r"<!-- snippet: (\w+) -->\n```python\n(.*?)```", PAGE, re.DOTALL))
    assert list(snippets) == ["merge", "mergekit", "adapters"]
    for name, code in snippets.items():
        exec(compile(code, name, "exec"), space)
    assert space["lost"] >= 0
    assert space["alike"].shape == (2, 2)


def test_the_table_names_every_method():
    named = set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`.*?) \|", PAGE, re.MULTILINE))))
    assert named == set(merging.METHODS)
