"""The snippets of docs/matching.md run as they stand, in their order."""

import re

import torch
from networks import BY_NAME
from paths import ROOT

import wsl
import wsl.matching
import wsl.merging

PAGE = (ROOT / "docs" / "matching.md").read_text()


def test_every_snippet_runs(capsys):
    snippets = dict(re.findall(r"<!-- snippet: (\w+) -->\n```python\n(.*?)```", PAGE, re.DOTALL))
    assert list(snippets) == ["two", "many", "wide", "sizes"]
    network = BY_NAME["mlp"]
    models = [network.weights(seed=seed) for seed in range(3)]
    space = {"wsl": wsl, "model": network.make(), "x": network.inputs(), "models": models}
    space |= {"a": models[0], "b": models[1]}
    for name, code in snippets.items():
        exec(compile(code, name, "exec"), space)
    assert capsys.readouterr().out == "{'h1': 11, 'h2': 9}\n"
    assert space["merged"]["0.weight"].shape == models[0]["0.weight"].shape
    assert torch.equal(space["found"].beside(models)[0]["0.weight"], models[0]["0.weight"])


def test_what_the_page_names_is_there():
    for name in re.findall(r"`([A-Z]\w+|match_all|widen|transport|deepen)[(`]", PAGE):
        assert hasattr(wsl.matching, name) or hasattr(wsl.merging, name), name
